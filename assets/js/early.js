// Runs before the first paint: takes the shade that was chosen last, else the system's.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem("modelforge-shade"); } catch { return null; } };
  const isDark = () => (chosen() ?? (system.matches ? "dark" : "light")) === "dark";
  const apply = () => {
    document.documentElement.classList.toggle("dark", isDark());
    // Gradio sets the class of the body from the system alone.
    if (document.body && document.body.classList.contains("dark") !== isDark()) document.body.classList.toggle("dark", isDark());
    document.querySelector('meta[name="theme-color"]')?.setAttribute("content", isDark() ? "#1b1d21" : "#ffffff");
  };
  window.shade = { flip: () => { try { localStorage.setItem("modelforge-shade", isDark() ? "light" : "dark"); } catch { /* private window */ } apply(); } };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });
  addEventListener("storage", apply);
})();
