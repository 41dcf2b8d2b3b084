// The Compare page: tables and charts of the runs in the address.
import { showCharts } from "./charts.js";
import { actions, call, patch } from "./page.js";

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  let axis = "step";
  async function refresh() {
    /** @type {import("./types").CompareReply | undefined} */
    const reply = await call(server, "open", { runs: new URLSearchParams(location.search).get("runs") ?? "", axis });
    if (reply) { patch(reply.parts); showCharts(reply.charts); }
    root.dataset.usable = "true";
  }
  actions.axis = (button) => { axis = button.dataset.axis ?? "step"; refresh(); };
  refresh();
}
