// Keep what is clicked, typed and chosen until the script of the page runs; it would be lost otherwise.
// A classic script, because a module would run after the page can be used.
(() => {
  /** @type {Map<HTMLElement, () => void>} */
  const kept = new Map();
  const keepClick = (/** @type {Event} */ event) => {
    const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest?.("button[data-action]"));
    if (button) kept.set(button, () => button.click());
  };
  const keepValue = (/** @type {Event} */ event) => {
    const control = /** @type {HTMLInputElement} */ (event.target), { type, value, checked } = control;
    kept.set(control, () => {
      // A file cannot be set, and no script replaces it.
      if (type !== "file") Object.assign(control, { value, checked });
      for (const name of ["input", "change"]) control.dispatchEvent(new Event(name, { bubbles: true }));
    });
  };
  const listeners = /** @type {const} */ ([["click", keepClick], ["input", keepValue], ["change", keepValue]]);
  for (const [name, keep] of listeners) document.addEventListener(name, keep, true);
  // The script of the page has run: all of it takes effect.
  document.addEventListener("page-opened", () => {
    for (const [name, keep] of listeners) document.removeEventListener(name, keep, true);
    for (const repeat of kept.values()) repeat();
  }, { once: true });
})();
