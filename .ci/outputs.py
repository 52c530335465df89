"""outputs.py FOLDER SCALE: put outputs of executed notebooks into nbs/, so that the chapters read without being run.

FOLDER is what archsae_figures was given as --out. A notebook whose code has changed since is refused, and the scale is
noted in each. Progress bars and warnings of kernels are left out."""
import json
import sys
from pathlib import Path
from archsae.files import replacing

ROOT = Path(__file__).resolve().parent.parent


def source(cell) -> str:
    return ''.join(cell['source'])


def code(nb) -> list:
    "The code cells, without the one that papermill adds for its parameters."
    cells = [c for c in nb['cells'] if c['cell_type'] == 'code']
    return [c for c in cells if 'injected-parameters' not in c['metadata'].get('tags', [])]


def keep(output) -> bool:
    "Not for readers: what goes to stderr, progress bars, and the paths that `save_figure` returns."
    text = ''.join(output.get('text', '') or output.get('data', {}).get('text/plain', ''))
    if output['output_type'] == 'stream' and output['name'] == 'stderr':
        return False
    return not text.startswith('PosixPath(') and '?it/s]' not in text


def tidy(output) -> dict:
    if 'execution_count' in output:
        output['execution_count'] = None
    output.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)
    return output


def adopt(executed, chapter, scale):
    "Copy the outputs of `executed` to the cells of `chapter`."
    ran = json.loads(executed.read_text(encoding='utf-8'))
    nb = json.loads(chapter.read_text(encoding='utf-8'))
    if [source(c) for c in code(ran)] != [source(c) for c in code(nb)]:
        sys.exit(f'{chapter.name}: expected the code that was executed; it has changed since')
    for old, new in zip(code(nb), code(ran)):
        picture = any('image/png' in o.get('data', {}) for o in new['outputs'])
        if source(old).startswith('#| hide') and not picture:
            continue
        old['outputs'] = [tidy(o) for o in new['outputs'] if keep(o)]
        old['execution_count'] = None
    nb['metadata']['archsae'] = dict(scale=scale)
    with replacing(chapter) as part:
        part.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')
    print(f'{chapter.name}: outputs of {executed}')


def execute_the_rest(folder):
    "Run the chapters and pages that have no parameters, which archsae_figures leaves out; the index renders itself."
    import papermill

    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        has_parameters = any('parameters' in c['metadata'].get('tags', []) for c in cells)
        if not has_parameters:
            quiet = dict(kernel_name='python3', progress_bar=False, extra_arguments=['--log-level=50'])
            papermill.execute_notebook(path, folder/path.name, cwd=path.parent, **quiet)


if __name__ == '__main__':
    folder, scale = Path(sys.argv[1]), sys.argv[2]
    execute_the_rest(folder)
    for executed in sorted(folder.glob('*.ipynb')):
        if (ROOT/'nbs'/executed.name).exists():
            adopt(executed, ROOT/'nbs'/executed.name, scale)
