// Which page is shown: the address after # says it, so that every page can be linked and the back button works.
'use strict';
const main = (() => {
  const { data } = atlas, { make } = draw, { state } = list;
  const side = document.getElementById('side');
  const KEPT = { q: '', color: null, sort: null, up: false, alive: false, low: 0, high: 1 };  // what the address keeps
  let usual = {}, turn = 0;

  // ---- addresses: #/atom/12?q=dog

  function query() {
    const kept = new URLSearchParams();
    for (const key of Object.keys(KEPT)) if (state[key] !== usual[key]) kept.set(key, state[key]);
    const text = kept.toString();
    return text ? `?${text}` : '';
  }

  const link = (path) => `#/${path}${query()}`;

  function read() {
    const [path, text = ''] = location.hash.replace(/^#\/?/, '').split('?');
    const asked = new URLSearchParams(text);
    for (const key of Object.keys(KEPT)) state[key] = asked.has(key) ? value(key, asked.get(key)) : usual[key];
    const [page, number] = path.split('/');
    return { path, page, number: /^\d+$/.test(number ?? '') ? Number(number) : NaN };
  }

  function value(key, text) {
    if (typeof usual[key] === 'boolean') return text === 'true';
    if (typeof usual[key] === 'number') return Number.isFinite(+text) ? Math.min(Math.max(+text, 0), 1) : usual[key];
    if (key === 'color') return data.column[text] ? text : usual[key];
    if (key === 'sort') return data.column[text] || text === 'map' || text === 'number' ? text : usual[key];
    return text;
  }

  function go(path) {
    location.hash = link(path);
  }

  // ---- pages

  async function show() {
    const before = { ...state }, { page, number } = read(), mine = ++turn;
    controls();
    if (before.color !== state.color || !data.started) map.paint();
    if (Object.keys(KEPT).some((key) => before[key] !== state[key]) || !data.started) refresh();
    data.started = true;
    const isAtom = page === 'atom' && number < data.k, isItem = page === 'item' && number < data.items.length;
    map.mark(isAtom ? number : null);
    document.body.dataset.page = isAtom || isItem || page === 'items' || page === 'about' ? page : 'list';
    document.title = isAtom ? `${draw.name(number)} – ${data.title}` : isItem ? `${data.items[number]} – ${data.title}` : data.title;
    try {
      const draws = isAtom ? await pages.atom(side, number) : isItem ? await pages.item(side, number) : null;
      if (mine !== turn) return;  // somebody has gone on meanwhile
      if (draws) draws();
      else if (page === 'items') pages.items(side);
      else if (page === 'about') pages.about(side);
      else list.page(side);
    } catch (error) {
      side.replaceChildren(make('p.notice', { role: 'alert' }, `${error.message}. `, make('button', { type: 'button', onclick: show }, 'Try again')));
    }
    side.scrollTop = 0;
    if (turn > 1) side.querySelector('h2[tabindex]')?.focus({ preventScroll: true });
  }

  function refresh() {
    list.update();
    list.again();
    map.filter();
    document.getElementById('status').textContent = `${list.order.length} of ${data.k} atoms`;
  }

  function controls() {
    document.getElementById('color').value = state.color;
    const search = document.getElementById('search');
    if (search.value !== state.q) search.value = state.q;
  }

  // A change of search, filter, order or colour: the address follows, without a step in the history.
  function set(changes) {
    const recolor = 'color' in changes;
    Object.assign(state, changes);
    const { path } = { path: location.hash.replace(/^#\/?/, '').split('?')[0] };
    history.replaceState(null, '', link(path));
    if (recolor) map.paint();
    refresh();
    controls();
    if (document.body.dataset.page === 'list' && ('up' in changes || recolor)) list.page(side);
  }

  function search(text) {
    if (document.body.dataset.page !== 'list') {
      state.q = text;
      go('');
      return;
    }
    set({ q: text });
  }

  function clear() {
    set({ q: '', alive: false, low: 0, high: 1 });
    list.page(side);
  }

  // ---- keys

  function keys(event) {
    const typing = /INPUT|SELECT|TEXTAREA/.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === '/' && !typing) {
      event.preventDefault();
      document.getElementById('search').focus();
    } else if (event.key === 'Escape') {
      if (typing) event.target.blur();
      else if (document.body.dataset.page !== 'list') go('');
    } else if (!typing && (event.key === 'ArrowLeft' || event.key === 'ArrowRight')) {
      side.querySelector(`[data-step="${event.key === 'ArrowLeft' ? -1 : 1}"]`)?.click();
    }
  }

  function listen() {
    document.getElementById('search').addEventListener('input', (event) => search(event.target.value));
    document.getElementById('color').addEventListener('change', (event) => set({ color: event.target.value }));
    document.getElementById('theme').addEventListener('click', () => { theme.toggle(); map.paint(); });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { theme.apply(theme.now()); map.paint(); });
    addEventListener('hashchange', show);
    addEventListener('keydown', keys);
    map.listen();
  }

  async function start() {
    try {
      await atlas.start();
    } catch (error) {
      side.replaceChildren(make('p.notice', { role: 'alert' }, `${error.message}. Is the folder whole?`));
      return;
    }
    list.first();
    usual = Object.fromEntries(Object.keys(KEPT).map((key) => [key, state[key]]));
    document.getElementById('title').textContent = data.title;
    document.getElementById('subtitle').textContent = `${data.k.toLocaleString('en')} atoms · ${data.facts.tokens.toLocaleString('en')} tokens of ${data.facts.items.toLocaleString('en')} ${data.kind} · ${data.heldOut ? pages.heldOutText().split(':')[0].split(',')[0] : 'held out or training: not told'}`;
    document.getElementById('items-link').textContent = data.kind === 'images' ? 'Images' : 'Texts';
    document.getElementById('color').append(...data.columns.map((c) => make('option', { value: c.key }, c.title)));
    document.body.dataset.kind = data.kind;
    listen();
    document.body.classList.remove('loading');
    await show();
    await map.start();
    document.body.classList.add('ready');
  }

  return { start, link, go, set, clear };
})();
main.start();
