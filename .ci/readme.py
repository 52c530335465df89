"""README.md from nbs/index.ipynb. With --check: print the difference and end with 1 if there is one, write nothing."""
import difflib
import re
import sys
from pathlib import Path
from archsae.files import replacing

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = re.compile(r'^\s*#\s*\|\s*(hide|default_exp)\b', re.M)
ECHOLESS = re.compile(r'^\s*#\s*\|\s*echo:\s*false', re.M)


def shown(cell):
    "Of a cell marked `#| echo: false`, only what it says."
    from nbformat.v4 import new_markdown_cell

    said = [''.join(o['data']['text/markdown']) for o in cell.outputs if 'text/markdown' in o.get('data', {})]
    return new_markdown_cell('\n\n'.join(said))


def render(notebook) -> str:
    "The notebook as markdown, without the cells marked `#| hide`; pictures are links into figures/."
    import nbformat
    from nbconvert import MarkdownExporter

    nb = nbformat.read(notebook, 4)
    nb.metadata['language_info'] = {'name': 'python'}  # the fence of its code blocks
    nb.cells = [c for c in nb.cells if c.cell_type == 'markdown' or not HIDDEN.search(c.source)]
    nb.cells = [shown(c) if ECHOLESS.search(c.source) else c for c in nb.cells]
    for c in nb.cells:
        if c.cell_type == 'code':
            # other directives are not for readers
            c.source = re.sub(r'^\s*#\s*\|.*\n', '', c.source, flags=re.M)
    text, resources = MarkdownExporter().from_notebook_node(nb)
    if resources['outputs']:
        raise ValueError(f"{notebook}: expected pictures as links to ../figures; got one in the output of a cell")
    text = re.sub(r'''(\]\(|src=["'])\.\./(figures/|CONTRIBUTING)''', r'\1\2', text)  # as seen from the top folder
    text = re.sub(r'(\]\()((?:A?\d+_\w+|terms|which_one|quickstart)\.ipynb)', r'\1nbs/\2', text)
    return re.sub(r'\n{3,}', '\n\n', '\n'.join(line.rstrip() for line in text.splitlines())).strip() + '\n'


def main(check: bool) -> int:
    new, path = render(ROOT/'nbs/index.ipynb'), ROOT/'README.md'
    old = path.read_text(encoding='utf-8') if path.exists() else ''
    if check:
        names = ('README.md', 'nbs/index.ipynb, rendered')
        diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), *names)
        print(''.join(diff), end='')
    elif old != new:
        with replacing(path) as part:
            part.write_text(new, encoding='utf-8')
        print('README.md written')
    return int(check and old != new)


if __name__ == '__main__':
    sys.exit(main('--check' in sys.argv[1:]))
