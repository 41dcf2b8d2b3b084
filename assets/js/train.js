// The Train page: collect the settings, show what the server says about them, and follow the run after Start.
import { openData } from "./data.js";
import { openDownloads } from "./downloads.js";
import { FORM_KEY, actions, all, call, find, findInput, load, newRequestId, patch, saveFile, showFailure, store, toast, whileDisabled } from "./page.js";
import { isFromNothing, openFromNothing } from "./from_nothing.js";
import { openImport } from "./import.js";
import { askToNotify } from "./notify.js";
import { openNextRun } from "./next_run.js";
import { openPlan } from "./plan.js";
import { openPresets } from "./presets.js";
import { openEnqueue } from "./queue.js";
import { openNotebook } from "./notebook.js";
import { openSettingsExport } from "./settings_export.js";
import { follow, unfollow } from "./run.js";

/** @typedef {import("./types").TrainReply} TrainReply */
/** One click that set several values, and what they were before. @typedef {{ values: Record<string, unknown>, before: Record<string, unknown>, text: string }} Change */
/** What the user entered, the run whose adapter was chosen on its page, the run whose next one it is, and edited rows. @typedef {{ profile: string | null, target: string, values: Record<string, any>, recipe: Record<string, any>, changes: Change[], kept: string[], adapterOf: string | null, nextOf: string | null, edits: import("./next_run.js").Edits | null }} Form */

const TYPING_MS = 350, PATH_MS = 450, PROGRESS_MS = 5000, MAX_RECIPE_BYTES = 1048576, MAX_KEPT = 50;
const METHODS = { sft: "SFT", qlora: "QLoRA", dpo: "DPO", rlhf: "RLHF" };

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  const page = find(".app", root), startButtons = [find("#start", root), find("#dock-start", root)];
  const stored = load(sessionStorage, FORM_KEY) ?? {};
  /** @type {Form} */
  const form = { profile: stored.profile ?? null, target: stored.target ?? "", values: stored.values ?? {}, recipe: stored.recipe ?? {}, changes: stored.changes ?? [], kept: stored.kept ?? [], adapterOf: stored.adapterOf ?? null, nextOf: stored.nextOf ?? null, edits: stored.edits ?? null };
  openNextRun(form);
  /** @type {TrainReply | null} */
  let latest = null;
  /** @type {string | null} */
  let requestId = null;
  let checks = 0, timer = 0, isStarting = false;

  /** @param {string} selector @returns {HTMLInputElement[]} */
  const fields = (selector) => /** @type {HTMLInputElement[]} */ (all(selector, root));

  /** Models are rated only while their card is open. */
  const shownForm = () => ({ ...form, show_models: !find("#body-model", root).hidden });
  find('[aria-controls="body-model"]', root).addEventListener("click", () => changed(0));

  const imports = openImport(root, server, form, { changed, show, openRecipe: useRecipeText });
  const data = openData(root, server, form, { changed: () => changed(0), takeSettings: imports.takeFile });
  openPresets(server, form, changed);
  openNotebook(server, () => form);
  openSettingsExport(server, () => (page.dataset.mode === "run" ? { run: new URLSearchParams(location.search).get("run") ?? "" } : form));
  const followDownload = openDownloads(root, server, () => changed(0));
  const nothing = openFromNothing(root, server, form, { changed, useSingle: () => data.useSingle() });
  const plan = openPlan(root, server, form, { apply, changed, check });

  // Input

  /** Check the form after a delay; replies about what it was before are dropped. @param {number} delay in milliseconds */
  function changed(delay) {
    checks++;
    store(sessionStorage, FORM_KEY, form);
    clearTimeout(timer);
    timer = setTimeout(check, delay);
  }

  /** @param {string} name @param {string} value */
  function setValue(name, value) {
    if (name === "profile") form.profile = value;
    else if (name === "target") form.target = value;
    else form.values[name] = value;
    if (name === "dataset") data.useSingle();
    changed(0);
  }

  root.addEventListener("input", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target), name = field.dataset.textFor;
    if (["radio", "checkbox", "file"].includes(field.type)) return;
    if (field.name) { form.values[field.name] = field.value; changed(TYPING_MS); }
    else if (name) {
      if (field.value.trim()) form.values[name] = field.value;
      else delete form.values[name];
      if (name === "dataset") data.useSingle();
      changed(PATH_MS);
    }
  });

  root.addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (field.id === "recipe-file") openRecipe(field);
    else if (field.type === "checkbox" && field.name) setValue(field.name, String(field.checked));
    else if ((field.type === "radio" || field.tagName === "SELECT") && field.name) {
      const written = (/** @type {any} */ (field).selectedOptions?.[0] ?? field).dataset.settings;
      if (field.dataset.task) chooseSample(field);
      else if (written) { Object.assign(form.values, JSON.parse(written)); changed(0); }
      else setValue(field.name, field.value);
    }
  });

  /** Choose a sample, with its task and a strategy it supports; say what else that changes. @param {HTMLInputElement} tile */
  function chooseSample(tile) {
    const before = { ...form.values }, { task = "", strategies = "" } = tile.dataset, supported = strategies.split(" ");
    const strategy = latest?.values.strategy ?? "";
    if (task !== latest?.values.task) form.values.task = task;
    if (!supported.includes(strategy)) {
      form.values.strategy = supported[0];
      const method = METHODS[/** @type {keyof METHODS} */ (supported[0])] ?? supported[0];
      toast(`The method is now ${method}, for which this sample is made.`, false, () => { form.values = before; changed(0); });
    }
    setValue(tile.name, tile.value);
  }

  actions["reset-form"] = () => {
    const before = { profile: form.profile, values: form.values, recipe: form.recipe, changes: form.changes, kept: form.kept, nextOf: form.nextOf, edits: form.edits };
    const kind = isFromNothing(form) ? { "pretraining.enabled": "true" } : {};
    Object.assign(form, { profile: null, values: kind, recipe: {}, changes: [], kept: [], nextOf: null, edits: null });
    data.useSingle();
    changed(0);
    toast("All choices are discarded.", false, () => { Object.assign(form, before); changed(0); });
  };

  // Basic and All are one panel: All shows what Basic hides.
  root.addEventListener("tabchange", (event) => {
    const { id } = /** @type {HTMLElement} */ (event.target);
    if (id === "tab-settings-basic" || id === "tab-settings-all") find("#settings-basic", root).classList.toggle("basic-only", id === "tab-settings-basic");
  });

  // The search looks at all settings; with an empty field the chosen tab is shown again.
  const search = findInput("#setting-search", root);
  search.addEventListener("input", () => {
    const isSearching = search.value.trim() !== "";
    if (isSearching) find("#tab-settings-all", root).click();
    hideFields(new Set(latest?.hidden));
  });

  /** @param {HTMLElement} box */
  const isFound = (box) => {
    const hint = find(".hint", box), choices = box.querySelector("select")?.textContent ?? "";
    const text = `${box.dataset.settingBox} ${find("label", box).textContent} ${hint.dataset.usual ?? hint.textContent} ${choices}`.toLowerCase();
    return search.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  };

  // The Hub is searched on request only, never while typing.
  const query = findInput("#model-query", root);
  actions["model-search"] = (button) => whileDisabled(button, async () => {
    const task = fields('[name="task"]').find((tile) => tile.checked)?.value ?? "";
    patch((await call(server, "find_models", { ...form, query: query.value, task }, undefined, "hub-search"))?.parts);
    for (const tile of fields('input[type="radio"][name="model_name"]')) tile.checked = tile.value === latest?.values.model_name;
  });
  query.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); find('[data-action="model-search"]', root).click(); } });

  actions.reset = (button) => {
    const names = (button.dataset.setting ?? "").split(" ");
    for (const name of names) delete form.values[name];
    changed(0);
    document.getElementById(`f-${names[0]}`)?.focus();
  };
  actions.fix = (button) => setValue(button.dataset.setting ?? "", button.dataset.value ?? "");
  actions.keep = (button) => { form.kept = [...form.kept, button.dataset.key ?? ""].slice(-MAX_KEPT); changed(0); };
  actions.unkeep = () => { form.kept = []; changed(0); };
  actions["save-report"] = (button) => whileDisabled(button, async () => {
    /** @type {import("./types").PageReply | undefined} */
    const reply = await call(server, "save_report", request(), undefined, "start");
    if (reply) saveFile("preflight.html", reply.html);
  });
  actions["save-recipe"] = () => saveFile("recipe.yaml", find('[data-part="recipe"]', root).textContent ?? "");

  /** @param {HTMLInputElement} field */
  async function openRecipe(field) {
    const file = field.files?.[0];
    if (!file) return;
    const text = await file.text();
    field.value = "";
    if (file.size > MAX_RECIPE_BYTES) { const text = `${file.name} is too large: a recipe may have up to 1.0 MiB.`; toast(text, true); showFailure("recipe", text); return; }
    await useRecipeText(file.name, text);
  }

  /** Use the text of a recipe; return whether it can be read. @param {string} name @param {string} text */
  async function useRecipeText(name, text) {
    /** @type {import("./types").RecipeReply | undefined} */
    const reply = await call(server, "read_recipe", { name, text }, undefined, "recipe");
    if (!reply) return false;
    form.recipe = reply.recipe;
    form.values = reply.recipe.dataset ? {} : data.chosen();
    changed(0);
    return true;
  }

  /** Remove keys of the recipe, or give one another name. */
  actions["recipe-fix"] = (button) => {
    const recipe = structuredClone(form.recipe), to = JSON.parse(button.dataset.to ?? "null");
    const owner = (/** @type {string[]} */ path) => path.slice(0, -1).reduce((inner, key) => inner?.[key], recipe);
    for (const path of JSON.parse(button.dataset.paths ?? "[]")) {
      const inner = owner(path), key = path.at(-1);
      if (!inner || !Object.hasOwn(inner, key)) continue;
      if (to) owner(to)[to.at(-1)] = inner[key];
      delete inner[key];
    }
    useRecipe(recipe, "The recipe is changed.");
  };
  actions["recipe-remove"] = () => useRecipe({}, "The recipe is removed.");

  /** @param {Form["recipe"]} recipe @param {string} text */
  function useRecipe(recipe, text) {
    const before = form.recipe;
    form.recipe = recipe;
    find("#recipe-wrong", root).focus({ preventScroll: true });
    changed(0);
    toast(text, false, () => { form.recipe = before; changed(0); });
  }

  /** Show the field of a setting, in a card or in a tab. */
  actions["show-setting"] = (button) => {
    const box = find(`[data-setting-box~="${button.dataset.setting}"]`, root), card = find(".head", box.closest(".card") ?? root);
    if (box.closest("#settings-basic")) find(box.matches(".basic, .bad") ? "#tab-settings-basic" : "#tab-settings-all", root).click();
    else if (card.getAttribute("aria-expanded") !== "true") card.click();
    find("input, select, textarea", box).focus();
  };

  // Output

  /** @returns {Promise<TrainReply | undefined>} */
  async function check() {
    const number = ++checks;
    let isWaiting = true;
    data.preview(() => isWaiting && number === checks);
    /** @type {TrainReply | undefined} */
    const reply = await call(server, "check", shownForm());
    isWaiting = false;
    if (reply && number === checks) { apply(reply); plan.traceMemory(reply, () => number === checks); }
    return reply;
  }

  /** @param {TrainReply} reply */
  function apply(reply) {
    latest = reply;
    const openDetails = plan.keepOldPlan(reply);
    patch(reply.parts);
    hideFields(new Set(reply.hidden));
    showValues(reply);
    showNotes(reply);
    showSteps(reply.cards);
    data.apply(reply.data);
    showStart(reply);
    find("#reset-form", root).hidden = !form.profile && !Object.keys(form.values).some((name) => name !== "pretraining.enabled") && !Object.keys(form.recipe).length;
    find("#enqueue", root).setAttribute("aria-disabled", String(!reply.can_queue));
    plan.apply(reply, openDetails);
    const number = checks;
    nothing.apply(reply, () => number === checks);
    followDownload();
  }

  /** While a run is in progress, Start adds this one to the queue. @param {TrainReply} reply */
  function showStart(reply) {
    const isDisabled = !(reply.is_busy ? reply.can_queue : reply.can_start) || isStarting;
    for (const button of startButtons) {
      if (!isStarting) button.textContent = reply.is_busy ? "Start next" : "Start training";
      button.setAttribute("aria-disabled", String(isDisabled));
    }
    const count = find("#dock-cautions", root);
    count.hidden = !reply.cautions;
    count.textContent = reply.cautions === 1 ? "1 caution" : `${reply.cautions} cautions`;
  }

  actions["show-cautions"] = (button) => {
    const isOpen = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(isOpen));
    find("#cautions", root).classList.toggle("sheet", isOpen);
  };

  /** Follow the run in progress while the form is shown. */
  setInterval(async () => {
    if (page.dataset.mode !== "form" || document.hidden || !latest?.is_busy) return;
    const reply = await call(server, "show_progress", form);
    patch(reply?.parts);
    if (reply && !reply.parts["in-progress"]) await check();
  }, PROGRESS_MS);

  /** Show the values in force; leave alone what the user is typing. @param {TrainReply} reply */
  function showValues(reply) {
    const isTyping = (/** @type {HTMLInputElement} */ field, /** @type {string} */ name) => field === document.activeElement && name in form.values;
    for (const field of fields("[name]")) {
      const value = field.name === "profile" ? reply.profile : reply.values[field.name] ?? "";
      if (field.type === "radio") field.checked = field.value === value;
      else if (field.type === "checkbox") field.checked = value === "true";
      else if (!isTyping(field, field.name) && field.value !== value) field.value = value;
    }
    for (const field of fields("[data-text-for]")) {
      const name = field.dataset.textFor ?? "", value = reply.values[name] ?? "";
      const hasTile = fields(`input[type="radio"][name="${name}"]`).some((tile) => tile.value === value);
      if (!isTyping(field, name)) field.value = hasTile || value === field.dataset.unset ? "" : value;
      if (field.dataset.placeholder) field.placeholder = /** @type {HTMLElement | null} */ (root.querySelector(`[data-part="${field.dataset.placeholder}"] [data-follows]`))?.dataset.follows ?? "follows";
    }
  }

  /** Mark changed and invalid settings, and write the notes at each. @param {TrainReply} reply */
  function showNotes(reply) {
    const names = (/** @type {string} */ list = "") => list.split(" ");
    for (const box of fields("[data-setting-box]")) {
      const settings = names(box.dataset.settingBox), undo = /** @type {HTMLElement | null} */ (box.querySelector(".undo"));
      const isMine = settings.some((name) => name in form.values), isWrong = settings.some((name) => name in reply.errors);
      box.classList.toggle("mine", isMine);
      box.classList.toggle("bad", isWrong);
      box.querySelector(":is(input, select, textarea)")?.setAttribute("aria-invalid", String(isWrong));
      if (undo) undo.hidden = !isMine;
    }
    for (const note of fields("[data-error]")) note.textContent = names(note.dataset.error).map((name) => reply.errors[name] ?? "").join(" ").trim();
    for (const note of fields("[data-origin]")) {
      const origins = new Set(names(note.dataset.origin).map((name) => reply.origins[name] ?? ""));
      if (origins.size > 1) origins.delete("default");
      note.textContent = [...origins].join(", ");
    }
    for (const note of fields("[data-hint]")) {
      note.dataset.usual ??= note.textContent ?? "";
      note.textContent = [note.dataset.usual, reply.hints[note.dataset.hint ?? ""]].filter(Boolean).join(" ");
    }
  }

  /** Hide settings that do not apply; their values are kept. @param {Set<string>} hidden */
  function hideFields(hidden) {
    for (const group of all("#settings-basic .group", root)) {
      const boxes = all("[data-setting-box]", group);
      for (const box of boxes) box.hidden = (box.dataset.settingBox ?? "").split(" ").every((name) => hidden.has(name)) || !isFound(box);
      group.hidden = boxes.every((box) => box.hidden);
    }
    find("#setting-none", root).hidden = all("#settings-basic .group", root).some((group) => !group.hidden);
  }

  /** Mark the cards: done, wrong, and the first open one. @param {TrainReply["cards"]} cards */
  function showSteps(cards) {
    const next = Object.keys(cards).find((name) => cards[name] === "open");
    let place = 0;
    for (const circle of all("[data-step]", root)) {
      const name = circle.dataset.step ?? "", state = cards[name];
      circle.className = `n ${state === "open" ? (name === next ? "now" : "") : state}`;
      // Hidden cards are those of the other kind of training.
      if (!circle.closest(isFromNothing(form) ? ".for-tuning" : ".for-nothing")) place++;
      circle.textContent = state === "done" ? "✓" : state === "wrong" ? "!" : String(place);
    }
  }

  // Start, the queue, and the run

  // A click that is sent twice makes one run.
  const request = () => ({ ...form, request_id: (requestId ??= newRequestId()) });
  const forgetRequest = () => { requestId = null; };
  const offerQueue = openEnqueue(server, request, () => { onAdded(); changed(0); });

  /** A run is made: the next one is another, and does not start from the adapter that was chosen for this one. */
  function onAdded() {
    forgetRequest();
    if (form.adapterOf && form.recipe.adapter?.start_from === form.adapterOf) delete form.recipe.adapter.start_from;
    form.adapterOf = form.nextOf = null;
    store(sessionStorage, FORM_KEY, form);
  }

  actions.start = async () => {
    if (isStarting) return;
    isStarting = true;
    askToNotify();
    for (const button of startButtons) { button.textContent = "Starting …"; button.setAttribute("aria-disabled", "true"); }
    if (latest?.is_busy) {
      if (await call(server, "enqueue", request(), undefined, "start")) onAdded();
      isStarting = false;
      await check();
      return;
    }
    /** @type {import("./types").StartReply | undefined} */
    const reply = await call(server, "start", request(), forgetRequest, "start");
    isStarting = false;
    if (latest) showStart(latest);
    if (reply?.busy) {
      await offerQueue(reply.busy);
      await check();
    } else if (reply?.run) {
      onAdded();
      history.pushState({}, "", `/?run=${encodeURIComponent(reply.run)}`);
      show();
    } else await check();
  };

  actions["new-run"] = (_button, event) => { event.preventDefault(); history.pushState({}, "", "/?new=1"); show(); };
  addEventListener("popstate", show);

  async function show() {
    const address = new URLSearchParams(location.search), run = address.get("run");
    unfollow();
    if (run) { page.dataset.mode = "run"; follow(root, server, run); scrollTo(0, 0); return; }
    if (imports.isOpen()) { page.dataset.mode = "import"; imports.open(); scrollTo(0, 0); return; }
    nothing.begin();
    const number = checks;
    /** @type {TrainReply | undefined} */
    const reply = await call(server, "open", shownForm());
    if (!reply) return;
    if (reply.active && !address.has("new") && !address.has("from")) {
      patch(reply.parts);
      history.replaceState({}, "", `/?run=${encodeURIComponent(reply.active)}`);
      show();
      return;
    }
    page.dataset.mode = "form";
    if (number === checks) apply(reply);
    root.dataset.usable = "true";
    plan.traceMemory(reply, () => number === checks);
  }
  show();
}
