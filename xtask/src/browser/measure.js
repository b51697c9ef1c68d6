// Measures a page that is laid out: how wide it is, and whether text and
// drawings stand out from what is behind them (WCAG 2.2: 1.4.3, 1.4.11).
// The title says what was found.
addEventListener("load", () => {
  const parse = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const isThere = (colour) => parse(colour).length >= 3 && parse(colour)[3] !== 0;
  const luminance = (colour) => {
    const linear = parse(colour).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const contrast = (one, other) => {
    const [a, b] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (isThere(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const isInSvg = (element) => element instanceof SVGElement;
  const isShown = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && getComputedStyle(element).display !== "none";
  };
  const found = { width: document.documentElement.scrollWidth, room: innerWidth,
    texts: 0, text: 99, where: "", shapes: 0, shape: 99, small: 99 };

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const words = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!words || ["title", "desc"].includes(element.tagName) || !isShown(element)) continue;
    const style = getComputedStyle(element);
    // A letter in a bar is drawn right after its part of the bar.
    const under = element.matches(".letter")
      ? getComputedStyle(element.previousElementSibling).fill : behind(element);
    const ratio = contrast(isInSvg(element) ? style.fill : style.color, under);
    found.texts += 1;
    found.small = Math.min(found.small, parseFloat(style.fontSize));
    if (ratio < found.text) [found.text, found.where] = [ratio, words.slice(0, 40)];
  }
  for (const shape of document.querySelectorAll(".bar, .part:not(.free), .level, .mark, .dot")) {
    const style = getComputedStyle(shape);
    const colour = shape.matches(".mark") ? style.stroke : style.fill;
    found.shapes += 1;
    found.shape = Math.min(found.shape, contrast(colour, behind(shape)));
  }
  document.title = JSON.stringify(found);
});
