"The rules of the house, read from the files: who imports whom, what is public, what is tested where."
import ast
import functools
import json
import re
from collections import Counter
from pathlib import Path
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
CHAPTERS = sorted([*NBS.glob('[0-9]*_*.ipynb'), *NBS.glob('A[0-9]*_*.ipynb')])
EVERY = pytest.mark.parametrize('path', CHAPTERS, ids=lambda p: p.stem)
MOST_PUBLIC = 160
NEAR = 3  # cells between a definition and its test
SHARE_NEAR = .89  # of the public names; fastcore's own


@functools.cache
def code_cells(path):
    "Sources of the code cells, in order, as plain Python."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    sources = [''.join(c['source']) if c['cell_type'] == 'code' else '' for c in cells]
    return [TransformerManager().transform_cell(s) if s else '' for s in sources]


def directive(source):
    found = re.match(r'#\|\s*(\w+)(.*)', source)
    return found[1] if found else ''


def module_of(path):
    found = re.search(r'^#\|\s*default_exp (\S+)', '\n'.join(code_cells(path)), re.M)
    return found[1] if found else None


def files():
    "Module name -> file, without what nbdev keeps for itself."
    found = {}
    for path in sorted((ROOT/'archsae').rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if parts[-1] != '_modidx':
            found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding='utf-8'))


def for_type_checkers(node):
    return isinstance(node, ast.If) and getattr(node.test, 'id', None) == 'TYPE_CHECKING'


def nodes(node):
    "All nodes but what only type checkers read."
    yield node
    for child in ast.iter_child_nodes(node):
        if not for_type_checkers(child):
            yield from nodes(child)


def imports(name, path):
    "Modules of archsae that a file imports, wherever in it."
    package = name.split('.') if path.stem == '__init__' else name.split('.')[:-1]
    for node in nodes(tree(path)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith('archsae'))
        if isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            full = '.'.join([*base, *([node.module] if node.module else [])])
            if full.startswith('archsae'):
                inner = [f'{full}.{a.name}' for a in node.names]
                yield from [m for m in inner if m in FILES] or [full]


FILES = files()
IMPORTS = {name: sorted(set(imports(name, path)) - {'archsae'}) for name, path in FILES.items()}
LIBRARY = [m for m in FILES if not m.startswith(('archsae.book', 'archsae.overcomplete'))]


@functools.cache
def public(name):
    for node in tree(FILES[name]).body:
        is_all = isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__'
        if is_all and isinstance(node.value, ast.List):
            return [e.value for e in node.value.elts]
    return []


def test_the_library_never_imports_the_book():
    library = [m for m in FILES if not m.startswith('archsae.book')]
    guilty = [(m, i) for m in library for i in IMPORTS[m] if i.startswith('archsae.book')]
    assert not guilty


def test_there_is_no_circle():
    done, path = set(), []

    def visit(m):
        assert m not in path, f"circle: {' -> '.join([*path[path.index(m):], m])}"
        if m in done:
            return
        path.append(m)
        for i in IMPORTS.get(m, ()):
            visit(i)
        path.pop()
        done.add(m)
    for m in IMPORTS:
        visit(m)


@EVERY
def test_a_chapter_imports_from_earlier_chapters_and_appendices(path):
    number = {module_of(p): p.stem for p in CHAPTERS}
    own = module_of(path)
    if own is None or path.stem.startswith('A'):
        return
    later = {i.removeprefix('archsae.') for i in IMPORTS.get(f'archsae.{own}', ())}
    later = {i for i in later if number.get(i, '').split('_')[0].isdigit() and number[i] >= path.stem}
    assert not later


def test_public_names_are_few():
    names = [n for m in LIBRARY if m != 'archsae' for n in public(m)]
    assert len(names) <= MOST_PUBLIC, f'{len(names)} public names'


def test_no_public_name_is_defined_twice():
    count = Counter(n for m in LIBRARY if m != 'archsae' for n in public(m))
    assert not [n for n, c in count.items() if c > 1]


def defined(source):
    "Names that a cell defines or assigns at its top level."
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.For)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            names |= {n.id for n in found if isinstance(n.ctx, ast.Store)}
    return names


@EVERY
def test_no_exported_name_is_bound_again(path):
    sources = code_cells(path)
    exported, bound = set(), set()
    for source in sources:
        (exported if directive(source) in ('export', 'exporti') else bound).update(defined(source))
    assert not exported & bound


@EVERY
def test_shown_tests_are_short(path):
    shown = [s for s in code_cells(path) if not directive(s) and 'save_figure' not in s]
    long = [s.splitlines()[0] for s in shown if len(s.splitlines()) > 25]
    assert not long


def test_public_names_are_tested_close_by():
    near = total = 0
    far = []
    for path in CHAPTERS:
        own = module_of(path)
        if own is None or own.startswith(('book', 'overcomplete')) or own == '__init__':
            continue
        sources = [s for s in code_cells(path) if s]
        for i, source in enumerate(sources):
            if directive(source) != 'export':
                continue
            after = '\n'.join(s for s in sources[i + 1:i + 1 + NEAR + 1] if directive(s) not in ('export', 'exporti'))
            for name in defined(source) & set(public(f'archsae.{own}')):
                total += 1
                used = re.search(rf'\b{name}\b', after) is not None
                near += used
                far += [] if used else [f'{own}.{name}']
    assert near >= SHARE_NEAR * total, f'{near} of {total} within {NEAR} cells; far: {far}'


@EVERY
def test_begins_with_a_sentence(path):
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    hidden = re.compile(r'#\|\s*(default_exp|hide)')
    shown = [c for c in cells[1:] if c['cell_type'] != 'code' or not hidden.match(''.join(c['source']))]
    assert shown[0]['cell_type'] == 'markdown'


def test_committed_outputs_are_of_one_scale():
    metadata = {p.stem: json.loads(p.read_text(encoding='utf-8'))['metadata'] for p in CHAPTERS}
    scales = {name: m['archsae']['scale'] for name, m in metadata.items() if 'archsae' in m}
    assert scales and len(set(scales.values())) == 1, scales
