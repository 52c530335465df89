// The list of atoms: searched, filtered, sorted; only the rows in view are in the page, however many there are.
'use strict';
const list = (() => {
  const { data } = atlas, { make } = draw;
  const state = { q: '', color: '', sort: '', up: false, alive: false, low: 0, high: 1 };
  const HEIGHT = 68;  // of a row, in pixels, as in atlas.css
  let order = [];     // atoms that are shown, first to last

  function first() {
    const wanted = ['recurs', 'stability', 'rate'].find((key) => data.column[key]);
    state.color = wanted;
    state.sort = 'map';
  }

  function asks() {
    return state.q.toLowerCase().split(/\s+/).filter(Boolean);
  }

  function fits(i, words) {
    const number = String(i);
    return words.every((word) => data.words[i].includes(word) || number === word.replace(/^#/, ''));
  }

  function inRange(i) {
    if (state.low <= 0 && state.high >= 1) return true;
    const column = data.column[state.color], at = atlas.share(column, column.values[i]);
    return at >= state.low - 1e-9 && at <= state.high + 1e-9;  // not where there is no number
  }

  function update() {
    const words = asks(), rate = data.column.rate.values;
    order = [];
    for (let i = 0; i < data.k; i++) {
      if (state.alive && rate[i] === 0) continue;
      if (fits(i, words) && inRange(i)) order.push(i);
    }
    sort();
    return order;
  }

  function sort() {
    const column = data.column[state.sort === 'map' ? state.color : state.sort];
    if (state.sort === 'number' || !column) {
      if (state.up) order.reverse();
      return;
    }
    const sign = state.up ? 1 : -1, v = column.values;
    const key = (i) => (Number.isNaN(v[i]) ? -Infinity * sign : v[i]);  // what has none comes last
    order.sort((a, b) => {
      const x = key(a), y = key(b);
      return x === y ? a - b : sign * (x < y ? -1 : 1);
    });
  }

  function shownColumn() {
    return data.column[state.sort === 'map' || state.sort === 'number' ? state.color : state.sort];
  }

  function row(i, at) {
    const column = shownColumn(), v = column.values[i], share = atlas.share(column, v);
    const bar = make('span.bar', { 'aria-hidden': 'true' }, make('span'));
    bar.firstChild.style.width = `${Number.isNaN(share) ? 0 : Math.max(2, 100 * share)}%`;
    bar.firstChild.style.background = Number.isNaN(share) ? 'none' : draw.rgb(share);
    const link = make('a.row', { href: main.link(`atom/${i}`), 'data-atom': i, 'aria-label': `${draw.name(i)}; ${column.title} ${atlas.write(column, v)}` },
    draw.cover(i),
    make('span.what', {}, make('b', {}, `#${i}`), make('span', {}, draw.label(i))),
    make('span.value', {}, make('span', {}, atlas.write(column, v)), bar));
    const item = make('div.item', { role: 'listitem', 'aria-posinset': at + 1, 'aria-setsize': order.length }, link);
    item.style.top = `${at * HEIGHT}px`;
    return item;
  }

  let box, rows = new Map();

  function fill() {
    if (!box || !box.isConnected) return;
    const from = Math.max(Math.floor(box.scrollTop / HEIGHT) - 4, 0);
    const to = Math.min(Math.ceil((box.scrollTop + (box.clientHeight || 600)) / HEIGHT) + 4, order.length);
    for (const [at, node] of rows) {
      if (at >= from && at < to) continue;
      node.remove();
      rows.delete(at);
    }
    for (let at = from; at < to; at++) {
      if (!rows.has(at)) rows.set(at, box.firstChild.appendChild(row(order[at], at)));
    }
  }

  function again() {
    if (!box) return;
    rows.forEach((node) => node.remove());
    rows = new Map();
    box.firstChild.style.height = `${order.length * HEIGHT}px`;
    document.getElementById('count').textContent = `${order.length.toLocaleString('en')} of ${data.k.toLocaleString('en')} atoms`;
    document.getElementById('none').hidden = order.length > 0;
    fill();
  }

  function options() {
    const same = [['map', 'as coloured'], ['number', 'number']];
    return [...same, ...data.columns.map((c) => [c.key, c.title.toLowerCase()])]
      .map(([key, title]) => make('option', { value: key, selected: key === state.sort ? '' : null }, title));
  }

  function slider(name, title) {
    return make('input', { type: 'range', min: 0, max: 1, step: .01, value: state[name], 'aria-label': title,
      oninput: (event) => main.set({ [name]: +event.target.value }) });
  }

  function controls() {
    const alive = make('input', { type: 'checkbox', checked: state.alive ? '' : null,
      onchange: (event) => main.set({ alive: event.target.checked }) });
    return make('div.controls', {},
      make('label', {}, 'Sort by ', make('select', { id: 'sort', onchange: (e) => main.set({ sort: e.target.value }) }, ...options())),
      make('button', { type: 'button', id: 'up', 'aria-label': 'Turn the order round',
        onclick: () => main.set({ up: !state.up }) }, state.up ? '↑' : '↓'),
      make('label', {}, alive, ' only atoms that fire'),
      make('span.ranges', { title: 'Only atoms whose colour lies between' }, 'colour from ',
        slider('low', 'Least colour, as a share of its scale'), ' to ', slider('high', 'Largest colour, as a share of its scale')));
  }

  function page(side) {
    box = make('div.list', { onscroll: () => requestAnimationFrame(fill) },
      make('div', { role: 'list', 'aria-label': 'Atoms' }));
    const none = make('p.notice', { id: 'none', hidden: '' }, 'No atom fits. ',
      make('button', { type: 'button', onclick: () => main.clear() }, 'Clear search and filters'));
    side.replaceChildren(make('div.list-page', {}, make('h2', { id: 'count' }), controls(), none, box));
    rows = new Map();
    again();
  }

  // The atom before or after one, in the order of the list.
  function next(i, step) {
    const at = order.indexOf(i);
    return order[at + step];
  }

  addEventListener('resize', () => requestAnimationFrame(fill));
  return { state, first, update, page, again, next, get order() { return order; } };
})();
