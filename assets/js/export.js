// The Export page: the files of the selected run.
import { call, onVisibility, patch } from "./page.js";

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  async function refresh() {
    const reply = await call(server, "open", { selected: new URLSearchParams(location.search).get("run") });
    if (!reply) return;
    patch(reply.parts);
    root.dataset.usable = "true";
  }
  onVisibility((isVisible) => { if (isVisible) refresh(); });
  root.addEventListener("change", (event) => {
    const field = /** @type {HTMLSelectElement} */ (event.target);
    if (field.id !== "export-run") return;
    history.replaceState({}, "", `${location.pathname}?run=${encodeURIComponent(field.value)}`);
    refresh();
  });
  refresh();
}
