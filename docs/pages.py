"The pages that no notebook is: API, gallery of figures, ledger, atlas; and the navigation. Without mkdocs, for tests."
import ast
import functools
import html
import json
import re
import tomllib
from itertools import groupby
from pathlib import Path
import notebooks

ROOT = Path(__file__).resolve().parent.parent
FURTHER = 'Further chapters'
FAMILIES = {
    'C': "The paper's claims",
    'A': 'What readers asked',
    'L': 'Language models',
    'F': 'Transcoders and other members of the family',
    'P': 'Two people, and pursuit',
}
SECTIONS = {'Parameters', 'Attributes', 'Returns', 'Yields', 'Raises', 'Warns', 'Other Parameters'}
UNNAMED = {'Returns', 'Yields'}
ATLASES = {'photos': 'Photos', 'text': 'Text'}


# ---- chapters and navigation

@functools.cache
def chapters() -> list:
    "The notebooks of the chapters, then those of the appendices, in their order."
    def place(path):
        number = path.stem.split('_')[0]
        return number.startswith('A'), int(number.removeprefix('A'))
    found = [*(ROOT/'nbs').glob('[0-9]*_*.ipynb'), *(ROOT/'nbs').glob('A[0-9]*_*.ipynb')]
    return sorted(found, key=place)


def name_of(path) -> str:
    return path.stem.split('_', 1)[1]


def label_of(path) -> str:
    "How a chapter is called in the navigation."
    return f"{path.stem.split('_')[0].removeprefix('0')} {name_of(path).replace('_', ' ')}"


def parts() -> dict:
    "Part of the book -> its chapters; every notebook is in one of them."
    left = {name_of(path): path for path in chapters() if not path.stem.startswith('A')}
    table = tomllib.loads((ROOT/'docs/parts.toml').read_text(encoding='utf-8'))['part']
    found = {part['title']: [left.pop(name) for name in part['chapters'] if name in left] for part in table}
    found |= {FURTHER: list(left.values())}
    found |= {'Appendices': [path for path in chapters() if path.stem.startswith('A')]}
    return {title: members for title, members in found.items() if members}


def navigation() -> list:
    "What the site's tabs and its sidebar show."
    quick = [{'Quickstart': 'quickstart.md'}] if (ROOT/'nbs/quickstart.ipynb').exists() else []
    book = [{title: [{label_of(p): notebooks.page_of(p.stem)} for p in members]} for title, members in parts().items()]
    modules = [{name: f'api/{name}.md'} for name in public_modules()]
    return [
        {'Start': ['index.md', *quick, {'Changes': 'changelog.md'}, {'Contributing': 'contributing.md'}]},
        {'Which one?': 'which_one.md'},
        {'The book': ['chapters/index.md', *book]},
        {'API': ['api/index.md', *modules]},
        {'Figures': 'gallery.md'},
        {'Ledger': 'ledger.md'},
        {'Atlas': 'atlas.md'},
        {'Terms': 'terms.md'},
    ]


def contents() -> str:
    "The page of the book: its parts, with a sentence about each chapter."
    lines = ['# The book', '', 'Each chapter is a notebook that derives one piece of the method, defines it, tests it '
             'where it is defined, and draws it. The outputs on these pages are the committed ones: nothing was run to '
             'make the site. Cells with a bar at their side are what the package consists of.']
    for title, members in parts().items():
        lines += ['', f'## {title}', '']
        for path in members:
            _, summary = notebooks.title_of(notebooks.read_cells(path))
            lines.append(f'* [{label_of(path)}]({path.stem}.md): {summary}')
    return '\n'.join(lines) + '\n'


# ---- API

@functools.cache
def tree(module: str):
    "The module as Python reads it; it is never imported."
    return ast.parse((ROOT/f'archsae/{module}.py').read_text(encoding='utf-8'))


def literal(module: str, name: str):
    "What a module assigns to a name at its top level, where that is plain data; None where it is not."
    for node in tree(module).body:
        targets = [getattr(t, 'id', '') for t in getattr(node, 'targets', [])]
        if name in targets:
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                return None
    return None


@functools.cache
def public_modules() -> dict:
    "Module -> its public names, in the order of the chapters."
    found = {}
    for path in chapters():
        module = notebooks.module_of(notebooks.read_cells(path))
        if module and '.' not in module and (ROOT/f'archsae/{module}.py').exists():
            names = literal(module, '__all__')
            found |= {module: names} if names else {}
    return found


@functools.cache
def front_door() -> dict:
    "Name that `import archsae` offers -> the module that it comes from."
    offered = literal('__init__', '_OFFERED')
    return {name: module for module, names in offered.items() for name in names}


def first_line(module: str, name: str) -> str:
    "The first sentence of the docstring of a public name."
    for node in tree(module).body:
        if getattr(node, 'name', None) == name:
            return (ast.get_docstring(node) or '').split('\n\n')[0].replace('\n', ' ').replace('|', r'\|')
    return ''


def name_table(names: dict) -> list:
    "A table of names, each with a link and its first sentence."
    rows = [f'| [`{name}`][archsae.{module}.{name}] | {first_line(module, name)} |' for name, module in names.items()]
    return ['| name | |', '| --- | --- |', *rows]


def api_index() -> str:
    "The page of the API: the front door, then all modules."
    front, everything = front_door(), public_modules()
    lines = ['# API', '', '## The front door', '', 'What `import archsae` offers, as `archsae.fit` and so on. '
             'It is loaded when it is first used.', '', *name_table(front)]
    more = {name: module for module, names in everything.items() for name in names if name not in front}
    lines += ['', '## Everything public, by module', '', 'Whatever is not listed here has no promise to stay.']
    for module, names in everything.items():
        listed = {name: module for name in names if name in more}
        lines += ['', f'### [archsae.{module}]({module}.md)', '']
        lines += name_table(listed) if listed else ['At the front door: ' + ', '.join(f'`{n}`' for n in names) + '.']
    lines += ['', '### archsae.overcomplete', '', 'The names of the library overcomplete, for code written for it; '
              'chapter [overcomplete](../chapters/34_overcomplete.md) lists them.']
    return '\n'.join(lines) + '\n'


def api_page(module: str, names: list) -> str:
    "The page of one module: its public names, from their docstrings."
    chapter = next(p for p in chapters() if notebooks.module_of(notebooks.read_cells(p)) == module)
    offered = [name for name in names if front_door().get(name) == module]
    lines = [f'# archsae.{module}', '', f'Derived, tested and drawn in chapter [{label_of(chapter)}]'
             f'(../{notebooks.page_of(chapter.stem)}).']
    if offered:
        lines += ['', 'At the front door: ' + ', '.join(f'`archsae.{name}`' for name in offered) + '.']
    for name in [*offered, *(name for name in names if name not in offered)]:
        lines += ['', f'::: archsae.{module}.{name}']
    return '\n'.join(lines) + '\n'


def blocks(text: str) -> list:
    "Docstring -> (title, lines) of its sections; what comes before the first has no title."
    lines, found, at = text.splitlines(), [['', []]], 0
    while at < len(lines):
        if lines[at].strip() and at + 1 < len(lines) and re.fullmatch('-{3,}', lines[at + 1].strip()):
            found.append([lines[at].strip(), lines[at:at + 2]])
            at += 2
        else:
            found[-1][1].append(lines[at])
            at += 1
    return found


def entry(line: str) -> list:
    "`name : words` as a name and words beneath it."
    name, colon, words = line.partition(' : ')
    return [name, f'    {words}'] if colon else [line]


def rewritten(text: str, returns: str) -> str:
    "The docstring with the words of every entry beneath its name; `returns` is the type that the signature tells."
    out = []
    for title, lines in blocks(text):
        if title in UNNAMED:
            out += [*lines[:2], returns or 'result', *(f'    {line}' if line else '' for line in lines[2:])]
        elif title in SECTIONS:
            out += [*lines[:2], *(part for line in lines[2:] for part in (entry(line) if line[:1].strip() else [line]))]
        else:
            out += lines
    return '\n'.join(out)


# ---- figures

@functools.cache
def figures() -> list:
    "What stands in the file of each figure, without its rows."
    found = []
    for path in sorted((ROOT/'figures').glob('*.json')):
        about = json.loads(path.read_text(encoding='utf-8'))
        if isinstance(about, dict) and path.with_suffix('.png').exists():
            about['rows'] = len(about['rows'])
            found.append(about)
    return found


@functools.cache
def titles() -> dict:
    "Figure -> what the list of chapters calls it."
    table = tomllib.loads((ROOT/'archsae/book/chapters.toml').read_text(encoding='utf-8'))['chapter']
    return {name: label for chapter in table for label, name in chapter.get('draws', [])}


def size_of(png) -> tuple:
    "Width and height of a PNG, from its header."
    head = png.read_bytes()[16:24]
    return int.from_bytes(head[:4], 'big'), int.from_bytes(head[4:], 'big')


def figure_card(about: dict) -> str:
    "A picture and what is known of it."
    name, volatile = about['name'], about['volatile']
    width, height = size_of(ROOT/f'figures/{name}.png')
    facts = [f"source <b>{html.escape(about['source'])}</b>", f"scale <b>{about['scale']}</b>"]
    facts += [f"device {html.escape(volatile.get('device') or 'not noted')}", f"{about['rows']} rows"]
    facts += [f"seeds {', '.join(map(str, about['seeds']))}"] if about['seeds'] else []
    return (f'<figure class="card" id="{name}"><a href="figures/{name}.png"><img src="figures/{name}.png" alt="{name}" '
            f'width="{width}" height="{height}" loading="lazy"></a><figcaption>{", ".join(facts)}. '
            f'<a href="figures/{name}.json">Numbers</a></figcaption></figure>')


def gallery() -> str:
    "All figures, by chapter; those of several sources side by side."
    by_chapter = {}
    for about in figures():
        by_chapter.setdefault(about['chapter'], []).append(about)
    lines = ['# Figures', '', 'Every picture of the book, as it is committed, with its numbers beside it. *Scale* says '
             'how large a run it is of, *source* which network the activations come from.']
    for path in chapters():
        found = by_chapter.pop(name_of(path), [])
        lines += ['', f'## {name_of(path)}', '', f'Drawn in chapter [{label_of(path)}]({notebooks.page_of(path.stem)}).'
                  ] if found else []
        for stem, group in groupby(found, key=lambda about: about['name'].split('.')[0]):
            title = f'{titles()[stem]}: ' if stem in titles() else ''
            cards = ''.join(figure_card(about) for about in group)
            lines += ['', f'### {title}`{stem}` {{ #figure-{stem} }}', '', f'<div class="cards">{cards}</div>']
    if by_chapter:
        raise ValueError(f"figures: expected each to name a chapter; got {sorted(by_chapter)}")
    return '\n'.join(lines) + '\n'


# ---- ledger

def verdict(said: str) -> str:
    "A verdict in a colour, its condition under it."
    kinds = ('holds only', 'holds', 'no difference', 'fails here', 'not testable here')
    kind = next(k for k in kinds if said.startswith(k))
    rest = said.removeprefix(kind).strip()
    more = f'<br><small>{html.escape(rest)}</small>' if rest else ''
    return f'<span class="verdict {kind.replace(" ", "-")}">{kind}</span>{more}'


def claim_row(claim: dict, sources: list) -> str:
    "A claim, what the paper says, and the verdict of each source."
    says = {s['source']: s['verdict'] for s in claim['sources']}
    cells = [f'<b id="{claim["id"]}">{claim["id"]}</b> {html.escape(claim["claim"])}'
             f'<br><small>{html.escape(claim["where"])}: {html.escape(claim["paper"])}</small>']
    cells += [verdict(says[s]) if s in says else '' for s in sources]
    return '<tr>' + ''.join(f'<td>{cell}</td>' for cell in cells) + '</tr>'


def claim_numbers(claim: dict) -> str:
    "The numbers behind a verdict."
    names = {figure['name'] for figure in figures()}
    rows = []
    for found in claim['sources']:
        for kind in ('comparisons', 'controls'):
            for c in found[kind]:
                figure = f"[{c['figure']}](gallery.md#{c['figure']})" if c['figure'] in names else f"`{c['figure']}`"
                label = c['label'] + (f" (control: {c['with']})" if kind == 'controls' else '')
                label = label.replace('|', r'\|')
                rows.append(f"| {found['source']} | {label} | `{c['column']}` | {c['left']:.3f} | {c['right']:.3f} "
                            f"| {c['direction']} | {c['units']:.2f} ± {c['sd_units'] or 0:.2f} | {figure} |")
    head = '| source | of | column | left | right | claimed | effects | figure |\n| ' + '--- | ' * 8
    return '\n'.join([head, *rows])


def ledger() -> str:
    "Every claim with its verdict on every source, from figures/claims.json."
    claims = json.loads((ROOT/'figures/claims.json').read_text(encoding='utf-8'))
    sources = list(dict.fromkeys(s['source'] for c in claims for s in c['sources']))
    lines = ['# The ledger', '', 'Every claim, and a verdict on every source on which it was run, computed from the '
             "figures' files by one rule: a difference has to exceed the size of effect that was written down before "
             'the runs, and two standard deviations. *Holds only*: with a condition that the paper does not name. '
             'Chapter [ledger](chapters/33_ledger.md) derives the rule.', '',
             f'{len(claims)} claims. The numbers behind each are below its table.']
    head = ''.join(f'<th>{text}</th>' for text in ['claim', *sources])
    for letter in dict.fromkeys(c['id'][0] for c in claims):
        family = [c for c in claims if c['id'][0] == letter]
        body = ''.join(claim_row(c, sources) for c in family)
        table = f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        lines += ['', f'## {FAMILIES.get(letter, letter)}', '', f'<div class="scroll">{table}</div>', '']
        for claim in family:
            title = f"{claim['id']} {claim['claim']}".replace('"', "'")
            lines += [notebooks.folded(title, claim_numbers(claim)), '']
    return '\n'.join(lines) + '\n'


# ---- atlas

def atlases() -> dict:
    "The atlases that are committed: name -> folder."
    folders = {name: ROOT/f'figures/atlas/{name}' for name in ATLASES}
    return {name: folder for name, folder in folders.items() if (folder/'index.html').exists()}


def atlas() -> str:
    "The atlases, each in a frame and with a link to the whole window."
    lines = ['# Atlas', '', 'Every atom of a dictionary, with the images or sentences that use it.']
    for name in atlases():
        where = f'figures/atlas/{name}/index.html'  # as in the repository, so that links to it hold in both
        lines += ['', f'## {ATLASES[name]}', '', f'[Open in the whole window]({where}){{ .md-button }}',
                  '', f'<iframe class="atlas" src="{where}" title="Atlas: {ATLASES[name]}" loading="lazy"></iframe>']
    if not atlases():
        lines += ['', 'None is committed yet.']
    return '\n'.join(lines) + '\n'


# ---- the rest

def document(name: str) -> str:
    "A Markdown file of the top folder, its links as links between pages."
    return notebooks.spaced(notebooks.relink((ROOT/f'{name}.md').read_text(encoding='utf-8'), f'{name.lower()}.md'))


def texts() -> dict:
    "Page -> Markdown, for all that are not notebooks."
    found = {f'{name.lower()}.md': document(name) for name in ('CHANGELOG', 'CONTRIBUTING')}
    found |= {'gallery.md': gallery(), 'ledger.md': ledger(), 'atlas.md': atlas(), 'chapters/index.md': contents()}
    found |= {'api/index.md': api_index()}
    return found | {f'api/{module}.md': api_page(module, names) for module, names in public_modules().items()}


def sources() -> list:
    "The notebooks that become pages."
    singles = [ROOT/f'nbs/{name}.ipynb' for name in notebooks.PAGES]
    return [path for path in [*singles, *chapters()] if path.exists()]


def copies() -> dict:
    "File of the site -> the file that it is a copy of."
    folder = ROOT/'figures'
    found = {f'figures/{p.name}': p for p in sorted(folder.iterdir()) if p.suffix in ('.png', '.json')}
    for root in atlases().values():
        found |= {p.relative_to(ROOT).as_posix(): p for p in sorted(root.rglob('*')) if p.is_file()}
    return found
