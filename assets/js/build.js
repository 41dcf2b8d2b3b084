// The Build page: a table of examples that is stored while it is written, and preference pairs (pairs.js).
import { FORM_KEY, actions, call, create, find, findInput, load, patch, store, toast, whileDisabled } from "./page.js";
import { openPairs } from "./pairs.js";

const STORAGE_KEY = "modelforge-examples", MAX_ROWS = 2000, MAX_TABLE_BYTES = 2 * 1048576;
const COLUMNS = ["system", "question", "answer"];
/** @typedef {Record<string, string>} Example */

/** Split cells copied from a spreadsheet: tabs separate columns, line ends rows; quotes hold both. @param {string} text */
function parseCells(text) {
  const rows = [[""]];
  let isQuoted = false;
  for (let place = 0; place < text.length; place += 1) {
    const letter = text[place], row = rows[rows.length - 1];
    if (isQuoted) {
      if (letter === '"' && text[place + 1] === '"') { row[row.length - 1] += '"'; place += 1; }
      else if (letter === '"') isQuoted = false;
      else row[row.length - 1] += letter;
    } else if (letter === '"' && row.at(-1) === "") isQuoted = true;
    else if (letter === "\t") row.push("");
    else if (letter === "\n") rows.push([""]);
    else if (letter !== "\r") row[row.length - 1] += letter;
  }
  while (rows.length > 1 && rows[rows.length - 1].every((cell) => !cell)) rows.pop();
  return rows;
}

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  const sheet = /** @type {HTMLTableSectionElement} */ (find("#sheet", root)), system = findInput("#with-system", root);

  /** Rows are built from elements, so pasted text is never HTML. @param {Example} [values] @returns {HTMLTableRowElement} */
  function addRow(values = {}) {
    const row = create("tr");
    row.append(create("td", "", { className: "place" }));
    for (const column of COLUMNS) {
      const box = create("textarea", "", { rows: 1, value: values[column] ?? "" }), cell = create("td", "", { className: column === "system" ? "sys" : "" });
      box.dataset.column = column;
      cell.append(box);
      row.append(cell);
    }
    const cell = create("td"), remove = create("button", "Remove", { type: "button", className: "btn s" });
    remove.dataset.action = "remove-row";
    cell.append(remove);
    row.append(cell);
    sheet.append(row);
    return row;
  }

  const boxes = (/** @type {HTMLTableRowElement} */ row) => [...row.querySelectorAll("textarea")];
  const removeButton = (/** @type {HTMLTableRowElement} */ row) => find('[data-action="remove-row"]', row);
  /** @returns {Example[]} */
  const values = () => [...sheet.rows].map((row) => Object.fromEntries(boxes(row).map((box) => [box.dataset.column ?? "", box.value])));

  function refresh() {
    [...sheet.rows].forEach((row, place) => {
      row.cells[0].textContent = String(place + 1);
      for (const box of boxes(row)) {
        const column = box.dataset.column ?? "";
        box.setAttribute("aria-label", `${column[0].toUpperCase()}${column.slice(1)} of row ${place + 1}`);
        box.id = `cell-${place + 1}-${column}`;
        box.style.height = "auto";
        box.style.height = `${Math.min(box.scrollHeight + 2, 220)}px`;
      }
      removeButton(row).setAttribute("aria-label", `Remove row ${place + 1}`);
    });
    const complete = values().filter((row) => row.question.trim() && row.answer.trim()).length;
    find("#written", root).textContent = `${complete} complete ${complete === 1 ? "example" : "examples"}`;
    store(localStorage, STORAGE_KEY, { system: system.checked, rows: values() });
  }

  function applySystem() { find(".sheet", root).classList.toggle("with-system", system.checked); refresh(); }
  system.addEventListener("change", applySystem);
  sheet.addEventListener("input", refresh);

  actions["add-row"] = () => { const row = addRow(); refresh(); boxes(row)[system.checked ? 0 : 1].focus(); };
  actions["remove-row"] = (button) => {
    const row = /** @type {HTMLTableRowElement} */ (button.closest("tr")), next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    if (!sheet.rows.length) addRow();
    refresh();
    removeButton(/** @type {HTMLTableRowElement} */ (next ?? sheet.rows[0])).focus();
  };

  sheet.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text/plain") ?? "", box = /** @type {HTMLElement} */ (event.target);
    if (!text.includes("\t")) return;
    event.preventDefault();
    const columns = COLUMNS.filter((column) => column !== "system" || system.checked), first = columns.indexOf(box.dataset.column ?? "");
    const cells = parseCells(text);
    let row = box.closest("tr");
    for (const line of cells.slice(0, MAX_ROWS)) {
      row ??= addRow();
      for (const [place, value] of line.entries()) {
        /** @type {HTMLTextAreaElement | null} */
        const target = row.querySelector(`[data-column="${columns[first + place]}"]`);
        if (target) target.value = value;
      }
      row = /** @type {HTMLTableRowElement | null} */ (row.nextElementSibling);
    }
    refresh();
    toast(`${cells.length} rows pasted.`);
  });

  findInput("#csv", root).addEventListener("change", async (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target), file = field.files?.[0];
    if (!file) return;
    if (file.size > MAX_TABLE_BYTES) toast("A table may have up to 2.0 MiB here. Drop larger files on the Train page.", true);
    else await importTable(file);
    field.value = "";
  });

  /** @param {File} file */
  async function importTable(file) {
    /** @type {import("./types").TableReply | undefined} */
    const reply = await call(server, "import_table", { name: file.name, text: await file.text() });
    if (!reply) return;
    for (const row of [...sheet.rows]) if (boxes(row).every((box) => !box.value.trim())) row.remove();
    for (const example of reply.rows) addRow(example);
    if (reply.rows.some((example) => example.system)) system.checked = true;
    applySystem();
    toast(`${reply.rows.length} rows from ${file.name}.`);
  }

  actions["write-save"] = (button) => whileDisabled(button, async () => {
    const rows = values().map((row) => (system.checked ? row : { ...row, system: "" }));
    /** @type {import("./types").DatasetReply | undefined} */
    const reply = await call(server, "save_examples", { name: findInput("#write-name", root).value, rows });
    if (!reply) return;
    localStorage.removeItem(STORAGE_KEY);
    useDataset(reply.dataset);
  });

  /** Open the Train page with the new dataset. @param {string} dataset */
  function useDataset(dataset) {
    const form = load(sessionStorage, FORM_KEY) ?? {}, formValues = { ...form.values, dataset };
    if (form.recipe?.data?.sources || form.recipe?.["data.sources"]) formValues["data.sources"] = [];
    else delete formValues["data.sources"];
    store(sessionStorage, FORM_KEY, { ...form, values: formValues });
    location.assign("/?new=1");
  }

  async function start() {
    const stored = load(localStorage, STORAGE_KEY) ?? {};
    system.checked = Boolean(stored.system);
    for (const row of stored.rows?.length ? stored.rows : [{}, {}, {}]) addRow(row);
    applySystem();
    if (new URLSearchParams(location.search).get("make") === "pairs") actions.tab(find("#tab-build-pairs", root), new Event("click"));
    const reply = await call(server, "open");
    patch(reply?.parts);
    root.dataset.usable = "true";
  }
  openPairs(root, server, useDataset);
  start();
}
