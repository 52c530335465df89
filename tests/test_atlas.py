"""Atlases in a real browser: Debian's chromium without a window, driven by Playwright.

The pages are opened from disk, as a user opens them; once from a server, so that pixels can be read."""
import base64
import dataclasses
import functools
import http.server
import importlib.util
import json
import re
import shutil
import threading
from pathlib import Path
import numpy as np
import pytest
import torch
import archsae
from archsae.language import SMALL, activations, small_lm
from archsae.vision import Photos

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
ABSENT = ('Playwright is not installed' if importlib.util.find_spec('playwright') is None
          else '' if BROWSER else 'there is no chromium')
pytestmark = [pytest.mark.skipif(bool(ABSENT), reason=ABSENT), pytest.mark.filterwarnings('ignore:fit')]
OPTIONS = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
           '--disable-component-update', '--disable-sync']
WEBGL = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader']
EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
SITE = Path(archsae.__file__).parent/'atlas_site'


@pytest.fixture(scope='module')
def acts():
    "Digits as files with names that nobody should trust."
    return archsae.load_source('digits', 'cpu', limit=300)


@pytest.fixture(scope='module')
def saes(acts):
    "Two small RA-SAEs; of the first, atom 5 never fires."
    found = []
    for seed in range(2):
        with archsae.seeded(seed):
            sae = archsae.RATopKSAE(64, 40, acts.A[::80], top_k=4)
        archsae.fit(sae, acts.A, epochs=1, seed=seed, device='cpu', progress=False)
        found.append(sae.eval())
    return found


@pytest.fixture(scope='module')
def photos(acts, saes, tmp_path_factory):
    "An atlas of images: hostile names of classes, files, atoms and cells of the table."
    from PIL import Image

    folder = tmp_path_factory.mktemp('atlas')
    files = [folder/f"{i} {EVIL.replace('/', '')}.png" for i in range(len(acts.labels))]
    for i, path in enumerate(files):
        Image.fromarray((acts.picture(i) * 255).astype(np.uint8)).save(path)

    def frame(image):
        return torch.from_numpy(np.asarray(image)[None, ..., 0].astype(np.float32) / 255)
    named = dataclasses.replace(acts, names=(f'zero {EVIL}', *acts.names[1:]), pixels=Photos(files, frame))
    return archsae.atlas(saes, named, folder/'site', title=f'Digits {EVIL}', names={3: f'third {EVIL}'}, layout='pca',
                         held_out=np.arange(300) % 2 == 0, used=lambda atom: [dict(output=EVIL, change=.5)],
                         items=130, progress=False).parent


@pytest.fixture(scope='module')
def texts(tmp_path_factory):
    "An atlas of texts that hold tags."
    lm = small_lm(SMALL, device='cpu')
    lines = [f'{EVIL} a statement, in Python, is a line of text. ' * 30] * 2
    read = activations(lm.model, lm.tokenizer, lines, ['blocks.1'], context=48)
    sae = archsae.TopKSAE(64, 24, top_k=4)
    archsae.fit(sae, read['blocks.1'], epochs=2, device='cpu', progress=False)
    return archsae.atlas(sae.eval(), read, tmp_path_factory.mktemp('texts')/'site', lm=lm, progress=False).parent


def data_of(folder, name):
    "The value that a file of an atlas gives the page."
    text = (folder/f'data/{name}.js').read_text(encoding='ascii')
    return json.loads(text[text.index(',') + 1:text.rindex(')')])


@pytest.fixture(scope='module')
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=OPTIONS + WEBGL)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    "Open an atlas; whatever goes wrong on its pages fails the test, and so does any request that leaves the folder."
    contexts, wrong = [], []

    def go(folder, at='', width=1280, height=860, browser=chromium, **how):
        context = browser.new_context(viewport=dict(width=width, height=height), **how)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a machine may have much to do
        page.on('pageerror', lambda e: wrong.append(f'error: {e}'))
        page.on('console', lambda m: wrong.append(f'console: {m.text}') if m.type == 'error' else None)
        page.on('request', lambda r: wrong.append(f'request: {r.url}')
                if not r.url.startswith((f'file://{folder}', 'http://127.0.0.1', 'data:', 'blob:')) else None)
        start = folder if isinstance(folder, str) else f'file://{folder}/index.html'
        page.goto(start + at)
        page.wait_for_selector('body.ready')
        return page
    go.wrong = wrong
    yield go
    hacked = [p.evaluate('window.hacked') for context in contexts for p in context.pages]
    for context in contexts:
        context.close()
    assert not wrong, wrong
    assert not any(hacked)


def heading(page):
    return page.locator('#side h2').inner_text()


def test_a_click_on_the_map_opens_an_atom_and_back_returns(visit, photos):
    page = visit(photos)
    assert page.title().startswith('Digits <img')
    atom = data_of(photos, 'index')['k'] // 2
    x, y = page.evaluate(f'map.plot.getScreenPosition({atom})')
    box = page.locator('#map').bounding_box()
    page.mouse.move(box['x'] + x, box['y'] + y)
    page.wait_for_selector('#tip:not([hidden])')
    assert f'#{atom}' in page.locator('#tip').inner_text()
    page.mouse.click(box['x'] + x, box['y'] + y)
    page.wait_for_selector('.tiles')
    assert heading(page).startswith(f'Atom {atom}') and page.url.endswith(f'#/atom/{atom}')
    page.go_back()
    page.wait_for_selector('.row')
    assert heading(page) == '40 of 40 atoms'
    page.go_forward()
    page.wait_for_selector('.tiles')
    assert heading(page).startswith(f'Atom {atom}')


def test_search_finds_an_atom(visit, photos):
    page = visit(photos)
    page.keyboard.press('/')
    page.keyboard.type('third')
    page.wait_for_function("document.querySelectorAll('.row').length === 1")
    assert heading(page) == '1 of 40 atoms' and 'q=third' in page.url
    page.wait_for_function('map.plot.get("filteredPoints").length === 1')
    page.locator('.row').click()
    page.wait_for_selector('.tiles')
    assert heading(page).startswith(f'Atom 3 third {EVIL}')
    page.locator('.back').click()
    page.wait_for_selector('.row')
    assert page.locator('#search').input_value() == 'third'  # the search is kept
    page.locator('#search').fill('no such thing')
    page.locator('#none button').click()
    page.wait_for_function("document.querySelectorAll('.row').length > 5")
    page.locator('#search').fill('7')
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('')")
    assert page.locator('.row[data-atom="7"]').count() == 1


def test_sorting_filtering_and_colouring(visit, photos):
    page = visit(photos)
    index = data_of(photos, 'index')
    rates = next(c for c in index['columns'] if c['key'] == 'rate')
    rate = np.frombuffer(base64.b64decode(rates['values']), '<f4')
    page.locator('#sort').select_option('rate')
    assert int(page.locator('.row').first.get_attribute('data-atom')) == int(rate.argmax())
    page.locator('#up').click()
    assert rate[int(page.locator('.row').first.get_attribute('data-atom'))] == rate.min()
    page.locator('.controls input[type=checkbox]').check()
    assert heading(page) == f'{(rate > 0).sum()} of 40 atoms'
    page.locator('#color').select_option('purity')
    assert 'color=purity' in page.url and 'class purity' in page.locator('#map-note').inner_text()


def test_deep_links_and_what_is_not_there(visit, photos):
    page = visit(photos, '#/atom/7?color=items')
    page.wait_for_selector('.tiles')
    assert heading(page).startswith('Atom 7') and page.locator('#color').input_value() == 'items'
    odd_ones = ('atom/4000', 'atom/x', 'nothing', 'atom/7%3Cscript%3E', '?color=__proto__&sort=constructor&low=x')
    for odd in odd_ones:
        turn(page, photos, odd)
        assert heading(page) == '40 of 40 atoms'


def test_an_atom_has_all_that_it_should(visit, photos):
    page = visit(photos, '#/atom/3')
    page.wait_for_selector('.tiles')
    parts = page.locator('.part h3').all_inner_texts()
    assert parts == ['Where it fires', 'Activations', 'Archetypes', 'Class directions', 'Is it used?', 'In other runs',
                     'Nearest atoms']
    row = data_of(photos, 'atoms/0')[3]
    assert page.locator('.band .example').count() == len(row['samples'])
    assert page.locator('.badge.held').count() == sum(data_of(photos, 'index')['heldOut'][s[0]] for s in row['samples'])
    assert EVIL in page.locator('.part:has(h3:text("Is it used?")) td').first.inner_text()
    page.locator('.part:has(h3:text("Nearest atoms")) .chip').first.click()
    page.wait_for_function(f"document.querySelector('#side h2').textContent.startsWith('Atom {row['near'][0][0]}')")


def test_an_item_shows_which_atoms_fire_where(visit, photos):
    page = visit(photos, '#/items')
    assert page.locator('.example').count() == 130
    page.locator('.example').nth(4).click()
    page.wait_for_selector('.cells button')
    whole = page.locator('.chip').count()
    page.locator('.cells button').nth(5).click()
    assert page.locator('.cells button').nth(5).get_attribute('aria-pressed') == 'true'
    at_place = page.locator('.chip').count()
    assert 0 < at_place <= 4 < whole
    page.locator('.chip').first.hover()
    page.wait_for_selector('.picture-stage .heat')


def test_words_around_a_peak_find_an_atom(visit, texts):
    "Also those that are not among the few tokens of its label."
    index = data_of(texts, 'index')
    atom, word = next((i, word) for i, parts in enumerate(index['tokens']) for word in ''.join(parts).lower().split()
                      if len(word) > 4 and word not in index['labels'][i].lower())
    page = visit(texts)
    page.locator('#search').fill(word)
    page.wait_for_selector(f'.row[data-atom="{atom}"]')


def test_the_map_draws_no_more_pixels_than_it_shows(visit, photos):
    "Out of sight too, where the library would by itself take as many as the window has."
    page = visit(photos)
    page.wait_for_selector('body.drawn')
    both = "[map.plot.get('renderer').canvas, document.getElementById('plot')]"
    sizes = f'() => {both}.map((c) => [c.width, c.height])'
    hidden, shown = page.evaluate(sizes)
    assert hidden == shown and shown[0] < 900
    page.set_viewport_size(dict(width=1000, height=700))
    page.wait_for_function(f"() => ({sizes})()[1][1] < {shown[1]}")
    hidden, shown = page.evaluate(sizes)
    assert hidden == shown


def test_texts(visit, texts):
    page = visit(texts)
    page.locator('.row').first.click()
    page.wait_for_selector('.tiles')
    assert page.locator('.example.text mark').count() > 3
    page.locator('.example.text').first.click()
    page.wait_for_selector('.token')
    item = int(re.search(r'item/(\d+)', page.url)[1])
    pieces = data_of(texts, f'items/{item // 16}')[item % 16]['pieces']
    assert page.locator('.text-stage').evaluate('node => node.textContent') == ''.join(pieces)
    assert any('<script>' in ''.join(row['pieces']) for row in data_of(texts, 'items/0'))
    page.locator('.token').nth(3).click()
    assert 0 < page.locator('.chip').count() <= 4


@pytest.fixture
def server(photos):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass
    handler = functools.partial(Quiet, directory=str(photos))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{web.server_address[1]}/index.html'
        web.shutdown()


def test_pictures_are_those_of_the_data(visit, server, acts):
    "From a server the page may read its pixels: they are those of the digit."
    page = visit(server, '#/item/9')
    page.wait_for_selector('.picture-stage .there canvas')
    pixels = page.evaluate("""() => { const c = document.querySelector('.picture-stage canvas');
        return [c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }""")
    side, values = pixels[0], np.array(pixels[1:]).reshape(pixels[0], -1, 4)[..., 0] / 255
    step = side // 8
    shown = np.linspace(0, 299, 130).round().astype(int)[9]
    assert np.abs(values[step // 2::step, step // 2::step] - acts.picture(int(shown))).max() < .02


def test_everything_by_keyboard(visit, photos):
    page = visit(photos)
    page.keyboard.press('Tab')
    assert page.evaluate("document.activeElement.className") == 'skip'
    page.locator('.row').first.focus()
    page.keyboard.press('Enter')
    page.wait_for_selector('.tiles')
    first = heading(page)
    page.keyboard.press('ArrowRight')
    page.wait_for_function(f"document.querySelector('#side h2').innerText !== {json.dumps(first)}")
    page.wait_for_selector('.tiles')
    page.keyboard.press('ArrowLeft')
    page.wait_for_function(f"document.querySelector('#side h2').innerText === {json.dumps(first)}")
    page.keyboard.press('Escape')
    page.wait_for_selector('.row')
    page.locator('#map').focus()
    before = page.evaluate('map.plot.get("cameraDistance")')
    page.keyboard.press('+')
    page.wait_for_function(f'map.plot.get("cameraDistance") < {.8 * before}')
    page.keyboard.press('0')
    page.wait_for_function(f'Math.abs(map.plot.get("cameraDistance") - {before}) < .05')


NAMELESS = """() => [...document.querySelectorAll('a, button, input, select, [role=img]')].filter((node) =>
    !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length)
    && !node.closest('[aria-hidden=true]')).map((node) => node.outerHTML.slice(0, 120))"""


def turn(page, folder, at):
    "Go on to another page of an atlas, and wait until it is there."
    page.goto(f'file://{folder}/index.html#/{at}')
    page.wait_for_function("!document.querySelector('.wait') && document.querySelector('#side h2')")


PAGES = ('', 'atom/3', 'atom/5', 'item/2', 'items', 'about')


def test_a_screen_reader_is_told_what_things_are(visit, photos):
    page = visit(photos)
    for at in PAGES:
        turn(page, photos, at)
        assert page.evaluate(NAMELESS) == [], at
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => +h.tagName[1])")
        assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:])), at


def test_a_phone(visit, photos, texts):
    for folder in (photos, texts):
        page = visit(folder, width=360, height=720)
        for at in PAGES:
            turn(page, folder, at)
            assert page.evaluate('document.documentElement.scrollWidth') <= 360, at


def test_light_and_dark(visit, photos):
    page = visit(photos, color_scheme='dark')
    dark = page.evaluate('getComputedStyle(document.body).backgroundColor')
    page.locator('#theme').click()
    light = page.evaluate('getComputedStyle(document.body).backgroundColor')
    assert sum(map(int, re.findall(r'\d+', dark))) < 150 < 600 < sum(map(int, re.findall(r'\d+', light)))
    page.reload()
    page.wait_for_selector('body.ready')
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == light  # it is remembered


def luminance(color):
    rgb = np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= .04045, rgb / 12.92, ((rgb + .055) / 1.055)**2.4) @ [.2126, .7152, .0722]


def test_texts_stand_out_from_what_is_behind_them():
    "WCAG's 4.5 to 1, in both palettes."
    css = (SITE/'atlas.css').read_text(encoding='utf-8')
    for block in re.findall(r':root(?:\[data-theme=dark\])? \{(.*?)\}', css, re.S)[:2]:
        colors = dict(re.findall(r'--(\w+): (#\w+)', block))
        colors = {k: v if len(v) == 7 else '#' + ''.join(2 * c for c in v[1:]) for k, v in colors.items()}
        for ink in ('ink', 'dim', 'accent'):
            for paper in ('paper', 'card', 'map', 'soft'):
                a, b = sorted((luminance(colors[ink]), luminance(colors[paper])))
                assert (b + .05) / (a + .05) >= 4.5, (ink, paper)


def test_a_file_that_is_missing_is_told(visit, photos, tmp_path):
    shutil.copytree(photos, tmp_path/'site')
    (tmp_path/'site/data/atoms/1.js').unlink()
    page = visit(tmp_path/'site', '#/atom/35')
    page.wait_for_selector('[role=alert]')
    assert 'data/atoms/1.js could not be loaded' in page.locator('[role=alert]').inner_text()
    shutil.copy(photos/'data/atoms/1.js', tmp_path/'site/data/atoms/1.js')
    page.locator('[role=alert] button').click()
    page.wait_for_selector('.tiles')
    assert all('ERR_FILE_NOT_FOUND' in said for said in visit.wrong)
    visit.wrong.clear()


def test_without_webgl_there_is_the_list(photos):
    from playwright.sync_api import sync_playwright

    # a browser of its own, in a thread of its own: Playwright allows one loop a thread
    found = {}

    def look():
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=BROWSER, args=[*OPTIONS, '--disable-gpu', '--disable-3d-apis'])
            page = browser.new_page()
            page.goto(f'file://{photos}/index.html')
            page.wait_for_selector('body.ready')
            found['note'] = page.locator('#map-note').inner_text()
            page.locator('.row').first.click()
            page.wait_for_selector('.tiles')
            browser.close()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60)
    assert 'The map needs WebGL' in found['note']


def test_nothing_is_set_as_html():
    for path in (SITE/'js').glob('*.js'):
        text = path.read_text(encoding='utf-8')
        sinks = r'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp'
        assert not re.search(sinks, text), path


def test_the_vendored_library_has_its_licences():
    told = (SITE/'vendor/LICENSES.txt').read_text(encoding='utf-8')
    parts = ('regl-scatterplot', 'regl', 'pub-sub-es', 'dom-2d-camera', 'gl-matrix', 'earcut', 'KDBush', 'simplify-js')
    for name in parts:
        assert re.search(rf'^{name}\b', told, re.M), name
    assert told.count('Permission is hereby granted') >= 6
