"A notebook as it is committed -> a page of Markdown and its pictures. Nothing is executed."
import base64
import functools
import json
import re
from pathlib import Path

DIRECTIVE = re.compile(r'^\s*#\s*\|\s*(\w+)(.*)\n?', re.M)
HIDDEN = {'hide', 'default_exp', 'skip'}
MOST_COLUMNS = 14  # of a table
LONG = 25  # lines of code that a page shows without a click
PAGES = {'index': 'index.md', 'terms': 'terms.md', 'which_one': 'which_one.md', 'quickstart': 'quickstart.md'}


@functools.cache
def read_cells(path) -> list:
    "The cells of a notebook, their sources as text."
    cells = json.loads(Path(path).read_text(encoding='utf-8'))['cells']
    return [cell | {'source': ''.join(cell['source'])} for cell in cells]


def directives(source: str) -> dict:
    "What the lines `#| name rest` at the top of a cell say."
    return {name: rest.strip(': ') for name, rest in DIRECTIVE.findall(source)}


def page_of(name: str) -> str:
    "Where the page of a notebook lies in the site."
    return PAGES.get(name, f'chapters/{name}.md')


def module_of(cells: list) -> str | None:
    "The module that a notebook exports, without the package's name."
    found = [directives(c['source']).get('default_exp') for c in cells if c['cell_type'] == 'code']
    return next((module for module in found if module), None)


def title_of(cells: list) -> tuple:
    "Title and summary, as they stand in the first cell."
    lines = [line for line in cells[0]['source'].splitlines() if line.strip()]
    summary = lines[1].removeprefix('>').strip() if len(lines) > 1 and lines[1].startswith('>') else ''
    return lines[0].removeprefix('#').strip(), summary


def relink(text: str, page: str) -> str:
    "Links between notebooks, and into the project, as links between pages."
    up = '../' * page.count('/')

    def to_page(match):
        return f'{match[1]}{up}{page_of(match[2])}{match[3]}'

    text = re.sub(r'(\]\()(?:\.\./)?(?:nbs/)?([\w]+)\.ipynb((?:#[\w-]+)?\))', to_page, text)
    text = re.sub(r'(\]\()(?:\.\./)?(figures/)', rf'\1{up}\2', text)
    return re.sub(r'(\]\()(?:\.\./)?(CONTRIBUTING|CHANGELOG)\.md', lambda m: f'{m[1]}{up}{m[2].lower()}.md', text)


def spaced(text: str) -> str:
    "Lists and formulas on lines of their own begin a block in a notebook; on a page only after an empty line."
    lines, fenced = [], False
    for line in text.splitlines():
        begins = re.match(r'([*+-]|\d+\.) |\$\$', line)
        before = lines[-1] if lines else ''
        inside = re.match(r'\s*([*+-]|\d+\.) | |\$\$', before)
        if begins and before.strip() and not inside and not fenced and '$$' not in before:
            lines.append('')
        fenced ^= line.startswith('```')
        lines.append(line)
    return '\n'.join(lines)


def turned(text: str) -> str:
    "Tables with more columns than a screen has room for, and fewer rows than columns, with rows as columns."
    def cells(line):
        return [cell.strip() for cell in re.split(r'(?<!\\)\|', line.strip()[1:-1])]

    def table(match):
        head, _, *rows = [cells(line) for line in match[0].splitlines()]
        if len(head) <= MOST_COLUMNS or len(rows) >= len(head):
            return match[0]
        first, *rest = ['| ' + ' | '.join(row) + ' |' for row in zip(head, *rows, strict=True)]
        return '\n'.join([first, '| --- ' * (1 + len(rows)) + '|', *rest, ''])

    return re.sub(r'(?:^\|.*\|$\n?){2,}', table, text, flags=re.M)


def breakable(text: str) -> str:
    "Tables whose long names may break after an underscore; a row with code, formulas or links stays as it is."
    def row(line):
        return line if re.search(r'[`$]|\]\(', line) else re.sub(r'(?<=[^\W_])_(?=[^\W_])', '_<wbr>', line)
    return '\n'.join(row(line) if line.startswith('|') else line for line in text.splitlines())


def fence(text: str, language: str, kind: str) -> str:
    "A block of code or output; the fence is longer than any in it."
    ticks = '`' * max(3, 1 + max((len(run) for run in re.findall('`+', text)), default=0))
    return f'{ticks} {{ .{language} .{kind} }}\n{text.rstrip()}\n{ticks}'


def folded(title: str, text: str) -> str:
    "A block that opens with a click."
    inner = '\n'.join(f'    {line}' if line else '' for line in text.splitlines())
    return f'??? example "{title}"\n\n{inner}'


class Page:
    "One notebook on its way to a page: what is in `parts` becomes the text, `files` its pictures."

    def __init__(self, path):
        self.name = Path(path).stem
        self.cells = read_cells(path)
        self.page = page_of(self.name)
        self.module = module_of(self.cells)
        self.title, self.summary = title_of(self.cells)
        self.files = {}

    def picture(self, cell: dict, place: int, data: str) -> str:
        "Keep a picture of an output as a file; how the page shows it."
        file = f"{Path(self.page).with_suffix('')}_files/{cell['id']}_{place}.png"
        self.files[file] = base64.b64decode(data)
        drawn = re.search(r"save_figure\([^,]+, '(\w+)'", cell['source'])
        return f"![{drawn[1] if drawn else 'what the cell above draws'}]({'../' * self.page.count('/')}{file})"

    def output(self, cell: dict, place: int, output: dict) -> str:
        "One output of a cell."
        data = {kind: ''.join(v) for kind, v in output.get('data', {}).items() if isinstance(v, (str, list))}
        if 'text/html' in data:
            return f"<div class=\"output-html\">{data['text/html']}</div>"
        if 'text/markdown' in data:
            return breakable(turned(spaced(relink(data['text/markdown'], self.page))))
        if 'image/png' in data:
            return self.picture(cell, place, data['image/png'])
        said = data.get('text/plain') or ''.join(output.get('text', ''))
        return fence(said, 'text', 'output') if said.strip() else ''

    def outputs(self, cell: dict) -> list:
        return [self.output(cell, i, output) for i, output in enumerate(cell['outputs'])]

    def code(self, cell: dict) -> list:
        "A cell of code and what it put out; what is hidden in the notebook is hidden here."
        says = directives(cell['source'])
        if HIDDEN & set(says):
            return []
        source = DIRECTIVE.sub('', cell['source']).strip()
        block = fence(source, 'python', 'exported' if {'export', 'exporti'} & set(says) else 'shown')
        if says.get('echo') == 'false' or not source:
            return self.outputs(cell)
        if len(source.splitlines()) > LONG and not {'export', 'exporti'} & set(says):
            block = folded('Code of the picture' if 'save_figure' in source else 'Code', block)
        return [block, *self.outputs(cell)]

    def heading(self) -> list:
        "What stands under the title of a chapter."
        if self.module is None or not self.page.startswith('chapters/'):
            return []
        module = f'archsae.{self.module}'.removesuffix('.__init__')
        return [f'<p class="about-chapter">Notebook <code>nbs/{self.name}.ipynb</code>; its marked cells are '
                f'<code>{module}</code>.</p>']

    def markdown(self) -> str:
        "The whole page."
        parts = []
        for i, cell in enumerate(self.cells):
            is_text = cell['cell_type'] == 'markdown'
            parts += [spaced(relink(cell['source'], self.page))] if is_text else self.code(cell)
            parts += self.heading() if i == 0 else []
        about = json.dumps(self.summary, ensure_ascii=False)
        return f'---\ndescription: {about}\n---\n\n' + '\n\n'.join(part for part in parts if part) + '\n'
