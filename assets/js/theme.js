// Set the color theme before the first paint: the stored choice, or else the system's preference.
// A classic script, because a module would run after the page has been drawn.
(() => {
  const STORAGE_KEY = "modelforge-shade";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem(STORAGE_KEY); } catch { return null; } };
  const isDark = () => (stored() ?? (system.matches ? "dark" : "light")) === "dark";

  function apply() {
    document.documentElement.classList.toggle("dark", isDark());
    // Gradio sets the class of the body from the system preference alone.
    if (document.body && document.body.classList.contains("dark") !== isDark()) document.body.classList.toggle("dark", isDark());
    document.querySelector('meta[name="theme-color"]')?.setAttribute("content", isDark() ? "#1b1d21" : "#ffffff");
  }

  function toggle() {
    try { localStorage.setItem(STORAGE_KEY, isDark() ? "light" : "dark"); } catch { /* private window */ }
    apply();
  }

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    document.getElementById("shade")?.addEventListener("click", toggle);
  });
  addEventListener("storage", apply);
})();
