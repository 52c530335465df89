// The pages beside the map: an atom, an item (an image or a text), all items, and what this atlas is.
'use strict';
const pages = (() => {
  const { data } = atlas, { make } = draw;

  const thing = () => (data.kind === 'images' ? 'image' : 'text');
  const number = (v) => v.toLocaleString('en');

  function section(title, about, ...content) {
    return make('section.part', {}, make('h3', {}, title), about ? make('p.muted', {}, about) : null, ...content);
  }

  // Where all are one or the other, the head of the page says it once.
  function heldOut(item) {
    if (!data.heldOut || data.heldOut.every((held) => held === data.heldOut[0])) return null;
    return data.heldOut[item] ? make('span.badge.held', { title: 'The dictionary was not trained on it' }, 'held out')
      : make('span.badge', { title: 'The dictionary was trained on it' }, 'training');
  }

  const className = (item) => data.classes[data.itemClass[item]] ?? '';

  // ---- an atom

  function tile(column, v, more = '') {
    return make('div.tile', { title: column.about }, make('dt', {}, column.title),
      make('dd', {}, atlas.write(column, v), more ? make('small', {}, ` ${more}`) : null));
  }

  function tiles(i, row) {
    const nodes = data.columns.map((column) => {
      const between = column.key === 'recurs' && row.interval;
      const more = between ? `90 %: ${row.interval.map((v) => v.toFixed(2)).join(' – ')}` : '';
      return tile(column, column.values[i], more);
    });
    return make('dl.tiles', {}, ...nodes);
  }

  function example(i, [item, place, value, , map, start, pieces]) {
    const largest = data.column.largest.values[i], values = atlas.unpack(map, 'u1');
    const share = Math.round(100 * value / largest);
    const about = make('span.example-about', {}, make('span', {}, `${+value.toPrecision(3)}`),
      make('span.strength', { title: `${share} % of its largest` }, make('span')), heldOut(item));
    about.querySelector('.strength span').style.width = `${share}%`;
    const says = `${data.items[item]}${className(item) ? `, ${className(item)}` : ''}; activation ${+value.toPrecision(3)}, ${share} % of its largest`;
    if (data.kind === 'texts') {
      return make('a.example.text', { href: main.link(`item/${item}`), title: data.items[item] },
        make('q', {}, start > 0 ? '… ' : '', draw.snippet(pieces, values), ' …'), about);
    }
    return make('a.example', { href: main.link(`item/${item}`), title: says },
      draw.picture(item, { map: values, place, label: says }), make('span.class', {}, className(item)), about);
  }

  function examples(i, row) {
    if (!row.samples.length) {
      const other = data.column.rate.values[i] > 0 ? `It fires, but in none of the ${data.kind} shown here.` : `It never fires on the ${number(data.facts.tokens)} tokens of this atlas: a dead atom here.`;
      return [make('p.notice', {}, other)];
    }
    const bands = data.bands.map((band, b) => {
      const some = row.samples.filter((sample) => sample[3] === b);
      if (!some.length) return null;
      return make(b ? 'div.band.quarter' : 'div.band', {}, make('h4', {}, b ? `${band} of its ${data.kind}` : 'strongest'),
        make(`div.examples.${data.kind}`, {}, ...some.map((sample) => example(i, sample))));
    });
    return [make('div.bands', {}, ...bands.filter(Boolean))];
  }

  function chart(i, row) {
    const largest = data.column.largest.values[i];
    if (!largest) return null;
    return section('Activations', 'How many tokens have which code, on a logarithmic scale; zeros left out.',
      make('figure.chart', {}, draw.histogram(row.hist, largest),
        make('figcaption', {}, make('span', {}, '0'), make('span', {}, (largest / 2).toPrecision(2)), make('span', {}, largest.toPrecision(3)))));
  }

  function atomLink(j, more) {
    return make('a.chip', { href: main.link(`atom/${j}`) }, draw.cover(j),
      make('span', {}, make('b', {}, `#${j}`), ' ', make('span.dim', {}, data.labels[j])), make('span.number', {}, more));
  }

  function nearest(row) {
    return section('Nearest atoms', 'By the cosine of their directions.',
      make('div.chips', {}, ...row.near.map(([j, c]) => atomLink(j, c.toFixed(2)))));
  }

  function places(near) {
    return make(`span.places.${data.kind}`, {}, ...near.map(([item, place, start, pieces]) => make('a.place', {
      href: main.link(`item/${item}`), title: data.items[item], 'aria-label': `In ${data.items[item]}` },
    data.kind === 'images' ? draw.picture(item, { place, crop: true }) : draw.snippet(pieces, null, place - start))));
  }

  function runs(row) {
    if (!row.runs.length) return null;
    const rows = row.runs.map(([partner, cosine, near], r) => make('tr', {}, make('th', { scope: 'row' }, data.runs[r]),
      make('td', {}, partner < 0 ? 'none' : `#${partner}`), make('td.number', {}, cosine === null ? '–' : cosine.toFixed(3)),
      make('td', {}, places(near))));
    return section('In other runs', 'Its partner in the best one-to-one matching, and where that one fires most.',
      make('table', {}, make('thead', {}, headings('run', 'atom', 'cosine', 'fires most at')), make('tbody', {}, ...rows)));
  }

  const headings = (...titles) => make('tr', {}, ...titles.map((title) => make('th', { scope: 'col' }, title)));

  function mix(i, row) {
    if (!row.mix) return null;
    const slack = data.column.slack ? `, and Λ, of length ${atlas.write(data.column.slack, data.column.slack.values[i])} in spreads of the points` : '';
    const parts = row.mix.map((part) => {
      const bar = make('span.bar', { 'aria-hidden': 'true' }, make('span'));
      bar.firstChild.style.width = `${100 * part.weight}%`;
      return make('tr', {}, make('th', { scope: 'row' }, `point ${part.point}`), make('td.number', {}, part.weight.toFixed(3), bar),
        make('td', {}, places(part.near)));
    });
    const together = row.mix.reduce((sum, part) => sum + part.weight, 0);
    return section('Archetypes', `The atom is a mixture of points of the data${slack}. Those that add most, with ${atlas.percent(together)} of the weight together, and what is nearest to each:`,
      make('table', {}, make('thead', {}, headings('point', 'weight', `nearest ${data.kind === 'images' ? 'patches' : 'tokens'}`)), make('tbody', {}, ...parts)));
  }

  function meters(pairs, write) {
    const top = Math.max(...pairs.map(([, v]) => Math.abs(v)), 1e-9);
    return make('div.meters', {}, ...pairs.map(([title, v]) => {
      const bar = make('span.bar', { 'aria-hidden': 'true' }, make(v < 0 ? 'span.below' : 'span'));
      bar.firstChild.style.width = `${100 * Math.abs(v) / top}%`;
      return make('div', {}, make('span', {}, title), bar, make('span.number', {}, write(v)));
    }));
  }

  function classes(row) {
    if (!row.classes) return null;
    return section('Class directions', 'The cosine of the atom with the direction that raises a class above the mean of all.',
      meters(row.classes.map(([c, v]) => [data.classes[c], v]), (v) => v.toFixed(3)));
  }

  function logits(row) {
    if (!row.logits) return null;
    return section('Logits', 'The tokens that it raises most, in standard deviations of its effect on all.', meters(row.logits, (v) => v.toFixed(1)));
  }

  function used(row) {
    if (!row.used) return null;
    const names = [...new Set(row.used.flatMap(Object.keys))];
    const rows = row.used.map((cells) => make('tr', {}, ...names.map((name) => make(typeof cells[name] === 'number' ? 'td.number' : 'td', {}, String(cells[name] ?? '')))));
    return section('Is it used?', 'What changes in the network where the atom is taken out or put in.',
      make('div.scroll', {}, make('table', {}, make('thead', {}, headings(...names)), make('tbody', {}, ...rows))));
  }

  function steps(i) {
    const link = (step, sign, title) => {
      const j = list.next(i, step);
      if (j === undefined) return make('span.step.off', { 'aria-hidden': 'true' }, sign);
      return make('a.step', { href: main.link(`atom/${j}`), 'aria-label': `${title}: ${draw.name(j)}`, 'data-step': step }, sign);
    };
    return make('div.steps', {}, make('a.back', { href: main.link('') }, '← All atoms'), make('span', {}, link(-1, '‹', 'Previous'), link(1, '›', 'Next')));
  }

  async function atom(side, i) {
    const head = make('div.head', {}, steps(i), make('h2', { tabindex: -1 }, make('b', {}, `Atom ${i}`), ' ', make('span', {}, draw.label(i))));
    side.replaceChildren(make('article.page', {}, head, make('p.wait', { role: 'status' }, 'Loading …')));
    const row = await atlas.atom(i);
    return () => side.replaceChildren(make('article.page', {}, head, tiles(i, row),
      section(`Where it fires`, `${data.kind === 'images' ? 'Images' : 'Contexts'} from the whole range of its activations and not only the top: each quarter of those in which it fires is shown. ${data.kind === 'images' ? 'What is dark is silent; point at a picture to see it plain.' : ''}`, ...examples(i, row).filter(Boolean)),
      ...[chart(i, row), mix(i, row), classes(row), logits(row), used(row), runs(row), nearest(row)].filter(Boolean)));
  }

  // ---- an item

  // Codes of an item: for each place a list of [atom, code].
  function codes(row) {
    const n = atlas.unpack(row.n, 'u2'), a = atlas.unpack(row.a, data.k > 65535 ? 'u4' : 'u2'), v = atlas.unpack(row.v, 'u1');
    const largest = data.column.largest.values, found = [];
    let at = 0;
    for (const count of n) {
      const here = [];
      for (let end = at + count; at < end; at++) here.push([a[at], v[at] / 255 * largest[a[at]], v[at]]);
      found.push(here);
    }
    return found;
  }

  function sums(byPlace, place) {
    const total = new Map();
    byPlace.forEach((here, p) => {
      if (place >= 0 && p !== place) return;
      for (const [a, z] of here) total.set(a, (total.get(a) ?? 0) + z);
    });
    return [...total].sort((x, y) => y[1] - x[1]);
  }

  const mapOf = (byPlace, atom) => byPlace.map((here) => here.find(([a]) => a === atom)?.[2] ?? 0);

  function itemHead(item) {
    const link = (j, sign, title) => (j >= 0 && j < data.items.length
      ? make('a.step', { href: main.link(`item/${j}`), 'aria-label': `${title} ${thing()}`, 'data-step': j - item }, sign) : make('span.step.off', { 'aria-hidden': 'true' }, sign));
    return make('div.head', {}, make('div.steps', {}, make('a.back', { href: main.link('items') }, `← All ${data.kind}`),
      make('span', {}, link(item - 1, '‹', 'Previous'), link(item + 1, '›', 'Next'))),
    make('h2', { tabindex: -1 }, make('b', {}, data.items[item]), ' ', make('span', {}, data.kind === 'images' ? className(item) : ''), ' ', heldOut(item)));
  }

  function chosen(stage, byPlace, state) {
    const found = sums(byPlace, state.place).slice(0, 40), top = found.length ? found[0][1] : 1;
    const where = state.place < 0 ? `in the whole ${thing()}` : 'at the chosen place';
    const rows = found.map(([a, z]) => {
      const link = atomLink(a, +z.toPrecision(3));
      const bar = make('span.bar', { 'aria-hidden': 'true' }, make('span'));
      bar.firstChild.style.width = `${100 * z / top}%`;
      link.append(bar);
      for (const event of ['pointerenter', 'focus']) link.addEventListener(event, () => stage.light(a));
      for (const event of ['pointerleave', 'blur']) link.addEventListener(event, () => stage.light(-1));
      return link;
    });
    return make('div', {}, make('p.muted', {}, `${found.length ? 'The atoms with the largest sums of codes' : 'No atom fires'} ${where}. Point at one to see where.`), make('div.chips.tall', {}, ...rows));
  }

  function pictureStage(item, byPlace, pick) {
    const box = draw.picture(item), grid = make('div.cells'), [rows, columns] = data.grid;
    grid.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
    const many = rows * columns > 400;
    byPlace.forEach((here, p) => grid.append(make('button', { type: 'button', tabindex: many ? -1 : null,
      'aria-label': `Row ${Math.floor(p / columns) + 1}, column ${p % columns + 1}: ${here.length} atoms`, onclick: () => pick(p) })));
    const node = make('div.stage.picture-stage', {}, box, grid);
    node.light = (a) => {
      node.querySelector('.heat')?.remove();
      if (a >= 0) box.append(draw.heat(mapOf(byPlace, a)));
    };
    node.choose = (p) => [...grid.children].forEach((cell, i) => cell.setAttribute('aria-pressed', String(i === p)));
    return node;
  }

  function textStage(pieces, byPlace, pick) {
    const tokens = pieces.map((piece, p) => make('button.token', { type: 'button', 'aria-label': `${piece.trim() || 'space'}: ${byPlace[p].length} atoms`, onclick: () => pick(p) }, piece));
    const node = make('div.stage.text-stage', {}, ...tokens);
    node.light = (a) => {
      const map = a < 0 ? [] : mapOf(byPlace, a), top = Math.max(...map, 1);
      tokens.forEach((token, p) => token.style.setProperty('--heat', map[p] ? (.2 + .8 * map[p] / top).toFixed(2) : 0));
    };
    node.choose = (p) => tokens.forEach((token, i) => token.setAttribute('aria-pressed', String(i === p)));
    return node;
  }

  async function item(side, i) {
    side.replaceChildren(make('article.page', {}, itemHead(i), make('p.wait', { role: 'status' }, 'Loading …')));
    const row = await atlas.item(i), byPlace = codes(row), state = { place: -1 };
    const below = make('div');
    const pick = (p) => {
      state.place = state.place === p ? -1 : p;
      stage.choose(state.place);
      below.replaceChildren(chosen(stage, byPlace, state));
    };
    const stage = data.kind === 'images' ? pictureStage(i, byPlace, pick) : textStage(row.pieces, byPlace, pick);
    below.replaceChildren(chosen(stage, byPlace, state));
    const hint = `Choose a ${data.kind === 'images' ? 'place' : 'token'} to see which atoms fire there.`;
    return () => side.replaceChildren(make('article.page', {}, itemHead(i), stage, make('p.muted', {}, hint), section('Which atoms fire', '', below)));
  }

  // ---- all items

  function items(side) {
    const cells = data.items.map((title, i) => make(`a.example.${data.kind === 'images' ? 'small' : 'line'}`, { href: main.link(`item/${i}`), title },
      data.kind === 'images' ? draw.picture(i) : title, data.kind === 'images' ? make('span.class', {}, className(i) || title) : null, heldOut(i)));
    side.replaceChildren(make('article.page', {}, make('div.head', {}, make('div.steps', {}, make('a.back', { href: main.link('') }, '← All atoms')),
      make('h2', { tabindex: -1 }, `${number(data.items.length)} ${data.kind}`)), make(`div.examples.${data.kind}.all`, {}, ...cells)));
  }

  // ---- what this atlas is

  function heldOutText() {
    if (!data.heldOut) return 'not told';
    const held = data.heldOut.reduce((a, b) => a + b, 0), all = data.heldOut.length;
    return held === all ? 'held out: the dictionary was trained on none of what is shown' : held ? `${number(held)} of the ${number(all)} shown are held out, the dictionary was trained on the others`
      : 'training data: the dictionary was trained on what is shown';
  }

  function about(side) {
    const f = data.facts;
    const rows = [['Model', f.model], ['Atoms', `${number(f.k)} of ${number(f.d)} dimensions; ${number(f.dead)} never fire here`],
      ['Source', `${f.source}${f.note ? ` (${f.note})` : ''}`], ['Size', `${number(f.tokens)} tokens of ${number(f.items)} ${data.kind}; ${number(f.shown)} of these have a page`],
      ['Held out', heldOutText()], ['Here', `R² ${f.r2 ?? '–'}, ${f.l0} active atoms a token`], ['Map', `${f.layout} of the directions of the atoms, by their cosines; distances between far groups mean little`],
      ['Other runs', f.runs ? String(f.runs) : 'none given'], ...Object.entries(f.record).map(([name, value]) => [name, String(value)]), ['Made by', `archsae ${f.version}`]];
    const columns = data.columns.map((c) => make('div', {}, make('dt', {}, c.title), make('dd', {}, c.about)));
    side.replaceChildren(make('article.page', {}, make('div.head', {}, make('div.steps', {}, make('a.back', { href: main.link('') }, '← All atoms')), make('h2', { tabindex: -1 }, 'About this atlas')),
      make('table.facts', {}, make('tbody', {}, ...rows.map(([name, value]) => make('tr', {}, make('th', { scope: 'row' }, name), make('td', {}, value))))),
      section('What atoms are coloured by', '', make('dl.columns', {}, ...columns)),
      section('Reading it', 'An atom’s strongest images alone mislead: they often show one clear thing where the atom fires weakly on much else. So each page also shows examples from every quarter of its activations. All numbers are of all tokens of the source; pictures and texts are of those that have a page. Names under atoms are the classes or tokens that most of the activation falls on, unless somebody named them; they are no proof of what an atom means.'),
      section('Keys', '/ searches, ← and → go through the list from an atom, Escape goes back to it.')));
  }

  return { atom, item, items, about, heldOutText };
})();
