// The data card of the Train page: uploads, column mapping, token view, data checks and lengths.
import { actions, all, ask, call, find, findInput, patch, problemText, showFailure, toast, whileDisabled } from "./page.js";
import { isFromNothing } from "./from_nothing.js";
import { openRows } from "./rows.js";
import { postLines } from "./streams.js";

/** @typedef {import("./types").DataFacts} DataFacts */
/** @typedef {Record<string, any>} Source */
/** @typedef {"columns" | "rows" | "tokens" | "checks" | "lengths"} Tab */

const SOURCES = "data.sources";
/** Fields of a source that say where it is or how much of it is used, not how it is read. */
const LOCATION_FIELDS = ["path", "subset", "split", "samples", "weight"];
const LOADING = {
  tokens: "The worker that would train tokenizes these rows. Its first start takes a few seconds …",
  lengths: "Counting tokens …",
  checks: "Checking every row …",
};

/**
 * @param {HTMLElement} root @param {import("./page.js").Server} server
 * @param {import("./train.js").Form} form
 * @param {{ changed: () => void, takeSettings: (file: File, all: File[]) => Promise<boolean> }} page `takeSettings` shows a file of settings
 */
export function openData(root, server, form, { changed, takeSettings }) {
  const content = find("#data-content", root), mapping = find("#mapping", root);
  // The request each tab has answered, so that the same one is not repeated.
  /** @type {Record<string, string>} */
  const requested = { checks: "", tokens: "", lengths: "" };
  /** @type {DataFacts | null} */
  let facts = null;
  /** @type {Tab} */
  let tab = "columns";
  let row = 1, asBatch = false, previewed = "", openedPaths = "", isLinkUsed = false;

  /** @param {string} part @param {string} text */
  const setText = (part, text) => { for (const node of all(`[data-part="${part}"]`, root)) node.textContent = text; };

  // Sources

  /** Use the one dataset of the setting `dataset`; an empty list overrides the sources of a recipe. */
  function useSingle() {
    if (form.recipe.data?.sources || form.recipe[SOURCES]) form.values[SOURCES] = [];
    else delete form.values[SOURCES];
    row = 1;
  }

  /** @param {Source[]} sources */
  function useSources(sources) {
    if (!sources.length) return;
    form.values.dataset = sources[0].path;
    // The user may choose again before the server has replied.
    if (facts) facts.sources = sources;
    const isPlain = Object.keys(sources[0]).every((name) => name === "path" || sources[0][name] == null);
    if (sources.length === 1 && isPlain) useSingle();
    else form.values[SOURCES] = sources;
    row = 1;
    changed();
  }

  const rows = openRows(root, server, form, { sources: () => facts?.sources ?? [], use: useSources });

  actions["remove-source"] = (button) => {
    const left = (facts?.sources ?? []).filter((_source, place) => place !== Number(button.dataset.place));
    if (left.length) { useSources(left); return; }
    delete form.values.dataset;
    useSingle();
    changed();
  };

  /** Add sources to the text of a new model; other trainings take them in place of theirs. @param {Source[]} sources */
  const addSources = (sources) => useSources(isFromNothing(form) && sources.length ? [...(form.values.dataset ? facts?.sources ?? [] : []), ...sources] : sources);

  actions["python-text"] = (button) => whileDisabled(button, async () => {
    /** @type {import("./types").DatasetReply | undefined} */
    const reply = await call(server, "use_python_text", undefined, undefined, "upload");
    if (reply) addSources([{ path: reply.dataset }]);
  });

  // Uploads

  const drop = find("#drop", root), picker = findInput("#file", root);
  // The whole page takes files: elsewhere the browser would open one and leave the page.
  const carriesFiles = (/** @type {DragEvent} */ event) => Boolean(event.dataTransfer?.types.includes("Files"));
  document.addEventListener("dragover", (event) => { if (carriesFiles(event)) { event.preventDefault(); drop.classList.add("over"); } });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    const folder = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.()).find((entry) => entry?.isDirectory);
    if (folder) { showFailure("upload"); refuse(`${folder.name} is a folder. Enter its path on this computer instead.`); return; }
    if (["form", "import"].includes(find(".app", root).dataset.mode ?? "")) uploadAll(event.dataTransfer?.files);
  });
  // Text that is pasted beside the fields is text of a new model.
  document.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text/plain") ?? "", isField = /** @type {HTMLElement} */ (event.target).closest?.("input, textarea, select");
    if (isField || !text.trim() || !isFromNothing(form) || find(".app", root).dataset.mode !== "form") return;
    event.preventDefault();
    uploadAll([new File([text], "pasted.txt", { type: "text/plain" })]);
  });
  picker.addEventListener("change", () => uploadAll(picker.files));

  /** @param {Iterable<File> | null | undefined} files */
  async function uploadAll(files) {
    /** @type {Source[]} */
    const sources = [];
    showFailure("upload");
    const all = [...(files ?? [])], isYaml = (/** @type {File} */ file) => /\.ya?ml$/i.test(file.name);
    for (const file of all.filter((file) => !isYaml(file))) {
      if (await takeSettings(file, all)) continue;
      const path = await upload(file);
      if (path) sources.push({ path });
    }
    setText("upload", "");
    picker.value = "";
    addSources(sources);
    // They may name data that is dropped with them.
    for (const file of all.filter(isYaml)) await takeSettings(file, all);
  }

  /** Files that are refused are all named below the drop area. @param {string} text */
  function refuse(text) {
    toast(text, true);
    showFailure("upload", [find('[data-failed="upload"]', root).textContent, text].filter(Boolean).join(" "));
  }

  /** @param {File} file @returns {Promise<string | null>} */
  function upload(file) {
    const limit = Number(picker.dataset.limit), gib = (/** @type {number} */ bytes) => (bytes / 2 ** 30).toFixed(1);
    if (file.size > limit) {
      refuse(`${file.name} has ${gib(file.size)} GiB; uploads may have up to ${gib(limit)} GiB. Enter its path on this computer instead.`);
      return Promise.resolve(null);
    }
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      const fail = (/** @type {string} */ text) => { refuse(text); resolve(null); };
      request.open("POST", `/ui/uploads?filename=${encodeURIComponent(file.name)}`);
      request.responseType = "json";
      request.upload.onprogress = (event) => setText("upload", `${file.name}: ${Math.round((100 * event.loaded) / (event.total || 1))} %`);
      request.onload = () => (request.status < 300 ? resolve(request.response.dataset) : fail(problemText(request.response) || "The file could not be uploaded."));
      request.onerror = () => fail("The upload was interrupted. Check that the server is still running.");
      setText("upload", `${file.name} …`);
      request.send(file);
    });
  }

  /** Download what the fields name, or what the button names: a source of the form that is not here yet. */
  actions["fetch-hub"] = (button) => whileDisabled(button, async () => {
    const offered = button.dataset.name, value = (/** @type {string} */ name) => findInput(`#hub-${name}`, root).value.trim() || null;
    const request = offered ? { name: offered, subset: button.dataset.subset, split: button.dataset.split } : { name: value("name"), subset: value("subset"), split: value("split") };
    if (!request.name) { setText("hub", "Enter owner/name, or an address s3:// or gs://."); find("#hub-name", root).focus(); return; }
    setText("hub", request.name.includes("://") ? "Contacting the storage …" : "Contacting the Hub …");
    try {
      /** @type {AsyncGenerator<import("./types").ProgressLine>} */
      const lines = postLines("/ui/fetch", request);
      for await (const line of lines) {
        setText("hub", line.error ?? line.progress ?? `${line.done} is downloaded.`);
        if (line.done && offered && !("use" in button.dataset)) changed();
        else if (line.done) addSources([{ path: request.name.includes("://") ? request.name : `hub:${request.name}`, ...(request.subset && { subset: request.subset }), ...(request.split && { split: request.split }) }]);
      }
    } catch { setText("hub", "The server does not respond."); }
  });

  // Column mapping

  actions["mapping-show"] = () => { find("#tab-data-columns", root).click(); mapping.querySelector("select")?.focus(); };
  actions["mapping-undo"] = () => useSources((facts?.sources ?? []).map((source) => Object.fromEntries(Object.entries(source).filter(([name]) => LOCATION_FIELDS.includes(name)))));
  mapping.addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target), name = field.dataset.map;
    const box = /** @type {HTMLElement | null} */ (field.closest("[data-source]"));
    if (!box || !facts) return;
    const sources = facts.sources.map((source) => ({ ...source })), source = sources[Number(box.dataset.source)];
    if (name) setSourceField(source, name, field.value);
    else setRoles(source, /** @type {any} */ (field), /** @type {any} */ (all("[data-role-of]", box)));
    useSources(sources);
  });

  /** Set what the rows of a file cannot be read without, such as the person of a chat. */
  actions["choose-of-file"] = (button) => {
    const sources = (facts?.sources ?? []).map((source) => ({ ...source })), { place, name = "", value = "" } = button.dataset;
    if (!sources[Number(place)]) return;
    setSourceField(sources[Number(place)], name, value);
    useSources(sources);
  };

  /** Give an unused column a role, as its list in the tab Columns does. */
  actions["give-role"] = (button) => {
    const { place, column, role = "" } = button.dataset;
    find("#tab-data-columns", root).click();
    const select = /** @type {HTMLSelectElement | undefined} */ (all(`[data-source="${place}"] [data-role-of]`, mapping).find((list) => list.dataset.roleOf === column));
    if (!select) return;
    select.value = role;
    select.focus();
    select.dispatchEvent(new Event("change", { bubbles: true }));
  };

  /**
   * Read a source by the roles above its columns, of which one was changed. Each role has one column; the changed one decides the type.
   * @param {Source} source @param {HTMLSelectElement} changed @param {HTMLSelectElement[]} selects
   */
  function setRoles(source, changed, selects) {
    for (const other of selects) if (other !== changed && other.value === changed.value) other.value = "";
    const typesOf = (/** @type {HTMLSelectElement} */ select) => (select.selectedOptions[0]?.dataset.types ?? "").split(" ").filter(Boolean);
    const sole = [changed, ...selects].map(typesOf).find((types) => types.length === 1);
    const type = sole?.[0] ?? (source.type === "auto" ? undefined : source.type) ?? typesOf(changed)[0];
    const isKept = (/** @type {string} */ name) => !(name.endsWith("_field") || (type !== "instruction" && name.startsWith("prompt_format")));
    for (const name of Object.keys(source)) if (!isKept(name) || (name === "message_property_mappings" && !["conversation", "preference"].includes(type))) delete source[name];
    for (const select of selects) if (typesOf(select).includes(type)) source[select.value] = select.dataset.roleOf;
    // The column of the system prompt has a switch, and replaces a fixed text.
    if (source.system_prompt_field) { source.system_prompt_type = "field"; delete source.system_prompt; }
    else if (source.system_prompt_type === "field") delete source.system_prompt_type;
    if (type && selects.some((select) => select.value)) source.type = type;
    else delete source.type;
    // A column that is not used stays so, also where its name or its texts suggest a use.
    const column = /** @type {string} */ (changed.dataset.roleOf);
    const stated = source.unused_columns ?? [];
    const unused = (Array.isArray(stated) ? stated : String(stated).split(",").map((name) => name.trim())).filter((name) => name && name !== column);
    if (!changed.value) unused.push(column);
    if (unused.length) source.unused_columns = unused;
    else delete source.unused_columns;
  }

  /** @param {Source} source @param {string} name @param {string} value */
  function setSourceField(source, name, value) {
    if (name.startsWith("in:")) {
      const names = { ...source.message_property_mappings, [name.slice(3)]: value };
      if (!value) delete names[name.slice(3)];
      if (Object.keys(names).length) source.message_property_mappings = names;
      else delete source.message_property_mappings;
    } else if (name === "type") {
      // Another row type has other columns.
      for (const old of Object.keys(source)) if (old.endsWith("_field") || old === "message_property_mappings") delete source[old];
      if (value === "auto") delete source.type;
      else source.type = value;
    } else if (value && value !== "none") source[name] = value;
    else delete source[name];
  }

  // Tabs

  root.addEventListener("tabchange", (event) => {
    const { id } = /** @type {HTMLElement} */ (event.target);
    if (!id.startsWith("tab-data-")) return;
    tab = /** @type {Tab} */ (id.slice("tab-data-".length));
    load();
  });
  actions["token-row"] = (button) => { row = Number(button.dataset.row); load(); };
  root.addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (field.id === "row-batch") { asBatch = field.checked; load(); }
    if (field.id !== "row-number") return;
    event.stopPropagation();
    row = Math.min(Math.max(1, Math.round(Number(field.value)) || 1), facts?.rows || 1);
    load();
  });

  const loading = (/** @type {string} */ text) => `<p class="help">${text}</p><div class="prog vague"><i></i></div>`;

  /**
   * Ask the server for a part of a tab; what it shows stays until the reply arrives.
   * @param {"checks" | "tokens" | "lengths"} part @param {string} key @param {string} name @param {object} request
   */
  async function loadPart(part, key, name, request) {
    if (requested[part] === key) return;
    requested[part] = key;
    const hasContent = root.querySelector(`[data-part="${part}"] :is(.tok, .bars)`);
    if (tab === part && !hasContent) patch({ [part]: loading(LOADING[part]) });
    const reply = await call(server, name, request);
    if (requested[part] !== key) return;
    if (!reply) { requested[part] = ""; patch({ [part]: "" }); return; }
    patch(reply.parts);
  }

  function load() {
    if (!facts) return;
    rows.show();
    const key = JSON.stringify([facts.key, form]);
    if (tab === "tokens" && facts.is_usable) loadPart("tokens", `${key} ${row} ${asBatch}`, "preview_tokens", { ...form, row, batch: asBatch });
    if (tab === "lengths" && facts.is_usable) loadPart("lengths", key, "measure_lengths", form);
    if (tab === "checks" || !facts.is_large) loadPart("checks", facts.key, "check_data", form);
  }

  actions.repair = (button) => whileDisabled(button, async () => {
    /** @type {import("./types").RepairReply | undefined} */
    let reply = await call(server, "repair_data", { ...form, code: button.dataset.code ?? "" }, undefined, "repair");
    if (reply?.question) {
      if (!(await ask("Remove these rows?", reply.question, "Remove"))) return;
      reply = await call(server, "repair_data", { ...form, code: button.dataset.code ?? "", allow_removal: true }, undefined, "repair");
    }
    if (!reply) return;
    useSources(reply.sources);
    find(`#tab-data-${tab}`, root).focus();
  });

  /** @param {DataFacts | null} next */
  function apply(next) {
    const isNew = facts?.key !== next?.key;
    facts = next;
    content.hidden = !next;
    if (!next) return;
    if (isNew) {
      patch({ "checks-count": "", "checks-brief": "" });
      row = Math.min(row, next.rows || 1);
      // Other data that cannot be read shows at once what helps: the checks, or the columns.
      const paths = JSON.stringify(next.sources.map((source) => source.path));
      if (!next.is_usable && paths !== openedPaths) find(`#tab-data-${next.open_tab}`, root).click();
      openedPaths = paths;
    }
    if (!next.is_usable) for (const part of ["tokens", "lengths"]) patch({ [part]: '<p class="help">This appears once the rows can be read.</p>' });
    load();
    if (next.is_usable) showLinked();
  }

  /** Show the rows that the address names: to edit them, or the first as the model sees it. */
  function showLinked() {
    const address = new URLSearchParams(location.search), linked = (address.get("row") ?? "").split(",").map(Number).filter((number) => number > 0);
    if (!linked.length || isLinkUsed) return;
    isLinkUsed = true;
    row = linked[0];
    find(address.has("edit") ? "#tab-data-rows" : "#tab-data-tokens", root).click();
    if (address.has("edit")) rows.open(linked);
    find(address.has("edit") ? "#edit-rows" : "#data-content", root).scrollIntoView({ block: "center" });
  }

  /** Show the first rows of a large file while the whole file is read. @param {() => boolean} isWanted */
  async function preview(isWanted) {
    const key = JSON.stringify([form.values.dataset, form.values[SOURCES]]);
    if (!form.values.dataset || key === previewed) return;
    previewed = key;
    const reply = await call(server, "preview_data", form);
    if (!Object.keys(reply?.parts ?? {}).length || !isWanted()) return;
    patch(reply.parts);
    content.hidden = false;
  }

  /** Return the values that say which data is chosen. @returns {Record<string, any>} */
  const chosen = () => Object.fromEntries(["dataset", SOURCES].filter((name) => name in form.values).map((name) => [name, form.values[name]]));

  return { useSingle, apply, preview, chosen };
}
