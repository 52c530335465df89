"""outputs.py FOLDER: put the outputs of the notebooks that archsae_figures executed into FOLDER (--out) into nbs/, so that the chapters read without being run.
A notebook whose code has changed since is refused. Progress bars and warnings of kernels are left out."""
import json, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def code(nb) -> list:
    "The code cells, without the one that papermill adds for its parameters."
    return [c for c in nb['cells'] if c['cell_type'] == 'code' and 'injected-parameters' not in c['metadata'].get('tags', [])]

def keep(output) -> bool:
    "Not for readers: what goes to stderr, progress bars, and the paths that `save_figure` returns."
    text = ''.join(output.get('text', '') or output.get('data', {}).get('text/plain', ''))
    return not (output['output_type'] == 'stream' and output['name'] == 'stderr') and not text.startswith('PosixPath(') and '?it/s]' not in text

def adopt(executed, chapter):
    "Copy the outputs of `executed` to the cells of `chapter`."
    ran, nb = json.loads(executed.read_text(encoding='utf-8')), json.loads(chapter.read_text(encoding='utf-8'))
    if [''.join(c['source']) for c in code(ran)] != [''.join(c['source']) for c in code(nb)]: sys.exit(f'{chapter.name}: expected the code that was executed; it has changed since')
    for old, new in zip(code(nb), code(ran)):
        if '#| hide' in ''.join(old['source']).split('\n')[0] and not any('image/png' in o.get('data', {}) for o in new['outputs']): continue
        old['outputs'], old['execution_count'] = [o | ({'execution_count': None} if 'execution_count' in o else {}) for o in new['outputs'] if keep(o)], None
        for o in old['outputs']: o.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)
    chapter.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    print(f'{chapter.name}: outputs of {executed}')

for executed in sorted(Path(sys.argv[1]).glob('*.ipynb')):
    if (ROOT/'nbs'/executed.name).exists(): adopt(executed, ROOT/'nbs'/executed.name)
