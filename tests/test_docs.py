"The site: what its pages cover, and that its checks notice what they are there for."
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT/'docs'


def load(name):
    "A module of docs/, which is no package."
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


check, measure, notebooks, pages = map(load, ('check', 'measure', 'notebooks', 'pages'))


def linked(navigation):
    "All pages that a navigation leads to."
    if isinstance(navigation, str):
        return [navigation]
    inner = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for part in inner for page in linked(part)]


# ---- what the pages cover

def test_every_page_is_in_the_navigation_once():
    found = linked(pages.navigation())
    made = [notebooks.page_of(path.stem) for path in pages.sources()] + list(pages.texts())
    assert sorted(found) == sorted(made)


def test_every_chapter_is_in_a_part():
    named = [path.stem for members in pages.parts().values() for path in members]
    assert sorted(named) == sorted(p.stem for p in (ROOT/'nbs').glob('*_*.ipynb') if p.stem != 'which_one')


def test_every_public_name_has_its_docstring_on_a_page():
    import test_rules

    modules = [m.removeprefix('archsae.') for m in test_rules.LIBRARY if m != 'archsae' and test_rules.public(m)]
    assert sorted(modules) == sorted(pages.public_modules())
    for module in modules:
        text = pages.api_page(module, pages.public_modules()[module])
        shown = re.findall(rf'^::: archsae\.{module}\.(\w+)$', text, re.M)
        assert sorted(shown) == sorted(test_rules.public(f'archsae.{module}'))


def test_the_front_door_comes_first():
    import archsae

    text = pages.api_index()
    front, rest = text.split('## Everything public')
    offered = re.findall(r'^\| \[`(\w+)`\]', front, re.M)
    assert sorted(offered) == sorted(archsae.__all__)
    assert not [name for name in offered if f'| [`{name}`]' in rest]


def test_every_public_name_says_what_it_is():
    silent = {f'{m}.{n}' for m, names in pages.public_modules().items() for n in names if not pages.first_line(m, n)}
    assert silent <= {'sparsity.KERNELS', 'transcoder.SparseAutoEncoder'}  # a table, and another name of a class


def test_the_gallery_has_every_picture():
    text = pages.gallery()
    for path in (ROOT/'figures').glob('*.png'):
        about = json.loads(path.with_suffix('.json').read_text(encoding='utf-8'))
        card = text[text.index(f'id="{path.stem}"'):].split('</figure>')[0]
        assert f"scale <b>{about['scale']}</b>" in card and f"source <b>{about['source']}</b>" in card
        assert (about['volatile'].get('device') or 'not noted') in card


def test_the_ledger_has_every_claim_and_verdict():
    text = pages.ledger()
    for claim in json.loads((ROOT/'figures/claims.json').read_text(encoding='utf-8')):
        row = text[text.index(f'<b id="{claim["id"]}">'):].split('</tr>')[0]
        assert row.count('class="verdict') == len(claim['sources'])


def test_docstrings_are_read_as_they_are_meant():
    said = """Sum.

    Parameters
    ----------
    a, b : numbers,
        both finite
    flag : whether

    Returns
    -------
    The sum.

    Raises
    ------
    ValueError : no numbers
    """
    assert pages.rewritten(inspect.cleandoc(said), 'float').splitlines() == [
        'Sum.', '', 'Parameters', '----------', 'a, b', '    numbers,', '    both finite', 'flag', '    whether', '',
        'Returns', '-------', 'float', '    The sum.', '', 'Raises', '------', 'ValueError', '    no numbers']


def test_what_pages_link_to_in_the_figures_comes_with_the_site():
    "Links into figures/ hold in the repository and on the site, those of the atlases too."
    there = set(pages.copies())
    texts = pages.texts() | {notebooks.page_of(path.stem): notebooks.Page(path).markdown() for path in pages.sources()}
    wanted = re.compile(r'(?:\]\(|src="|href=")((?:\.\./)*figures/[^)#"\s]+)')
    found = {(page, link) for page, text in texts.items() for link in wanted.findall(text)}
    assert sum(link.endswith('atlas/photos/index.html') for _, link in found) >= 2  # the start page and that of atlases
    gone = [(page, link) for page, link in found if os.path.normpath(Path(page).parent/link) not in there]
    assert not gone


# ---- from a notebook to a page

def test_pages_show_what_is_committed_and_hide_what_is_hidden():
    page = notebooks.Page(ROOT/'nbs/06_sparsity.ipynb')
    text = page.markdown()
    assert 'default_exp' not in text and not re.search(r'^#\s*\|', text, re.M)
    for cell in page.cells:
        if cell['cell_type'] == 'code' and cell['outputs'] and 'hide' not in notebooks.directives(cell['source']):
            for output in cell['outputs']:
                said = ''.join(output.get('text', '')) or ''.join(output.get('data', {}).get('text/plain', ''))
                assert said.splitlines()[0] in text or 'image/png' in output['data'] or 'Markdown' in said
    pictures = sum('image/png' in o.get('data', {}) for c in page.cells for o in c.get('outputs', []))
    assert len(page.files) == pictures > 0
    assert all(content.startswith(b'\x89PNG') and name in text for name, content in
               ((n.removeprefix('chapters/'), c) for n, c in page.files.items()))


def test_links_between_notebooks_become_links_between_pages():
    text = '[a](02_hull.ipynb), [b](../figures/x.png), [c](terms.ipynb#shapes), [d](../CONTRIBUTING.md)'
    assert notebooks.relink(text, 'chapters/03_supports.md') == (
        '[a](../chapters/02_hull.md), [b](../figures/x.png), [c](../terms.md#shapes), [d](../contributing.md)')
    assert notebooks.relink('[a](nbs/02_hull.ipynb) [b](figures/x.png)', 'index.md') == (
        '[a](chapters/02_hull.md) [b](figures/x.png)')


def test_lists_after_a_line_of_text_are_lists():
    assert notebooks.spaced('text:\n* a\n* b\n  more\n* c') == 'text:\n\n* a\n* b\n  more\n* c'
    fenced = '```\ntext\n* a\n```'
    assert notebooks.spaced(fenced) == fenced


def test_a_table_with_too_many_columns_is_turned():
    wide = '| ' + ' | '.join(f'c{i}' for i in range(20)) + ' |\n' + '| --- ' * 20 + '|\n' + '| x ' * 19 + '|  |\n'
    turned = notebooks.turned(wide).splitlines()
    assert turned[:3] == ['| c0 | x |', '| --- | --- |', '| c1 | x |'] and turned[-1] == '| c19 |  |'
    small = '| a | b |\n| --- | --- |\n| 1 | 2 |'
    assert notebooks.turned(small) == small


# ---- the checks notice

@pytest.fixture
def site(tmp_path):
    "A site of two pages that is as it should be."
    (tmp_path/'a.html').write_text('<h1 id="top">A</h1><a href="b.html#here">b</a><a href="https://x.org">x</a>')
    (tmp_path/'b.html').write_text('<p id="here"><a href="a.html">a</a><a href="#here">up</a><img src="i.png"></p>')
    (tmp_path/'i.png').write_bytes(b'')
    return tmp_path


def test_a_whole_site_has_no_problems(site):
    assert check.broken(site) == check.remote(site) == []
    assert check.main(site) == 0


@pytest.mark.parametrize('bad', [
    '<a href="c.html">', '<a href="a.html#nowhere">', '<a href="#gone">', '<img src="j.png">',
    '<iframe src="d/x.html">'])
def test_a_link_to_nothing_is_found(site, bad):
    (site/'b.html').write_text(f'<p id="here">{bad}')
    assert len(check.broken(site)) == 1 and check.main(site) == 1


@pytest.mark.parametrize('bad', [
    '<script src="https://cdn.org/x.js"></script>', '<link rel="stylesheet" href="//fonts.org/f.css">',
    '<img src="http://x.org/i.png">', '<p style="background: url(https://x.org/i.png)">',
    '<style>@import "https://x.org/f.css";</style>', '<link rel="preconnect" href="https://fonts.org">',
    '<iframe src="https://x.org"></iframe>', '<svg><image href="https://x.org/i.png"/></svg>'])
def test_what_a_browser_would_load_from_elsewhere_is_found(site, bad):
    (site/'b.html').write_text(f'<p id="here">{bad}')
    assert len(check.remote(site)) == 1 and check.main(site) == 1


def test_a_style_sheet_that_loads_from_elsewhere_is_found(site):
    (site/'s.css').write_text('@font-face { src: url("https://fonts.org/f.woff2") }')
    assert len(check.remote(site)) == 1


def test_the_browser_sees_what_is_too_wide(site):
    if measure.browser() is None:
        pytest.skip('no chromium here')
    (site/'a.html').write_text('<body><div class="md-content__inner">Fine.</div>')
    wide = '<div class="md-content__inner"><pre><code style="display: block; overflow: auto">' + 'x' * 400
    faint = '<span class="arithmatex">x</span><p style="color: #ddd">y</p>'
    (site/'b.html').write_text(f'<body>{wide}</code></pre>{faint}')
    (site/'c.html').write_text('<body><div class="md-content__inner"><img src="https://x.org/i.png"><p>z</p></div>')
    seen = measure.look(measure.browser(), site, ['a.html', 'b.html', 'c.html'])
    a, b, c = seen.found
    assert measure.problems_of(a) == measure.problems_of(c) == []
    assert {text.split(' is ')[0] for text in measure.problems_of(b)} >= {'a cell of code at 1280 pixels'}
    assert b['unset'] == 1 and b['faintest_default'][0] < measure.LEAST_CONTRAST
    assert [a['blocked-uri'] for a in seen.asked] == ['https://x.org/i.png']


def test_a_route_of_a_page_is_no_place(site):
    "What begins with a stroke is read by the page's own script, as the atlas does."
    (site/'b.html').write_text('<p id="here"><a href="#/about">about</a><a href="a.html#/items">items</a>')
    assert check.main(site) == 0


# ---- the whole

@pytest.fixture(scope='module')
def framed(tmp_path_factory):
    "The page of atlases, its Markdown as bare HTML, with the files that it has on the site."
    site = tmp_path_factory.mktemp('framed')
    for name, path in pages.copies().items():
        if name.startswith('figures/atlas/'):
            (site/name).parent.mkdir(parents=True, exist_ok=True)
            (site/name).symlink_to(path)
    (site/'style.css').symlink_to(DOCS/'static/style.css')
    frames = pages.atlas().replace('loading="lazy"', '')
    head = '<link rel="icon" href="data:,"><link rel="stylesheet" href="style.css">'
    (site/'atlas.html').write_text(f'{head}<div class="md-typeset">{frames}</div>', encoding='utf-8')
    return site


@pytest.mark.parametrize('served', [False, True], ids=['file', 'http'])
def test_the_atlases_open_in_their_frames(framed, served):
    "Each frame shows the atlas that is committed: its list, its map, an atom."
    sync = pytest.importorskip('playwright.sync_api', reason='Playwright is not installed')
    if measure.browser() is None:
        pytest.skip('no chromium here')
    server = measure.serve(framed, [])
    start = f'http://127.0.0.1:{server.server_port}' if served else f'file://{framed}'
    how = dict(executable_path=measure.browser(), args=[*measure.QUIET, '--use-angle=swiftshader',
                                                        '--enable-unsafe-swiftshader'])
    try:
        with sync.sync_playwright() as playwright, playwright.chromium.launch(**how) as chromium:
            page = chromium.new_page(viewport=dict(width=1280, height=900))
            page.set_default_timeout(60_000)
            wrong = []
            page.on('pageerror', lambda e: wrong.append(str(e)))
            page.goto(f'{start}/atlas.html')
            frames = [frame for frame in page.frames if '/figures/atlas/' in frame.url]
            assert len(frames) == len(pages.atlases()) > 0
            for frame in frames:
                frame.wait_for_selector('body.ready.drawn .row')
                frame.locator('.row').first.click()
                frame.wait_for_selector('.tiles')
                assert '#/atom/' in frame.url
            assert not wrong and not server.missing and not server.asked
    finally:
        server.shutdown()

def test_the_workflow_builds_and_publishes():
    workflow = yaml.safe_load((ROOT/'.github/workflows/docs.yml').read_text(encoding='utf-8'))
    steps = [step for job in workflow['jobs'].values() for step in job['steps']]
    assert {'run': 'make docs'} in steps
    assert all(re.fullmatch(r'actions/[\w-]+@v\d+', step['uses']) for step in steps if 'uses' in step)
    published = next(s['with']['path'] for s in steps if 'upload-pages-artifact' in s.get('uses', ''))
    configured = (DOCS/'mkdocs.yml').read_text(encoding='utf-8')
    assert f'site_dir: ../{published}\n' in configured


def test_nothing_of_the_site_is_loaded_with_the_package(settings):
    assert not set(settings['docs_requirements'].split()) & set(settings['requirements'].split())


def test_the_site_builds_and_is_whole(tmp_path):
    if importlib.util.find_spec('mkdocs') is None:
        pytest.skip("the extra 'docs' is not installed here; `make docs` builds and checks the site")
    command = [sys.executable, '-m', 'mkdocs', 'build', '--quiet', '--strict', '-f', DOCS/'mkdocs.yml', '-d', tmp_path]
    subprocess.run(command, check=True, env=os.environ | {'NO_MKDOCS_2_WARNING': '1'}, timeout=600)
    assert check.main(tmp_path) == 0
