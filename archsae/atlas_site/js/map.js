// The map: regl-scatterplot draws it; this file gives it places, colours, and what happens on a click.
'use strict';
const map = (() => {
  const { data } = atlas, { make } = draw;
  const STEPS = 64;
  let plot = null, create = null, renderer = null, marked = null, x, y;

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const hex = (c) => `#${c.map((v) => v.toString(16).padStart(2, '0')).join('')}`;
  const palette = () => [style('--unknown'), ...Array.from({ length: STEPS }, (_, i) => hex(draw.color(i / (STEPS - 1))))];
  const pointSize = () => (data.k > 20000 ? 3 : data.k > 4000 ? 4 : data.k > 1000 ? 6 : data.k > 300 ? 8 : 10);

  function classes() {
    const column = data.column[list.state.color];
    return Array.from(column.values, (v) => {
      const at = atlas.share(column, v);
      return Number.isNaN(at) ? 0 : 1 + Math.round(at * (STEPS - 1));
    });
  }

  function look() {
    const { width, height } = document.getElementById('map').getBoundingClientRect();
    return { width, height };
  }

  // The map begins when it is seen first: on a phone the page of an atom has none.
  function start() {
    const made = window.createScatterplot;
    create = made && (made.default || made);
    if (!create || !hasWebGL()) {
      document.getElementById('map').classList.add('off');
      document.getElementById('map-note').textContent = 'The map needs WebGL, which this browser does not offer. The list has all atoms.';
      return null;
    }
    x = Float32Array.from(data.x, (v) => 2 * v / 65535 - 1);
    y = Float32Array.from(data.y, (v) => 2 * v / 65535 - 1);
    new ResizeObserver(fit).observe(document.getElementById('map'));
    return fit();
  }

  function fit() {
    const size = look();
    if (!size.width || !size.height) return null;
    if (!plot) return begin(size);
    renderer.resize(size.width, size.height);
    return plot.set(size);
  }

  // The library draws out of sight first, by default on as many pixels as the window has; the map needs its own only.
  async function begin(size) {
    renderer = window.createScatterplot.createRenderer({ canvas: document.createElement('canvas') });
    renderer.resize(size.width, size.height);
    plot = create({ renderer, canvas: document.getElementById('plot'), ...size, pointSize: pointSize(), pointSizeSelected: 4, pointOutlineWidth: 2, opacity: .9,
      colorBy: 'valueA', pointColor: palette(), pointColorActive: style('--active'), pointColorHover: style('--active'), backgroundColor: style('--map'),
      cameraDistance: whole(size), lassoOnLongPress: false, showReticle: false, deselectOnEscape: false, deselectOnDblClick: false, mouseMode: 'panZoom', ...density() });
    plot.subscribe('pointOver', over);
    plot.subscribe('pointOut', out);
    plot.subscribe('select', ({ points }) => points.length && main.go(`atom/${points[points.length - 1]}`));
    plot.subscribe('view', out);
    await paint();
    filter();
    await mark(marked);
    document.body.classList.add('drawn');
  }

  function hasWebGL() {
    try { return Boolean(document.createElement('canvas').getContext('webgl')); } catch { return false; }
  }

  const density = () => (data.k > 4000 ? { opacityBy: 'density' } : {});

  let waiting = Promise.resolve();

  // Draws may not overlap: the library answers a second one with an error.
  function inTurn(step) {
    waiting = waiting.then(step, step);
    return waiting;
  }

  function paint() {
    if (!plot) return null;
    legend();
    return inTurn(async () => {
      plot.set({ pointColor: palette(), backgroundColor: style('--map'), pointColorActive: style('--active'), pointColorHover: style('--active') });
      await plot.draw({ x, y, valueA: classes() }, { zDataType: 'categorical', preventFilterReset: true });
    });
  }

  function filter() {
    if (!plot) return;
    const all = list.order.length === data.k;
    inTurn(() => (all ? plot.unfilter({ preventEvent: true }) : plot.filter(list.order, { preventEvent: true })));
  }

  // Which atom's page is open.
  function mark(i) {
    marked = i;
    if (!plot) return null;
    return inTurn(() => {
      if (marked === null) plot.deselect({ preventEvent: true });
      else if (list.order.includes(marked)) plot.select([marked], { preventEvent: true });
    });
  }

  function legend() {
    const column = data.column[list.state.color], pen = document.getElementById('ramp').getContext('2d');
    for (let i = 0; i < 64; i++) {
      pen.fillStyle = draw.rgb(i / 63);
      pen.fillRect(i, 0, 1, 1);
    }
    const none = column.values.some((v) => Number.isNaN(atlas.share(column, v)));
    document.getElementById('low').textContent = atlas.write(column, column.range[0]);
    document.getElementById('high').textContent = atlas.write(column, column.range[1]);
    document.getElementById('map-note').textContent = `${data.facts.layout} of ${data.k.toLocaleString('en')} atoms by cosine; ${column.title.toLowerCase()}: ${column.about}${column.log ? ', logarithmic' : ''}${none ? '; grey: none' : ''}.`;
  }

  // ---- the card beside the pointer

  function over(i) {
    const tip = document.getElementById('tip'), column = data.column[list.state.color];
    tip.replaceChildren(draw.cover(i), make('span', {}, make('b', {}, `#${i}`), ' ', draw.label(i)),
      make('span.dim', {}, `${column.title} ${atlas.write(column, column.values[i])}`));
    const at = plot.getScreenPosition(i), pane = document.getElementById('map');
    if (!at) return;
    tip.hidden = false;
    const [left, top] = [at[0] + pane.offsetLeft, at[1] + pane.offsetTop];
    const right = at[0] < pane.clientWidth - 230;
    tip.style.left = right ? `${left + 14}px` : '';
    tip.style.right = right ? '' : `${pane.clientWidth - at[0] + 14}px`;
    tip.style.top = `${Math.max(Math.min(top - 20, pane.offsetTop + pane.clientHeight - 110), 4)}px`;
  }

  function out() {
    document.getElementById('tip').hidden = true;
  }

  // ---- by buttons and keys

  function zoom(factor) {
    if (!plot) return;
    plot.zoomToLocation(plot.get('cameraTarget').slice(0, 2), plot.get('cameraDistance') / factor, { transition: true, transitionDuration: 150 });
  }

  function pan(dx, dy) {
    if (!plot) return;
    const [cx, cy] = plot.get('cameraTarget'), far = plot.get('cameraDistance');
    plot.zoomToLocation([cx + .2 * far * dx, cy + .2 * far * dy], far, { transition: true, transitionDuration: 150 });
  }

  // How far away everything is in view: the height shows from -1 to 1, and a narrow map less than that across.
  const whole = ({ width, height }) => Math.max(1, height / width);
  const all = () => plot && plot.zoomToLocation([0, 0], whole(look()), { transition: true, transitionDuration: 250 });
  const KEYS = { '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), 0: all, ArrowLeft: () => pan(-1, 0),
    ArrowRight: () => pan(1, 0), ArrowUp: () => pan(0, 1), ArrowDown: () => pan(0, -1) };

  function listen() {
    document.getElementById('zoom-in').addEventListener('click', () => zoom(1.5));
    document.getElementById('zoom-out').addEventListener('click', () => zoom(1 / 1.5));
    document.getElementById('zoom-all').addEventListener('click', all);
    document.getElementById('map').addEventListener('keydown', (event) => {
      if (!KEYS[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      KEYS[event.key]();
    });
  }

  return { start, paint, filter, mark, listen, get plot() { return plot; } };
})();
