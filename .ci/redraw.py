"""redraw.py NAME [NAME ...] [--figures FOLDER]: draw figures anew from the numbers in their JSON.

The drawing of NAME is the function `picture_NAME(rows, params)` of the notebook that declares the figure. It runs with
those imports, functions and constants of its notebook that it needs, and nothing else; `rows` stay as they are."""
import argparse
import ast
import json
import symtable
import sys
from pathlib import Path
import matplotlib
from archsae.book.scales import read_figure, redraw_figure, use_style

ROOT = Path(__file__).resolve().parent.parent


def statements(path) -> list:
    "The statements of a notebook, in order, as (source, is a parameter)."
    found = []
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'code' and not text.startswith(('%', '!')):
            is_parameter = 'parameters' in cell['metadata'].get('tags', [])
            found += [(ast.unparse(node), is_parameter) for node in ast.parse(text).body]
    return found


def names_in(table, inside: bool = False) -> set:
    "Names that a piece of code takes from outside of it."
    found = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (s.is_global() or not inside)}
    for child in table.get_children():
        found |= names_in(child, True)
    return found


def made_by(source: str) -> set:
    "Names that a statement makes: functions, imports, variables."
    table = symtable.symtable(source, '', 'exec')
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}


def needed(wanted: str, code: list) -> list:
    "The numbers of the statements of `code` that make `wanted`, and what these need in their turn."
    makers = {}
    for i, (source, _) in enumerate(code):
        for name in made_by(source):
            makers.setdefault(name, []).append(i)
    found, todo = set(), [(wanted, len(code))]
    while todo:
        name, before = todo.pop()
        earlier = [i for i in makers.get(name, []) if i < before] or makers.get(name, [])
        if earlier and earlier[-1] not in found:
            i = earlier[-1]
            if code[i][1]:
                raise ValueError(f'{wanted}: expected a drawing of rows and params alone; it uses the parameter {name}')
            found.add(i)
            todo += [(other, before) for other in names_in(symtable.symtable(code[i][0], '', 'exec'))]
    return sorted(found)


def drawing_of(name: str):
    "The function that draws a figure."
    base, found = name.split('.')[0], None
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        code = statements(path)
        if any(f'picture_{base}' in made_by(source) for source, _ in code):
            found = {'__name__': path.stem}
            for i in needed(f'picture_{base}', code):
                exec(compile(code[i][0], f'{path.name}, statement {i}', 'exec'), found)
    if found is None:
        raise ValueError(f'name: expected a figure whose notebook defines picture_{base}(rows, params); got {name!r}')
    return found[f'picture_{base}']


if __name__ == '__main__':
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_argument('names', nargs='+')
    cli.add_argument('--figures', type=Path, default=ROOT/'figures')
    a = cli.parse_args()
    matplotlib.use('agg')
    use_style()
    for name in a.names:
        try:
            about = read_figure(name, a.figures)
            print(redraw_figure(drawing_of(name)(about['rows'], about['params']), name, a.figures))
        except (ValueError, FileNotFoundError) as e:
            sys.exit(f'{type(e).__name__}: {e}')
