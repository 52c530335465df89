// What pages are made of. Texts from the data are only ever set as text, never as HTML.
'use strict';
const draw = (() => {
  const { data, unpack } = atlas;
  const SVG = 'http://www.w3.org/2000/svg';

  // make('a.name', { href: '#/' }, child, 'text')
  function make(tag, attributes = {}, ...children) {
    const [name, ...classes] = tag.split('.');
    const node = document.createElement(name);
    if (classes.length) node.className = classes.join(' ');
    for (const [key, value] of Object.entries(attributes)) {
      if (value === false || value === null || value === undefined) continue;
      if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
    return node;
  }

  function svg(tag, attributes, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  // Viridis (S. van der Walt and N. Smith, CC0), at nine of its 256 steps.
  const STOPS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99],
    [170, 220, 50], [253, 231, 37]];

  function color(share) {
    const t = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1), i = Math.min(Math.floor(t), STOPS.length - 2);
    return STOPS[i].map((c, j) => Math.round(c + (t - i) * (STOPS[i + 1][j] - c)));
  }

  const rgb = (share) => `rgb(${color(share).join(' ')})`;

  // ---- pictures

  const sheets = new Map();

  function sheet(number) {
    if (!sheets.has(number)) {
      const image = new Image();
      image.src = data.sheets.files[number];
      sheets.set(number, image.decode().then(() => image));
    }
    return sheets.get(number);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      entry.target.show();
    }
  }, { rootMargin: '300px' });

  function picture(item, { map = null, place = -1, crop = false, label = '' } = {}) {
    const [w, h] = data.sheets.cell;
    const box = make('span.picture', { role: 'img', 'aria-label': label || data.items[item] });
    box.style.aspectRatio = `${w} / ${h}`;
    box.show = () => show(box, item, map, place, crop);
    seen.observe(box);
    return box;
  }

  async function show(box, item, map, place, crop) {
    const per = data.sheets.columns * data.sheets.rows, [w, h] = data.sheets.cell;
    try {
      const image = await sheet(Math.floor(item / per));
      const at = item % per, x = (at % data.sheets.columns) * w, y = Math.floor(at / data.sheets.columns) * h;
      const view = crop && place >= 0 ? around(place, w, h) : [0, 0, w, h];
      const small = Math.max(w, h) < 48, scale = small ? Math.ceil(160 / Math.max(w, h)) : 1;
      const base = make('canvas', { width: Math.round(view[2] * scale), height: Math.round(view[3] * scale) });
      const pen = base.getContext('2d');
      pen.imageSmoothingEnabled = !small;
      pen.drawImage(image, x + view[0], y + view[1], view[2], view[3], 0, 0, base.width, base.height);
      box.replaceChildren(base);
      if (map) box.append(heat(map));
      if (place >= 0 && !map) box.append(frame(place, view, w, h));
      box.classList.add('there');
    } catch {
      box.classList.add('missing');
      box.textContent = 'not found';
    }
  }

  // A place with two more on each side, moved inside at the edge.
  function around(place, w, h) {
    const [rows, columns] = data.grid, side = Math.min(5, rows, columns);
    const r = clamp(Math.floor(place / columns) - (side >> 1), 0, rows - side);
    const c = clamp((place % columns) - (side >> 1), 0, columns - side);
    return [c * w / columns, r * h / rows, side * w / columns, side * h / rows];
  }

  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

  // Dark where the atom is silent, warm where it fires; a picture's own largest code is its warmest place.
  function heat(map) {
    const [rows, columns] = data.grid, node = make('canvas.heat', { width: columns, height: rows });
    const pen = node.getContext('2d'), pixels = pen.createImageData(columns, rows), top = Math.max(...map, 1);
    map.forEach((v, i) => {
      const t = v / top;
      pixels.data.set([8 + 247 * t, 10 + 140 * t, 20 * (1 - t), 170 - 120 * t].map(Math.round), 4 * i);
    });
    pen.putImageData(pixels, 0, 0);
    return node;
  }

  function frame(place, [x, y, width, height], w, h) {
    const [rows, columns] = data.grid, node = make('span.frame');
    const put = (name, value) => { node.style[name] = `${100 * value}%`; };
    put('left', ((place % columns) * w / columns - x) / width);
    put('top', (Math.floor(place / columns) * h / rows - y) / height);
    put('width', w / columns / width);
    put('height', h / rows / height);
    return node;
  }

  // ---- texts

  function snippet(pieces, values, mark = -1) {
    const top = values ? Math.max(...values, 1) : 1, node = make('span.snippet');
    pieces.forEach((piece, i) => {
      const v = values ? values[i] : i === mark ? 1 : 0;
      if (!v) return node.append(piece);
      const span = make('mark', { title: values ? `${Math.round(100 * v / 255)} % of its largest` : null }, piece);
      span.style.setProperty('--heat', (.2 + .8 * v / top).toFixed(2));
      node.append(span);
    });
    return node;
  }

  // ---- what stands for an atom

  function cover(i) {
    const item = data.cover[i];
    if (item < 0) return make('span.cover.none', { 'aria-hidden': 'true' }, '∅');
    if (data.kind === 'images') {
      const node = make('span.cover', { 'aria-hidden': 'true' });
      node.append(picture(item, { place: data.coverPlace[i], crop: true }));
      return node;
    }
    const [before, word, after] = data.tokens[i];
    return make('span.cover.words', { 'aria-hidden': 'true' }, snippet([before.slice(-12), word, after], null, 1));
  }

  const label = (i) => data.labels[i] || (data.column.rate.values[i] ? '' : 'never fires here');
  const name = (i) => `Atom ${i}${label(i) ? `, ${label(i)}` : ''}`;

  // ---- histogram

  function histogram(counts, largest) {
    const most = Math.log1p(Math.max(...counts, 1)), width = 6, high = 90;
    const bars = counts.map((count, i) => {
      const tall = count ? Math.max(2, Math.log1p(count) / most * high) : 0;
      const from = largest * i / counts.length, to = largest * (i + 1) / counts.length;
      const bar = svg('rect', { x: i * width, y: high - tall, width: width - 1, height: tall, rx: 1 });
      bar.append(svg('title', {}, `${count} tokens from ${from.toPrecision(2)} to ${to.toPrecision(2)}`));
      return bar;
    });
    const total = counts.reduce((a, b) => a + b, 0);
    return svg('svg', { viewBox: `0 0 ${counts.length * width} ${high + 1}`, class: 'histogram', role: 'img',
      preserveAspectRatio: 'none',
      'aria-label': `Histogram of ${total} activations from 0 to ${largest.toPrecision(3)}` }, ...bars);
  }

  return { make, svg, color, rgb, picture, heat, snippet, cover, label, name, histogram, sheet, unpack };
})();
