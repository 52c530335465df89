"""redraw.py NAME [NAME ...] [--figures FOLDER]: draw figures anew from the numbers in their JSON.

The drawing of NAME is the function `picture_NAME(rows, params)` of the notebook that declares the figure. It runs with
those imports, functions and constants of its notebook that it needs, and nothing else; `rows` stay as they are. Without
a folder, the picture among the notebook's outputs is replaced, too."""
import argparse
import ast
import base64
import io
import json
import symtable
import sys
from pathlib import Path
import matplotlib
from archsae.book.scales import read_figure, redraw_figure, use_style
from archsae.files import replacing

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


def drawing_of(name: str) -> tuple:
    "The function that draws a figure, and the notebook that it is in."
    wanted = f"picture_{name.split('.')[0]}"
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        code = statements(path)
        if any(wanted in made_by(source) for source, _ in code):
            found = {'__name__': path.stem}
            for i in needed(wanted, code):
                exec(compile(code[i][0], f'{path.name}, statement {i}', 'exec'), found)
            return found[wanted], path
    raise ValueError(f'name: expected a figure whose notebook defines {wanted}(rows, params); got {name!r}')


def show_in(notebook: Path, name: str, fig):
    "Put a picture in the place of the one that the cell with `picture_NAME` shows."
    nb = json.loads(notebook.read_text(encoding='utf-8'))
    file = io.BytesIO()
    fig.savefig(file, dpi=80, metadata={'Software': None})
    for cell in nb['cells']:
        if f'def picture_{name}(' not in ''.join(cell['source']):
            continue
        for output in cell['outputs']:
            if 'image/png' in output.get('data', {}):
                output['data']['image/png'] = base64.b64encode(file.getvalue()).decode()
    with replacing(notebook) as part:
        part.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')


if __name__ == '__main__':
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_argument('names', nargs='+')
    cli.add_argument('--figures', type=Path)
    a = cli.parse_args()
    matplotlib.use('agg')
    use_style()
    for name in a.names:
        try:
            about = read_figure(name, a.figures)
            draw, notebook = drawing_of(name)
            fig = draw(about['rows'], about['params'])
            print(redraw_figure(fig, name, a.figures))
            if a.figures is None and '.' not in name:
                show_in(notebook, name, fig)
        except (ValueError, FileNotFoundError) as e:
            sys.exit(f'{type(e).__name__}: {e}')
