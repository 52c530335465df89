"What holds for every chapter, read from the notebooks as they are committed."
import ast, json, re
from pathlib import Path
import pytest
from IPython.core.inputtransformer2 import TransformerManager

NBS = Path(__file__).resolve().parent.parent/'nbs'
CHAPTERS = sorted(NBS.glob('[0-9]*_*.ipynb'))
EVERY = pytest.mark.parametrize('path', CHAPTERS, ids=lambda p: p.stem)

def cells(path, kind='code'): return [c | {'source': ''.join(c['source'])} for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == kind]
def number(path): return int(path.stem.split('_')[0])
def exports(path): return next(iter(re.findall(r'^#\|\s*default_exp (\w+)', '\n'.join(c['source'] for c in cells(path)), re.M)), None)
NUMBER = {exports(p): number(p) for p in CHAPTERS}

def nodes(tree):
    "All nodes of a syntax tree but those of a module's `__getattr__`: what it forwards to is looked up when it is asked for, not imported."
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.FunctionDef) and child.name == '__getattr__'): yield from nodes(child)

def imported(path):
    "The modules of archsae that a notebook imports, wherever in its cells."
    for c in cells(path):
        for node in nodes(ast.parse(TransformerManager().transform_cell(c['source']))):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('archsae'):
                yield from [node.module.split('.')[1]] if '.' in node.module else [a.name for a in node.names if a.name in NUMBER]
            if isinstance(node, ast.Import): yield from (a.name.split('.')[1] for a in node.names if a.name.startswith('archsae.'))

def test_there_are_chapters(): assert len(CHAPTERS) > 1 and (NBS/'index.ipynb').exists()

def test_numbers_are_unique(): assert len({number(p) for p in CHAPTERS}) == len(CHAPTERS)

@EVERY
def test_begins_with_name_and_summary(path):
    first = json.loads(path.read_text(encoding='utf-8'))['cells'][0]
    lines = [l for l in ''.join(first['source']).splitlines() if l.strip()]
    assert first['cell_type'] == 'markdown' and lines[0].startswith('# ') and lines[1].startswith('> ')

@EVERY
def test_exports_a_module_of_its_name(path):
    if path.stem == '13_delta': assert exports(path) is None  # it measures with what others define
    else: assert exports(path) == path.stem.split('_', 1)[1]

@EVERY
def test_is_committed_with_outputs_that_fit(path):
    outputs = [o for c in cells(path) for o in c['outputs']]
    assert outputs, 'run the notebook and commit its outputs'
    assert not [o for o in outputs if o['output_type'] == 'error']
    assert path.stat().st_size <= 600_000

@EVERY
def test_names_no_machine(path):
    text = [c['source'] for c in cells(path) + cells(path, 'markdown')]
    text += [json.dumps({k: v for k, v in o.get('data', o).items() if not k.startswith('image/')}) for c in cells(path) for o in c['outputs']]
    assert not re.findall(r'(?<![\w.])/(?:tmp|root|home|Users|work|mnt)/\S+', '\n'.join(text))

@EVERY
def test_has_at_most_one_parameters_cell(path):
    tagged = [c for c in cells(path) if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) <= 1
    for c in tagged:
        assert all(isinstance(n, (ast.Assign, ast.AnnAssign)) for n in ast.parse(c['source']).body), 'assignments only'
        assert '#| export' not in c['source']

@EVERY
def test_imports_only_earlier_chapters(path):
    late = [m for m in imported(path) if NUMBER.get(m, 0) >= number(path)]
    assert not late
