// The row editor of the data card: one row by its number, left out or changed in a copy of the file.
import { actions, all, call, find, findInput, patch, whileDisabled } from "./page.js";
import { editsOf, seedOf, writeEdits } from "./next_run.js";

/** @typedef {Record<string, any>} Source */

/**
 * @param {HTMLElement} root @param {import("./page.js").Server} server @param {import("./train.js").Form} form
 * @param {{ sources: () => Source[], use: (sources: Source[]) => void }} data
 */
export function openRows(root, server, form, data) {
  const details = /** @type {HTMLDetailsElement} */ (find("#edit-rows", root));
  /** Rows that a report names. @type {number[]} */
  let flagged = [];
  let row = 1, requested = "", requests = 0;

  const edits = () => editsOf(form, data.sources());

  async function show() {
    if (!details.open || !data.sources().length) return;
    const { sources, left_out, changed } = edits(), seed = seedOf(form);
    const request = { sources, left_out, changed, seed, row }, key = JSON.stringify(request);
    if (key === requested) return;
    const number = ++requests;
    requested = key;
    const reply = await call(server, "show_row", request);
    if (number !== requests) return;
    if (!reply) { requested = ""; return; }
    patch(reply.parts);
    row = Number(findInput("#edit-number", root).value);
    for (const button of all('[data-action="edit-number"]', find("#flagged-rows", root))) button.setAttribute("aria-pressed", String(Number(button.dataset.row) === row));
  }
  details.addEventListener("toggle", show);

  actions["edit-number"] = (button) => { row = Number(button.dataset.row); show(); };
  root.addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (field.id !== "edit-number") return;
    event.stopPropagation();
    row = Math.max(1, Math.round(Number(field.value)) || 1);
    show();
  });

  /** @param {import("./next_run.js").Edits} next */
  async function write(next) {
    const sources = await writeEdits(server, form, next, "edit-row");
    if (!sources) return;
    data.use(sources);
    await show();
  }
  actions["row-out"] = (button) => whileDisabled(button, async () => {
    const next = edits(), number = Number(button.dataset.row), isOut = next.left_out.includes(number);
    next.left_out = isOut ? next.left_out.filter((each) => each !== number) : [...next.left_out, number];
    await write(next);
    document.getElementById("row-out")?.focus();
  });
  actions["row-save"] = (button) => whileDisabled(button, async () => {
    const next = edits(), boxes = /** @type {HTMLTextAreaElement[]} */ (all("[data-row-column]", details));
    next.changed[button.dataset.row ?? ""] = Object.fromEntries(boxes.map((box) => [box.dataset.rowColumn ?? "", box.value]));
    await write(next);
    document.getElementById("row-save")?.focus();
  });
  actions["row-undo"] = (button) => whileDisabled(button, async () => {
    const next = edits();
    delete next.changed[button.dataset.row ?? ""];
    await write(next);
    document.getElementById("row-save")?.focus();
  });

  /** Open the editor at the first of these rows, and list the others. @param {number[]} rows */
  function open(rows) {
    flagged = rows;
    row = rows[0];
    const list = find("#flagged-rows", root);
    list.hidden = rows.length < 2;
    list.replaceChildren(...(rows.length < 2 ? [] : [label(), ...flagged.map(flag)]));
    details.open = true;
    show();
  }
  function label() { const text = document.createElement("span"); text.textContent = "Rows to look at:"; text.className = "sub"; return text; }
  /** @param {number} number */
  function flag(number) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "filter", textContent: String(number) });
    Object.assign(button.dataset, { action: "edit-number", row: String(number) });
    button.setAttribute("aria-pressed", String(number === row));
    return button;
  }
  return { show, open };
}
