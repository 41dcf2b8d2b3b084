// The Runs page: search, filters, tags, and runs selected to compare, tag or delete.
import { FORM_KEY, actions, all, ask, call, create, dialog, find, findInput, onVisibility, patch, store, toast, whileDisabled } from "./page.js";
import { openRunImport } from "./run_import.js";
import { openQueue } from "./queue.js";
import { openSweeps } from "./sweeps.js";
import "./run_actions.js";

const PAGE_SIZE = 25, MORE = 50, MAX_COMPARED = 8, REFRESH_MS = 2000;
/** Keys of the request, their names in the address, and their defaults. @type {["query" | "group" | "tag" | "sort", string, string][]} */
const IN_ADDRESS = [["query", "q", ""], ["group", "show", ""], ["tag", "tag", ""], ["sort", "sort", "age"]];

/** @param {number} count */
const countRuns = (count) => (count === 1 ? "1 run" : `${count} runs`);

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  const search = findInput(".search", root), sort = findInput("#sort", root);
  const details = /** @type {HTMLDialogElement} */ (find("#run-details", root)), bar = find("#selection", root);
  const address = new URLSearchParams(location.search);
  /** @type {Record<"query" | "group" | "tag" | "sort", string> & { shown: number, opened: string[] }} */
  const request = { query: "", group: "", tag: "", sort: "age", shown: PAGE_SIZE, opened: [] };
  for (const [key, name, usual] of IN_ADDRESS) request[key] = address.get(name) ?? usual;
  /** @type {Set<string>} */
  const selected = new Set();
  let timer = 0, requests = 0, editedRun = "";
  search.value = request.query;
  sort.value = request.sort;
  openQueue(root, server);
  openRunImport(root);
  openSweeps(root, server, (sweep) => request.opened.push(sweep), () => refresh());

  async function refresh() {
    const number = ++requests;
    clearTimeout(timer);
    /** @type {import("./types").PollReply | undefined} */
    const reply = await call(server, "open", request);
    if (!reply || number !== requests) return;
    // Do not close an open menu under the pointer.
    if (!root.querySelector("details.menu[open]")) { patch(reply.parts); markSelected(); }
    root.dataset.usable = "true";
    if (reply.poll && !document.hidden) timer = setTimeout(refresh, REFRESH_MS);
  }

  function applyFilter() {
    request.shown = PAGE_SIZE;
    const query = new URLSearchParams();
    for (const [key, name, usual] of IN_ADDRESS) if (request[key] !== usual) query.set(name, request[key]);
    // The whole path, because Gradio sets a base that a bare query would be resolved against.
    history.replaceState({}, "", query.size ? `${location.pathname}?${query}` : location.pathname);
    refresh();
  }

  function markSelected() {
    for (const box of all("[data-select-run]", root)) /** @type {HTMLInputElement} */ (box).checked = selected.has(box.dataset.selectRun ?? "");
    bar.hidden = !selected.size;
    const hint = selected.size > MAX_COMPARED ? `; at most ${MAX_COMPARED} can be compared` : "";
    find("span", bar).textContent = selected.size === 1 ? "1 run selected; select another to compare" : `${countRuns(selected.size)} selected${hint}`;
    find('[data-action="compare"]', bar).setAttribute("aria-disabled", String(selected.size < 2 || selected.size > MAX_COMPARED));
  }

  search.addEventListener("input", () => { request.query = search.value; clearTimeout(timer); timer = setTimeout(applyFilter, 150); });
  sort.addEventListener("change", () => { request.sort = sort.value; applyFilter(); });
  root.addEventListener("change", (event) => {
    const box = /** @type {HTMLInputElement} */ (event.target), run = box.dataset.selectRun;
    if (!run) return;
    if (box.checked) selected.add(run);
    else selected.delete(run);
    markSelected();
  });
  document.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    for (const menu of all("details.menu[open]", root)) {
      if (!menu.contains(target) || target.closest(".menu a, .menu button")) /** @type {HTMLDetailsElement} */ (menu).open = false;
    }
  });
  root.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" ? /** @type {Element} */ (event.target).closest("details.menu[open]") : null;
    if (menu) { /** @type {HTMLDetailsElement} */ (menu).open = false; find("summary", menu).focus(); }
  });
  onVisibility((isVisible) => { if (isVisible) refresh(); });

  actions.filter = (button) => { request[/** @type {"group" | "tag"} */ (button.dataset.kind)] = button.dataset.value ?? ""; applyFilter(); };
  actions["show-all"] = () => { Object.assign(request, { query: "", group: "", tag: "" }); search.value = ""; applyFilter(); };
  actions["show-more"] = () => { request.shown += MORE; refresh(); };
  actions["clear-selection"] = () => { selected.clear(); markSelected(); };
  actions.compare = () => location.assign(`/compare?runs=${[...selected].map(encodeURIComponent).join(",")}`);

  actions["run-stop"] = async (button) => {
    if (!(await ask("Stop this run?", "The weights trained so far are kept.", "Stop and keep", false))) return;
    await call(server, "stop", { run: button.dataset.run });
    refresh();
  };
  /** Delete runs; they can be restored. @param {string[]} runs @param {string} what */
  async function deleteRuns(runs, what) {
    if (!(await call(server, "delete", { runs }))) return;
    for (const run of runs) selected.delete(run);
    toast(`${what} deleted.`, false, async () => { await call(server, "restore", { runs }); refresh(); });
    await refresh();
    search.focus();
  }
  actions["run-delete"] = (button) => whileDisabled(button, () => deleteRuns([button.dataset.run ?? ""], `“${button.dataset.name}”`));
  actions["delete-selection"] = (button) => whileDisabled(button, () => deleteRuns([...selected], countRuns(selected.size)));
  actions["tag-selection"] = async () => {
    const field = create("input", "", { id: "added-tags", maxLength: 420, required: true, autofocus: true });
    const label = create("label", "Tags, separated by commas ", { className: "amount" });
    label.append(field);
    if (!(await dialog({ id: "tag", title: `Tag ${countRuns(selected.size)}`, body: [label], submit: "Add tags" }))) return;
    if (await call(server, "tag", { runs: [...selected], tags: field.value })) refresh();
  };
  actions["run-edit"] = (button) => {
    editedRun = button.dataset.run ?? "";
    for (const part of ["name", "tags", "note"]) findInput(`#details-${part}`, details).value = button.dataset[part] ?? "";
    details.showModal();
  };
  actions["details-close"] = () => details.close();
  find("form", details).addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = (/** @type {string} */ part) => findInput(`#details-${part}`, details).value;
    const reply = await call(server, "annotate", { run: editedRun, name: value("name"), tags: value("tags"), note: value("note") });
    if (reply) { details.close(); refresh(); }
  });
  actions["run-reuse"] = async (button) => {
    const reply = await fetch(`/api/runs/${encodeURIComponent(button.dataset.run ?? "")}`);
    if (!reply.ok) { toast("The settings of this run cannot be read.", true); return; }
    const { config } = await reply.json();
    if (store(sessionStorage, FORM_KEY, { profile: null, values: {}, recipe: config })) location.assign("/?new=1");
    else toast("The browser does not store data for this page. Download the recipe and open it on the Train page.", true);
  };
  refresh();
}
