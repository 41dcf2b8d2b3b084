// Keep clicks on buttons until the script of the page runs; they would be lost otherwise.
// A classic script, because a module would run after the page can be clicked.
(() => {
  /** @type {Set<HTMLElement>} */
  const clicked = new Set();
  const keep = (/** @type {MouseEvent} */ event) => {
    const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest?.("button[data-action]"));
    if (button) clicked.add(button);
  };
  document.addEventListener("click", keep, true);
  // The script of the page has run: the clicks take effect.
  document.addEventListener("page-opened", () => {
    document.removeEventListener("click", keep, true);
    for (const button of clicked) button.click();
  }, { once: true });
})();
