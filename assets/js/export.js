// The Export page: choose a run and a format, follow exports, download, copy and serve them.
import { actions, all, ask, call, copyText, create, dialog, find, findInput, load, newRequestId, onVisibility, patch, showFailure, store, whileDisabled } from "./page.js";

const ACTIVE_MS = 1000, IDLE_MS = 5000, TYPING_MS = 350, PENDING_MS = 250, CHOICE_KEY = "modelforge-export";
/** What is chosen, as an export request. @typedef {Record<string, any> & { run: string, adapters: [string, number][] }} Choice */

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  const page = find(".app", root), address = new URLSearchParams(location.search);
  /** @type {Choice} */
  let choice = { run: "", adapters: [], ...load(sessionStorage, CHOICE_KEY) };
  const linked = address.get("run") ?? address.get("selected");
  if (linked && linked !== choice.run) choice = { ...choice, run: linked, adapters: [] };
  let timer = 0, typing = 0, pending = 0, requests = 0, stamp = "";
  /** Exports whose difference is shown. @type {Set<string>} */
  const unfolded = new Set();
  /** What is chosen to be served, by the id of the field. @type {Record<string, string>} */
  const serving = {};

  /** @param {"open" | "plan_export"} name */
  async function refresh(name = "open") {
    const number = ++requests;
    clearTimeout(pending);
    pending = setTimeout(() => showPending(true), PENDING_MS);
    /** @type {import("./types").ExportReply | undefined} */
    const reply = await call(server, name, choice);
    if (number !== requests) return;
    clearTimeout(pending);
    showPending(false);
    if (!reply) return;
    show(reply.parts);
    choice = /** @type {Choice} */ (reply.choice);
    page.dataset.empty = String(!reply.has_runs);
    for (const button of all('[data-action="export-start"]', root)) button.setAttribute("aria-disabled", String(!reply.can_start));
    remember();
    mark();
    root.dataset.usable = "true";
  }

  /** Show that the figures belong to an earlier choice. @param {boolean} isPending */
  function showPending(isPending) {
    find(".export-page", root).setAttribute("aria-busy", String(isPending));
    find("#export-busy", root).textContent = isPending ? "Calculating…" : "";
  }

  async function follow() {
    clearTimeout(timer);
    /** @type {import("./types").ExportStatus | undefined} */
    const reply = await call(server, "follow");
    if (reply) {
      show(reply.parts);
      const now = reply.stamp || "none";
      // Sizes, free disk space and what an export waits for have changed.
      if (stamp && now !== stamp) refresh();
      stamp = now;
    }
    if (!document.hidden) timer = setTimeout(follow, reply?.is_active ? ACTIVE_MS : IDLE_MS);
  }

  function remember() {
    store(sessionStorage, CHOICE_KEY, choice);
    // The whole path, because Gradio sets a base that a bare query would be resolved against.
    if (choice.run) history.replaceState({}, "", `${location.pathname}?run=${encodeURIComponent(choice.run)}`);
  }

  /** @param {Record<string, string>} parts */
  function show(parts) {
    patch(parts);
    for (const button of all('[data-action="export-difference"]', root)) unfold(button, unfolded.has(button.id));
    for (const [id, value] of Object.entries(serving)) {
      const field = /** @type {HTMLInputElement | HTMLSelectElement | null} */ (document.getElementById(id));
      if (!field || field === document.activeElement) continue;
      const listed = field instanceof HTMLInputElement || [...field.options].some((option) => option.value === value);
      if (listed) field.value = value;
    }
  }

  /** Show what is chosen in the fields. */
  function mark() {
    for (const name of ["run", "format", "quantization", "precision"]) {
      for (const box of /** @type {HTMLInputElement[]} */ (all(`[name="export-${name}"]`, root))) box.checked = box.value === choice[name];
    }
    for (const name of ["repository", "content", "combination", "weight", "density"]) {
      const field = /** @type {HTMLInputElement | null} */ (root.querySelector(`#export-${name}`));
      if (field && field !== document.activeElement) field.value = String(choice[name] ?? "");
    }
    findInput("#export-private", root).checked = choice.private !== false;
    for (const box of /** @type {HTMLInputElement[]} */ (all("[data-combine]", root))) {
      const found = choice.adapters.find(([run]) => run === box.dataset.combine);
      box.checked = Boolean(found);
      const field = findInput(`#weight-${box.dataset.combine}`, root);
      if (found && field !== document.activeElement) field.value = String(found[1]);
    }
    if (choice.adapters.length && root.querySelector("#combine")) /** @type {HTMLDetailsElement} */ (find("#combine", root)).open = true;
    const isHub = choice.format === "hub";
    find("#hub", root).hidden = !isHub;
    const density = /** @type {HTMLElement | null} */ (root.querySelector("#density"));
    if (density) density.hidden = !/ties|dare/.test(choice.combination ?? "");
    const written = isHub ? choice.content : choice.format;
    find("#quantizations", root).hidden = !["gguf", "ollama"].includes(written);
    const precisions = find("#precisions", root);
    precisions.hidden = !["merged", "mlx"].includes(written) || !precisions.childElementCount;
  }

  /** @param {string} id @param {number} usual */
  function numberIn(id, usual) {
    const field = /** @type {HTMLInputElement | null} */ (root.querySelector(`#${id}`));
    const value = Number(field?.value.replace(",", "."));
    return field?.value.trim() && Number.isFinite(value) ? value : usual;
  }

  /** Read the fields that belong to the choice. */
  function read() {
    const value = (/** @type {string} */ id) => /** @type {HTMLInputElement | null} */ (root.querySelector(`#${id}`))?.value;
    choice.repository = value("export-repository") ?? "";
    choice.content = value("export-content") ?? "adapter";
    choice.private = findInput("#export-private", root).checked;
    choice.combination = value("export-combination") ?? "cat";
    choice.weight = numberIn("export-weight", 1);
    choice.density = numberIn("export-density", 0.5);
    const combined = /** @type {HTMLInputElement[]} */ (all("[data-combine]", root)).filter((box) => box.checked);
    choice.adapters = combined.map((box) => [box.dataset.combine ?? "", numberIn(`weight-${box.dataset.combine}`, 1)]);
  }

  root.addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    const kind = /^export-(run|format|quantization|precision)$/.exec(field.name)?.[1];
    if (field.id === "serve-switch") toggleServing(field);
    else if (field.id.startsWith("serve-")) serving[field.id] = field.value;
    else if (kind === "run" || field.id === "export-run-list") {
      if (!field.value) return;
      choice = { ...choice, run: field.value, adapters: [] };
      refresh();
    } else if (kind) {
      choice[kind] = field.value;
      mark();
      remember();
      refresh("plan_export");
    } else if (field.matches("#hub *, #combine *")) {
      clearTimeout(typing);
      read();
      mark();
      // Other sizes of the upload are shown with its format.
      refresh(field.id === "export-content" || field.matches("#combine *") ? "open" : "plan_export");
    }
  });
  root.addEventListener("input", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (field.id.startsWith("serve-") && field.type === "text") serving[field.id] = field.value;
    if (field.type !== "text" || !field.matches("#hub *, #combine *")) return;
    clearTimeout(typing);
    typing = setTimeout(() => { read(); refresh("plan_export"); }, TYPING_MS);
  });
  onVisibility((isVisible) => { if (isVisible) follow(); });

  /** Call a function that changes exports or serving, and show the result. @param {string} name @param {object} [request] @param {string} [place] */
  async function change(name, request = {}, place = "") {
    const reply = await call(server, name, request, undefined, place);
    const shown = follow();
    // Nothing has changed after an error, and a switch goes back at once.
    if (reply) await shown;
    return reply;
  }

  const showProgress = () => find('[data-part="export-progress"]', root).scrollIntoView({ block: "nearest" });
  // The button that was used is not there any more.
  const focusRest = () => find("#exports-title, #export-start, .empty-state a", root).focus();
  actions["export-start"] = (button) => whileDisabled(button, async () => {
    if (await change("start", { ...choice, request_id: newRequestId() }, "export-start")) showProgress();
  });
  actions["export-again"] = (button) => whileDisabled(button, async () => {
    if (await change("again", { export: button.dataset.export })) showProgress();
  });
  actions["export-push"] = (button) => whileDisabled(button, async () => {
    const field = create("input", "", { id: "push-repository", value: button.dataset.repository ?? "", placeholder: "user/name", maxLength: 193, required: true, autofocus: true });
    const label = create("label", "Repository ", { className: "amount" }), tick = create("label", "", { className: "tick" });
    const box = create("input", "", { type: "checkbox", checked: !button.dataset.public });
    label.append(field);
    tick.append(box, " Private");
    const text = create("p", "It is uploaded as it is, with its model card. The repository is made if it does not exist.");
    if (!(await dialog({ id: "push", title: "Upload to the Hugging Face Hub", body: [text, label, tick], submit: "Upload" }))) return;
    if (await change("push", { export: button.dataset.export, repository: field.value, private: box.checked })) showProgress();
  });
  actions["export-stop"] = (button) => whileDisabled(button, async () => {
    if (button.dataset.running && !(await ask("Stop this export?", "None of its files are kept.", "Stop"))) return;
    await change("stop", { export: button.dataset.export });
    focusRest();
  });
  actions["export-delete"] = (button) => whileDisabled(button, async () => {
    const { title, size } = button.dataset;
    const effect = `${size ? `${size} are freed. ` : ""}An export cannot be restored, but it can be made again while its run exists.`;
    if (!(await ask(`Delete ${title}?`, effect, "Delete"))) return;
    await change("delete", { export: button.dataset.export });
    focusRest();
  });
  /** @param {HTMLElement} button @param {boolean} isOpen */
  function unfold(button, isOpen) {
    button.setAttribute("aria-expanded", String(isOpen));
    button.textContent = isOpen ? "Hide difference" : "Show difference";
    find(`#${button.getAttribute("aria-controls")}`, root).hidden = !isOpen;
  }
  actions["export-difference"] = (button) => {
    if (!unfolded.delete(button.id)) unfolded.add(button.id);
    unfold(button, unfolded.has(button.id));
  };
  actions["copy-text"] = (button) => copyText(button.dataset.text ?? "");

  /** @param {string} what */
  async function serve(what) {
    const isOn = /** @type {HTMLInputElement | null} */ (root.querySelector("#serve-switch"))?.dataset.on;
    if (isOn) {
      if (!(await ask("Serve this one instead?", `${isOn} is not served any more then; one model fits.`, "Serve", false))) return undefined;
      // The panel has to be that of a server that is off, so that it can show why the start fails.
      await change("stop_serving");
    }
    const value = (/** @type {string} */ id) => serving[id] ?? /** @type {HTMLInputElement | null} */ (root.querySelector(`#${id}`))?.value ?? "";
    const request = { what, minutes: value("serve-minutes"), port: value("serve-port") };
    const reply = await change("serve_model", request, "serve");
    find("#serve", root).scrollIntoView({ block: "nearest" });
    return reply;
  }
  /** @param {HTMLInputElement} field */
  async function toggleServing(field) {
    showFailure("serve");
    const isDone = field.checked ? await serve(findInput("#serve-what", root).value) : await change("stop_serving");
    const now = /** @type {HTMLInputElement | null} */ (root.querySelector("#serve-switch"));
    if (!isDone && now === field) field.checked = !field.checked;
    document.getElementById("serve-switch")?.focus();
  }
  actions["serve-export"] = (button) => whileDisabled(button, () => serve(button.dataset.what ?? ""));
  actions["serve-stop"] = (button) => whileDisabled(button, () => change("stop_serving"));
  actions["serve-copy-key"] = async () => {
    /** @type {import("./types").KeyReply | undefined} */
    const reply = await call(server, "serving_key");
    if (reply) copyText(reply.key);
  };
  actions["serve-copy-example"] = async (button) => {
    /** @type {import("./types").KeyReply | undefined} */
    const reply = await call(server, "serving_key");
    const text = find(`[data-part="serve-${button.dataset.example}"]`, root).textContent ?? "";
    if (reply) copyText(text.replace("$KEY", reply.key).replace("api_key=KEY", `api_key="${reply.key}"`));
  };

  refresh().then(follow);
}
