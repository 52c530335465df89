"""atlas_speed.py [--atoms 32000] [--libraries NODE_MODULES] [--site FOLDER]: how quick an atlas is in a real browser.

An atlas of so many atoms (untrained, on the digits: how many there are is what costs) is opened in Debian's chromium
without a window, anew each time. Measured from the start of navigation: when the list can be read and when the map is
drawn; then the time between frames while zooming and moving, from a key in the search field to the next frame, and
from a click to an atom's page; what was loaded, and the memory of the page. There is no GPU: WebGL is computed on the
CPU, which is the slowest it can be. Where other programs want the processors as well, times by the clock are longer;
so what all processes of the browser computed is measured beside them, for the load and for each frame.

With a folder of npm packages (npm install regl-scatterplot deck.gl plotly.js-gl2d-dist-min echarts d3) the libraries
among which one was chosen are measured too, each with as many points and the least code that zooms, moves and says
what is under the pointer. Numbers and a picture of them: figures/atlas_speed.json and .png."""
import argparse
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
import archsae
from archsae.book.scales import COLORS, save_figure, use_style, where

OPTIONS = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
           '--disable-component-update', '--disable-sync', '--enable-precise-memory-info',
           '--use-angle=swiftshader', '--enable-unsafe-swiftshader']
REPEATS = 3
FRAMES = """async ([selector, kind, steps]) => {
    const frame = () => new Promise(requestAnimationFrame);
    const box = document.querySelector(selector).getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2], at = document.elementFromPoint(x, y), times = [];
    const send = (i) => {
        const where = { bubbles: true, cancelable: true, clientX: x + 3 * (i % 40), clientY: y + 2 * (i % 25) };
        const wheel = { ...where, deltaY: i % 40 < 20 ? -40 : 40 };
        if (kind === 'zoom') return at.dispatchEvent(new WheelEvent('wheel', wheel));
        at.dispatchEvent(new PointerEvent('pointermove', where));
        at.dispatchEvent(new MouseEvent('mousemove', where));
    };
    let before = await frame();
    for (let i = 0; i < steps; i++) {
        send(i);
        const now = await frame();
        times.push(now - before);
        before = now;
    }
    return times;
}"""
TYPE = """async (text) => {
    const field = document.querySelector('#search'), frame = () => new Promise(requestAnimationFrame);
    await frame();
    const start = performance.now();
    field.value = text;
    field.dispatchEvent(new Event('input'));
    await frame();
    return performance.now() - start;
}"""
OPEN = """async (atom) => {
    const start = performance.now();
    location.hash = `#/atom/${atom}`;
    const title = () => document.querySelector('#side h2').textContent;
    while (!document.querySelector('.tiles') || !title().startsWith(`Atom ${atom}`))
        await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""
LISTED = """() => new Promise((resolve) => {
    const look = () => document.querySelector('.row') ? resolve(performance.now()) : requestAnimationFrame(look);
    look();
})"""
POINTS = """<!doctype html><meta charset=utf-8>
<style>body { margin: 0 } #map, canvas { width: 1000px; height: 700px; display: block }</style>
<div id=map></div><script>
const N = %d, x = new Float32Array(N), y = new Float32Array(N), v = new Float32Array(N);
let seed = 1;
const random = () => (seed = seed * 16807 %% 2147483647) / 2147483647;
for (let i = 0; i < N; i++) {
    const c = i %% 40, far = .06 * Math.sqrt(-2 * Math.log(random() + 1e-9)), turn = 6.283 * random();
    x[i] = (.15 + .02 * c) * Math.cos(2.4 * c) + far * Math.cos(turn);
    y[i] = (.15 + .02 * c) * Math.sin(2.4 * c) + far * Math.sin(turn);
    v[i] = random();
}
const map = document.getElementById('map');
function done() { requestAnimationFrame(() => requestAnimationFrame(() => { window.first = performance.now(); })); }
function canvas() {
    const node = document.createElement('canvas');
    node.width = 1000;
    node.height = 700;
    map.append(node);
    return node;
}
</script>"""
LIBRARIES = {  # name -> files, code
    'regl-scatterplot': (('regl/dist/regl.min.js', 'pub-sub-es',
                          'regl-scatterplot/dist/regl-scatterplot.min.js'), """
        const plot = createScatterplot.default({ canvas: canvas(), width: 1000, height: 700, pointSize: 4,
            colorBy: 'valueA', pointColor: ['#440154', '#21918c', '#fde725'] });
        plot.subscribe('pointOver', () => {});
        plot.draw({ x, y, valueA: v }).then(done);"""),
    'deck.gl': (('deck.gl/dist.min.js',), """
        let first = true;
        new deck.Deck({ parent: map, width: 1000, height: 700, views: new deck.OrthographicView({}), controller: true,
            initialViewState: { target: [0, 0], zoom: 8.3 }, onHover() {},
            onAfterRender() { if (first) done(); first = false; },
            layers: [new deck.ScatterplotLayer({ id: 'p', data: Array.from({ length: N }, (_, i) => i), pickable: true,
                getPosition: (i) => [x[i], y[i]], getFillColor: (i) => [255 * v[i], 120, 180], getRadius: 2,
                radiusUnits: 'pixels' })] });"""),
    'Plotly (scattergl)': (('plotly.js-gl2d-dist-min/plotly-gl2d.min.js',), """
        const style = { width: 1000, height: 700, dragmode: 'pan' };
        Plotly.newPlot(map, [{ type: 'scattergl', mode: 'markers', x, y, marker: { size: 4, color: v } }], style,
            { scrollZoom: true }).then(done);"""),
    'ECharts (canvas)': (('echarts/dist/echarts.min.js',), """
        const chart = echarts.init(map), data = Array.from({ length: N }, (_, i) => [x[i], y[i], v[i]]);
        const zoom = ['xAxisIndex', 'yAxisIndex'].map((axis) => ({ type: 'inside', [axis]: 0 }));
        let first = true;
        chart.on('finished', () => { if (first) done(); first = false; });
        const axis = { min: -1.2, max: 1.2 };
        chart.setOption({ animation: false, xAxis: axis, yAxis: axis, dataZoom: zoom,
            visualMap: { show: false, min: 0, max: 1, dimension: 2, inRange: { color: ['#440154', '#fde725'] } },
            series: [{ type: 'scatter', symbolSize: 4, data }] });"""),
    'd3 (canvas)': (('d3/dist/d3.min.js',), """
        const node = canvas(), pen = node.getContext('2d'), bins = Array.from({ length: 32 }, () => []);
        for (let i = 0; i < N; i++) bins[Math.min(31, v[i] * 32 | 0)].push(i);
        const tree = d3.quadtree(d3.range(N), (i) => x[i], (i) => y[i]);
        let view = d3.zoomIdentity, asked = false;
        function draw() {
            asked = false;
            pen.clearRect(0, 0, 1000, 700);
            const scale = 290 * view.k, left = view.x + 500 * view.k, top = view.y + 350 * view.k;
            bins.forEach((bin, b) => {
                pen.fillStyle = d3.interpolateViridis(b / 31);
                for (const i of bin) pen.fillRect(x[i] * scale + left - 2, y[i] * scale + top - 2, 4, 4);
            });
        }
        d3.select(node).call(d3.zoom().on('zoom', (e) => {
            view = e.transform;
            if (!asked) requestAnimationFrame(draw);
            asked = true;
        }));
        node.addEventListener('mousemove', (e) => tree.find((e.offsetX - view.x - 500 * view.k) / 290 / view.k,
            (e.offsetY - view.y - 350 * view.k) / 290 / view.k, 8 / 290 / view.k));
        draw();
        done();"""),
}


def middle(values, share=.5):
    values = sorted(values)
    return values[min(int(share * len(values)), len(values) - 1)]


def large_atlas(atoms, folder):
    "An atlas of so many atoms, of directions that point anywhere."
    acts = archsae.load_source('digits', limit=600)
    with archsae.seeded(0):
        sae = archsae.TopKSAE(acts.A.shape[1], atoms, top_k=32)
    started = time.time()
    archsae.atlas(sae.eval(), acts, folder, layout='pca', title=f'{atoms} atoms', progress=False)
    return time.time() - started


def processes() -> dict:
    "Number of a process -> (that of its parent, seconds computed, its command line)."
    found = {}
    for path in Path('/proc').glob('[0-9]*'):
        try:
            fields = (path/'stat').read_text().rpartition(') ')[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
            found[int(path.name)] = int(fields[1]), seconds, (path/'cmdline').read_bytes().decode(errors='replace')
        except OSError:  # it has ended
            continue
    return found


class Visit:
    "A fresh browser with one page."

    def __init__(self, playwright, size):
        self.mark = f'--archsae-speed={secrets.token_hex(8)}'
        options = [*OPTIONS, self.mark]
        self.browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=options)
        self.page = self.browser.new_page(viewport=dict(width=size[0], height=size[1]))
        self.page.set_default_timeout(120_000)
        self.loaded = 0
        self.page.on('request', self.count)

    def count(self, request):
        path = Path(request.url.removeprefix('file://').split('#')[0])
        self.loaded += path.stat().st_size if path.is_file() else 0

    def computed(self):
        "Milliseconds that all processes of the browser have computed so far."
        known = processes()
        own = {pid for pid, (_, _, command) in known.items() if self.mark in command}
        while more := {pid for pid, (parent, *_) in known.items() if parent in own} - own:
            own |= more
        return 1000 * sum(known[pid][1] for pid in own)

    def frames(self, selector, kind, steps=40):
        "Milliseconds between frames: the median, what 95 of 100 stay below; and those computed for one."
        before = self.computed()
        times = self.page.evaluate(FRAMES, [selector, kind, steps])
        computed = (self.computed() - before) / steps
        return {f'{kind}_ms': middle(times), f'{kind}_p95_ms': middle(times, .95), f'{kind}_computed_ms': computed}

    def memory(self):
        return round(self.page.evaluate('performance.memory.usedJSHeapSize') / 1e6, 1)


def measure_atlas(playwright, site):
    "One visit of the atlas."
    visit = Visit(playwright, (1400, 900))
    page, before = visit.page, visit.computed()
    page.goto(f'file://{site}/index.html', wait_until='commit')
    listed = page.evaluate(LISTED)
    page.wait_for_selector('body.ready')
    row = dict(listed_ms=listed, load_ms=page.evaluate('performance.now()'), loaded_MB=visit.loaded / 1e6)
    row['load_computed_ms'] = visit.computed() - before
    page.wait_for_timeout(300)
    row |= visit.frames('#plot', 'zoom') | visit.frames('#plot', 'hover')
    row['search_ms'] = middle([page.evaluate(TYPE, text) for text in ('1', '12', '123', '7', '')])
    row['open_ms'] = middle([page.evaluate(OPEN, atom) for atom in (5, 7000, 15000)])
    row['memory_MB'] = visit.memory()
    visit.browser.close()
    return {name: round(value, 2) for name, value in row.items()}


def measure_library(playwright, name, modules, atoms, folder):
    "One visit of a page with one library."
    files, code = LIBRARIES[name]
    own = archsae.__path__[0] + '/atlas_site/vendor/pub-sub-es.min.js'  # published as an ES module only
    paths = [Path(own) if file == 'pub-sub-es' else modules/file for file in files]
    html = Path(folder)/'library.html'
    tags = ''.join(f'<script src="file://{path.resolve()}"></script>' for path in paths)
    html.write_text(f'{POINTS % atoms}{tags}<script>{code}</script>')
    visit = Visit(playwright, (1000, 700))
    before = visit.computed()
    visit.page.goto(f'file://{html}')
    visit.page.wait_for_function('window.first')
    row = dict(load_ms=visit.page.evaluate('window.first'), loaded_MB=sum(p.stat().st_size for p in paths) / 1e6)
    row['load_computed_ms'] = visit.computed() - before
    visit.page.wait_for_timeout(300)
    row |= visit.frames('#map', 'zoom') | visit.frames('#map', 'hover')
    row['memory_MB'] = visit.memory()
    visit.browser.close()
    return {key: round(value, 2) for key, value in row.items()}


def medians(rows):
    return {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}


def picture(rows):
    "Bars: weight, time to the first picture, time between frames."
    import matplotlib.pyplot as plt

    shown = where(rows, kind='library') + where(rows, kind='atlas')
    names = [row['name'] for row in shown]
    titles = dict(loaded_MB=('weight, MB', 1), load_computed_ms=('first picture,\nseconds computed', 1000),
                  zoom_computed_ms=('a frame of zooming,\nms computed', 1), memory_MB=('memory of\nscripts, MB', 1))
    fig, axs = plt.subplots(1, 4, figsize=(9.5, .8 + .42 * len(shown)), sharey=True)
    for ax, (key, (title, unit)) in zip(axs, titles.items()):
        colors = [COLORS[1] if row['kind'] == 'atlas' else COLORS[0] for row in shown]
        values = [row[key] / unit for row in shown]
        bars = ax.barh(names, values, color=colors)
        ax.bar_label(bars, [f'{v:.0f}' if v >= 100 else f'{v:.2g}' for v in values], padding=2)
        ax.set(title=title, xlim=(0, 1.3 * max(values)), xticks=[])
        ax.grid(False)
    axs[0].invert_yaxis()
    return fig


def main():
    from playwright.sync_api import sync_playwright

    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--atoms', type=int, default=32_000)
    p.add_argument('--libraries', type=Path)
    p.add_argument('--site', type=Path, help='an atlas that is there already')
    args = p.parse_args()
    use_style()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = args.site or Path(folder)/'site'
        made = None if args.site else large_atlas(args.atoms, site)
        found = {name: [] for name in LIBRARIES} if args.libraries else {}
        own = []
        for _ in range(REPEATS):  # in turn, so that whatever else the machine does is shared
            own.append(measure_atlas(playwright, site.resolve()))
            print(own[-1], flush=True)
            for name, rows in found.items():
                rows.append(measure_library(playwright, name, args.libraries, args.atoms, folder))
                print(name, rows[-1], flush=True)
        size = sum(path.stat().st_size for path in site.rglob('*') if path.is_file())
    rows = [dict(kind='library', name=name) | medians(some) for name, some in found.items()]
    about = dict(written_s=made, folder_MB=round(size / 1e6, 1))
    rows.append(dict(kind='atlas', name='the atlas') | medians(own) | about)
    params = dict(atoms=args.atoms, repeats=REPEATS, webgl='SwiftShader, on the CPU', cores=os.cpu_count(),
                  load=round(os.getloadavg()[0], 1))
    print(json.dumps(rows, indent=1))
    save_figure(picture(rows), 'atlas_speed', rows, chapter='atlas', scale='laptop', source='digits', params=params,
                seeds=[0], started=started)


if __name__ == '__main__':
    sys.exit(main())
