// Formulas: MathJax typesets what the pages mark as such, with its own fonts from beside it.
window.MathJax = {
  tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]], processEscapes: true },
  options: { ignoreHtmlClass: ".*", processHtmlClass: "arithmatex" },
  chtml: { matchFontHeight: false },
};
