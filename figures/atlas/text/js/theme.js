// Light or dark: what the system says, or what was chosen here before. Runs first, so that nothing flashes.
'use strict';
const theme = {
  kept() {
    try { return localStorage.getItem('archsae-atlas-theme'); } catch { return null; }  // some browsers refuse on file://
  },
  now() {
    return theme.kept() || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  },
  apply(name) {
    document.documentElement.dataset.theme = name;
  },
  toggle() {
    const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    try { localStorage.setItem('archsae-atlas-theme', next); } catch { /* then it lasts as long as the page */ }
    theme.apply(next);
  },
};
theme.apply(theme.now());
