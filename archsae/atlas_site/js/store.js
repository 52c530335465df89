// The data of an atlas: files that call atlas.put(key, value) when they are loaded as scripts, which works without a server.
'use strict';
const atlas = (() => {
  const arrived = new Map();  // key -> promise
  const open = new Map();     // key -> how to answer it

  function put(key, value) {
    const answer = open.get(key);
    if (answer) answer.resolve(value);
  }

  function load(key) {
    if (!arrived.has(key)) arrived.set(key, new Promise((resolve, reject) => ask(key, resolve, reject)));
    return arrived.get(key);
  }

  function ask(key, resolve, reject) {
    open.set(key, { resolve });
    const tag = document.createElement('script');
    tag.src = `data/${key}.js`;
    tag.onload = () => tag.remove();
    tag.onerror = () => {
      arrived.delete(key);  // so that it can be tried again
      tag.remove();
      reject(new Error(`data/${key}.js could not be loaded`));
    };
    document.head.append(tag);
  }

  const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array };

  function unpack(text, kind) {
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return new KINDS[kind](bytes.buffer);
  }

  function range(column) {
    let low = Infinity, high = -Infinity;
    for (const v of column.values) {
      if (Number.isNaN(v) || (column.log && v <= 0)) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
    return low <= high ? [low, high] : [0, 1];
  }

  // A number from 0 to 1 on a column's scale; NaN where there is none.
  function share(column, v) {
    if (Number.isNaN(v) || (column.log && v <= 0)) return NaN;
    const [low, high] = column.range, f = column.log ? Math.log : (x) => x;
    return high > low ? (f(v) - f(low)) / (f(high) - f(low)) : .5;
  }

  const PERCENT = new Set(['rate', 'items', 'purity', 'recurs']);

  function write(column, v) {
    if (v === null || v === undefined || Number.isNaN(v)) return '–';
    if (PERCENT.has(column.key)) return percent(v);
    return String(+v.toPrecision(3));
  }

  function percent(v) {
    const p = 100 * v;
    return v === 0 ? '0 %' : p < .01 ? '< 0.01 %' : `${+p.toPrecision(p < 1 ? 1 : p < 10 ? 2 : 3)} %`;
  }

  const data = {};

  async function start() {
    const index = await load('index');
    Object.assign(data, index);
    data.x = unpack(index.x, 'u2');
    data.y = unpack(index.y, 'u2');
    data.cover = unpack(index.cover, 'i4');
    data.coverPlace = unpack(index.coverPlace, 'i4');
    for (const column of data.columns) {
      column.values = unpack(column.values, 'f4');
      column.range = range(column);
    }
    data.column = Object.assign(Object.create(null), Object.fromEntries(data.columns.map((c) => [c.key, c])));  // no key but ours
    const around = (i) => (data.tokens.length ? data.tokens[i].join('') : '');  // where a text switches it on most
    data.words = data.labels.map((label, i) => `${label} ${around(i)}`.toLowerCase());
    return data;
  }

  async function row(kind, number, size) {
    const rows = await load(`${kind}/${Math.floor(number / size)}`);
    return rows[number % size];
  }

  const atom = (i) => row('atoms', i, data.atomsAFile);
  const item = (i) => row('items', i, data.itemsAFile);
  return { put, load, unpack, share, write, percent, start, atom, item, data };
})();
