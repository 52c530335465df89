"What holds for every chapter, read from the notebooks as they are committed."
import ast
import functools
import json
import re
from pathlib import Path
import pytest

NBS = Path(__file__).resolve().parent.parent/'nbs'
CHAPTERS = sorted([*NBS.glob('[0-9]*_*.ipynb'), *NBS.glob('A[0-9]*_*.ipynb')])
PAGES = [NBS/f'{name}.ipynb' for name in ('index', 'terms', 'which_one', 'quickstart')]
EVERY = pytest.mark.parametrize('path', CHAPTERS, ids=lambda p: p.stem)
WITHOUT_MODULE = ('17_delta', '36_halves', '37_meaning', '43_forms')  # they measure with what others define
ANOTHER_NAME = {'A4_front_door': '__init__', '34_overcomplete': '__init__'}


@functools.cache
def cells(path, kind='code'):
    found = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [c | {'source': ''.join(c['source'])} for c in found if c['cell_type'] == kind]


def exports(path):
    found = re.findall(r'^#\|\s*default_exp (\S+)', '\n'.join(c['source'] for c in cells(path)), re.M)
    return found[0] if found else None


def test_there_are_chapters():
    assert len(CHAPTERS) > 1 and all(p.exists() for p in PAGES)


def test_numbers_are_unique():
    assert len({p.stem.split('_')[0] for p in CHAPTERS}) == len(CHAPTERS)


@EVERY
def test_begins_with_name_and_summary(path):
    first = json.loads(path.read_text(encoding='utf-8'))['cells'][0]
    lines = [line for line in ''.join(first['source']).splitlines() if line.strip()]
    assert first['cell_type'] == 'markdown' and lines[0].startswith('# ') and lines[1].startswith('> ')


@EVERY
def test_exports_a_module_of_its_name(path):
    module = exports(path)
    if path.stem in WITHOUT_MODULE:
        assert module is None
    else:
        assert module.split('.')[-1] == ANOTHER_NAME.get(path.stem, path.stem.split('_', 1)[1])


@EVERY
def test_is_committed_with_outputs_that_fit(path):
    outputs = [o for c in cells(path) for o in c['outputs']]
    assert outputs, 'run the notebook and commit its outputs'
    assert not [o for o in outputs if o['output_type'] == 'error']
    assert path.stat().st_size <= 600_000


@pytest.mark.parametrize('path', CHAPTERS + PAGES, ids=lambda p: p.stem)
def test_names_no_machine(path):
    text = [c['source'] for c in cells(path) + cells(path, 'markdown')]
    for output in (o for c in cells(path) for o in c['outputs']):
        text.append(json.dumps({k: v for k, v in output.get('data', output).items() if not k.startswith('image/')}))
    assert not re.findall(r'(?<![\w.])/(?:tmp|root|home|Users|work|mnt)/\S+', '\n'.join(text))


@pytest.mark.parametrize('path', CHAPTERS + PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    for cell in cells(path, 'markdown'):
        for link in re.findall(r'\]\(((?:\.\./)?[\w/.]+\.(?:ipynb|png|json|md))\)', cell['source']):
            assert (NBS/link).exists(), link


@EVERY
def test_has_at_most_one_parameters_cell(path):
    tagged = [c for c in cells(path) if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) <= 1
    for c in tagged:
        body = ast.parse(c['source']).body
        assert all(isinstance(n, (ast.Assign, ast.AnnAssign)) for n in body), 'assignments only'
        assert '#| export' not in c['source']
