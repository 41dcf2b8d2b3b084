// Settings of another program on the Train page: read a dropped file or a pasted command line, show what it becomes, use it.
import { actions, all, call, create, dialog, find, findInput, load, patch, showFailure, store, toast, whileDisabled } from "./page.js";
import { showSettingsExport } from "./settings_export.js";

/** @typedef {import("./train.js").Form} Form */
/** @typedef {import("./types").ImportReply} ImportReply */
/** What is read: its name and text, the system it is read as, what the form keeps, and LLaMA-Factory's dataset_info.json. @typedef {{ name: string, text: string, system: string, keep: string[], dataset_info: string }} Source */

const KEY = "modelforge-import", MAX_BYTES = 1048576;
const INFO = "dataset_info.json", SETTINGS_FILE = /\.(?:ya?ml|json)$/i;

/** The parts of a form that settings replace. @param {Form} form */
const copyOf = (form) => ({ profile: form.profile, values: form.values, recipe: form.recipe, changes: form.changes, kept: form.kept, adapterOf: form.adapterOf, nextOf: form.nextOf, edits: form.edits });

/**
 * @param {HTMLElement} root @param {import("./page.js").Server} server @param {Form} form
 * @param {{ changed: (delay: number) => void, show: () => void, openRecipe: (name: string, text: string) => Promise<boolean> }} page
 */
export function openImport(root, server, form, { changed, show, openRecipe }) {
  /** @type {Source} */
  let source = load(sessionStorage, KEY) ?? { name: "", text: "", system: "", keep: [], dataset_info: "" };
  /** @type {ImportReply | null} */
  let latest = null;
  let reads = 0;
  const box = find("#import", root), field = /** @type {HTMLTextAreaElement} */ (find("#import-text", root));

  /** Read the source again; a reply to an older one is dropped. */
  async function read() {
    const number = ++reads;
    store(sessionStorage, KEY, source);
    showFailure("import");
    box.setAttribute("aria-busy", "true");
    /** @type {ImportReply | undefined} */
    const reply = await call(server, "read_settings", { ...form, ...source }, undefined, "import");
    if (number !== reads) return;
    box.setAttribute("aria-busy", "false");
    latest = reply?.is_read ? reply : null;
    patch(reply?.parts);
    for (const button of all('[data-action="import-use"]', root)) button.setAttribute("aria-disabled", String(!latest));
    if (latest) fold(true);
  }

  /** @param {boolean} isClosed */
  function fold(isClosed) {
    find("#import-fold", root).setAttribute("aria-expanded", String(!isClosed));
    find("#import-source", root).hidden = isClosed;
  }

  /** @param {string} name @param {string} text @param {string} [info] */
  function take(name, text, info = "") {
    source = { name, text, system: "", keep: [], dataset_info: info };
    field.value = text;
    latest = null;
  }

  /** Show the view; what was read before is read again. */
  function open() {
    document.title = "Import settings · ModelForge";
    field.value = source.text;
    fold(false);
    if (source.text) read();
    root.dataset.usable = "true";
  }

  const isOpen = () => new URLSearchParams(location.search).has("import");

  function goTo() {
    if (isOpen()) { open(); return; }
    history.pushState({}, "", "/?import=1");
    show();
  }

  function leave() {
    history.pushState({}, "", "/?new=1");
    show();
  }

  /**
   * Whether a dropped file holds settings, which are then shown; data is left to the data card.
   * @param {File} file @param {File[]} all the files that are dropped together @returns {Promise<boolean>}
   */
  async function takeFile(file, all) {
    const info = all.find((other) => other.name === INFO && other.size <= MAX_BYTES), isAlone = !all.some((other) => /\.ya?ml$/i.test(other.name));
    if (file.name === INFO) { if (isAlone) toast(`Drop ${INFO} together with the file of settings that names its data.`, true); return true; }
    const isJson = file.name.toLowerCase().endsWith(".json");
    if (!SETTINGS_FILE.test(file.name) || (isJson && file.size > MAX_BYTES)) return false;
    if (file.size > MAX_BYTES) { toast(`${file.name} is too large: a file of settings may have up to 1.0 MiB.`, true); return true; }
    const text = await file.text();
    // A list of rows is data.
    if (isJson && !text.trimStart().startsWith("{")) return false;
    /** @type {import("./types").SettingsKindReply | undefined} */
    const reply = await call(server, "settings_kind", { name: file.name, text });
    if (!reply || reply.kind === "data") return !reply;
    if (reply.kind === "recipe") {
      if (await openRecipe(file.name, text)) { toast(`The recipe ${file.name} is opened.`); if (isOpen()) leave(); }
      return true;
    }
    take(file.name, text, await info?.text());
    goTo();
    return true;
  }

  actions["import-open"] = goTo;
  actions["import-close"] = leave;
  actions["import-read"] = (button) => whileDisabled(button, async () => { take(source.text === field.value ? source.name : "", field.value); await read(); });

  root.addEventListener("change", async (event) => {
    const control = /** @type {HTMLInputElement} */ (event.target);
    if (control.id === "import-file" && control.files?.[0]) {
      const file = control.files[0];
      const text = file.size > MAX_BYTES ? "" : await file.text();
      control.value = "";
      if (!text) { showFailure("import", `${file.name} is empty, or larger than 1.0 MiB.`); return; }
      take(file.name, text);
      read();
    } else if (control.id === "import-as") {
      if (control.value === "recipe") { if (await openRecipe(source.name, source.text)) leave(); return; }
      source.system = control.value;
      read();
    } else if (control.dataset.keep) {
      source.keep = all("[data-keep]", box).filter((tick) => /** @type {HTMLInputElement} */ (tick).checked).map((tick) => tick.dataset.keep ?? "");
      read();
    }
  });

  actions["import-use"] = () => {
    if (!latest) return;
    const before = copyOf(form), { title, profile, values, recipe } = latest;
    Object.assign(form, { profile, values, recipe, changes: [], kept: [], adapterOf: null, nextOf: null, edits: null });
    leave();
    toast(`The settings of ${title} are used.`, false, () => { Object.assign(form, before); changed(0); });
  };

  actions["import-preset"] = async () => {
    if (!latest) return;
    const label = create("label", "Name", { className: "amount" }), name = create("input", "", { id: "preset-name", maxLength: 60, required: true, autocomplete: "off", value: `Like ${source.name.replace(/\.[^.]*$/, "")}`.replace(/[^\w ()+,-]/g, "_").trim() });
    label.append(name);
    const body = [create("p", "A preset holds the settings without the data.", { className: "help" }), label];
    if (!(await dialog({ id: "import-preset", title: "Save as preset", body, submit: "Save" }))) return;
    await call(server, "save_preset", { profile: latest.profile, values: {}, recipe: latest.recipe, name: name.value });
  };

  actions["import-export"] = (button) => whileDisabled(button, async () => {
    if (latest) await showSettingsExport(server, { profile: latest.profile, values: latest.values, recipe: latest.recipe });
  });

  // The table of options

  actions["import-filter"] = (button) => {
    const result = button.dataset.result ?? "", report = find("#import-report", root);
    for (const other of all(".filter", report)) other.setAttribute("aria-pressed", String(other === button));
    showLines("taken", false);
    showLines("defaults", false);
    for (const row of all("tr[data-result]", report)) row.hidden = result ? row.dataset.result !== result : row.dataset.result === "taken";
    for (const row of all("tr[data-fold]", report)) row.hidden = Boolean(result);
  };

  /** @param {string} key @param {boolean} isShown */
  function showLines(key, isShown) {
    const report = find("#import-report", root), button = report.querySelector(`[data-key="${key}"]`);
    if (!button) return;
    button.setAttribute("aria-expanded", String(isShown));
    button.textContent = isShown ? "Hide lines" : "Show lines";
    for (const row of all(key === "taken" ? 'tr[data-result="taken"]' : "tr.default", report)) row.hidden = !isShown;
    const fold = find(`[data-fold="${key}"]`, report), names = fold.querySelector(".names"), last = all('tr[data-result="taken"]', report).at(-1);
    if (names) /** @type {HTMLElement} */ (names).hidden = isShown;
    // The lines stand below the line that counts them.
    if (key === "taken" && last) for (const row of all('tr[data-result="taken"]', report).reverse()) fold.after(row);
  }
  actions["import-lines"] = (button) => showLines(button.dataset.key ?? "", button.getAttribute("aria-expanded") !== "true");

  return { open, takeFile, isOpen };
}
