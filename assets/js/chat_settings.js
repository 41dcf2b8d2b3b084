// The settings of the Chat page: where each value comes from, resetting it, and which are possible.
import { actions, all, create, find, findInput } from "./page.js";

/** @typedef {import("./chat_state.js").Settings} Settings */
/** @typedef {import("./chat_state.js").ModelFacts} ModelFacts */

/** @param {HTMLElement} root @param {() => void} changed is called after each change */
export function openSettings(root, changed) {
  const page = find(".chat-page", root), form = /** @type {HTMLFormElement} */ (find("#chat-settings", root));
  const system = area("#system"), tools = area("#tools"), passage = area("#passage");
  const device = /** @type {HTMLSelectElement} */ (find("#device", root)), toolBox = /** @type {HTMLDetailsElement} */ (find(".tools-of", root));
  const numbers = /** @type {HTMLInputElement[]} */ (all('input[type="number"]', form));
  /** What the model was trained with. @type {{ system: string, tools: object[] }} */
  let model = { system: "", tools: [] };

  /** @param {string} selector */
  function area(selector) { return /** @type {HTMLTextAreaElement} */ (find(selector, root)); }

  /** @returns {(HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement)[]} */
  const fields = () => [system, ...numbers, device, tools];
  /** @param {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} field */
  const usual = (field) => (field instanceof HTMLInputElement ? field.defaultValue : "");

  /** Show where each value comes from: `default`, `model` or `you`. */
  function mark() {
    for (const field of fields()) {
      const box = /** @type {HTMLElement} */ (field.closest(".f")), isMine = field.value.trim() !== usual(field);
      // An empty field leaves the value to the model.
      const isOfModel = field === system ? Boolean(model.system) : field === tools ? model.tools.length > 0 : field instanceof HTMLInputElement && field.defaultValue === "" && field.name !== "seed";
      box.classList.toggle("mine", isMine);
      find("[data-origin]", box).textContent = isMine ? "you" : isOfModel ? "model" : "default";
      find(".undo", box).hidden = !isMine;
    }
    const written = system.value.trim();
    find("#system-help", root).textContent = written ? "" : model.system ? "As trained while it is empty." : "None while it is empty.";
    const names = model.tools.map((tool) => toolName(tool)).join(", ");
    find("#tools-help", root).textContent = names && !tools.value.trim() ? `As in the training data: ${names}. Write [] for none.` : "A list of functions. You type the result of a call yourself.";
    const value = (/** @type {string} */ id) => findInput(`#${id}`, root).value;
    const more = [value("top-k") && `top-k ${value("top-k")}`, value("repetition") && `repetition ${value("repetition")}`, value("seed") && `seed ${value("seed")}`];
    const prompt = written ? "own system prompt" : model.system ? "system prompt as trained" : "no system prompt";
    find("#chat-sum", root).textContent = [`temperature ${value("temperature")}`, `top-p ${value("top-p")}`, `${value("longest")} tokens`, ...more.filter(Boolean), prompt].join(" · ");
    find('[data-action="chat-defaults"]', root).setAttribute("aria-disabled", String(!fields().some((field) => field.value.trim() !== usual(field))));
    const next = Number(value("seed"));
    find("#seed-help", root).textContent = value("temperature") === "0" ? "Needs a temperature." : `Regenerate uses ${next + 1}.`;
  }

  /** @param {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} field */
  function reset(field) {
    field.value = usual(field);
    mark();
    changed();
  }
  actions["chat-reset"] = (button) => {
    const field = /** @type {HTMLInputElement} */ (find(`#${button.dataset.reset}`, root));
    reset(field);
    field.focus();
  };
  actions["chat-defaults"] = () => { for (const field of fields()) field.value = usual(field); mark(); changed(); };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", mark);
  form.addEventListener("change", () => { mark(); changed(); });
  passage.addEventListener("change", changed);

  // The settings stand beside the chat on a wide page, and fold into one line on a narrow one.
  const isWide = matchMedia("(min-width: 901px)");
  const setOpen = (/** @type {boolean} */ isOpen) => { page.dataset.settings = isOpen ? "open" : "closed"; };
  setOpen(isWide.matches);
  isWide.addEventListener("change", () => setOpen(isWide.matches));
  actions["chat-settings"] = () => {
    setOpen(page.dataset.settings !== "open");
    if (page.dataset.settings === "open") system.focus();
    else find('.settings-line [data-action="chat-settings"]', root).focus();
  };
  actions["chat-saved"] = () => { page.dataset.saved = page.dataset.saved === "open" ? "closed" : "open"; };

  /** @returns {object[] | null} null if the text is not a list of tools */
  function readTools() {
    if (toolBox.hidden) return [];
    if (!tools.value.trim()) return model.tools;
    try {
      const read = JSON.parse(tools.value);
      return Array.isArray(read) ? read : null;
    } catch { return null; }
  }

  return {
    mark,
    /** @returns {Settings} */
    read: () => ({
      system: system.value,
      sampling: Object.fromEntries(numbers.map((field) => [field.name, field.value === "" ? null : field.valueAsNumber])),
      tools: readTools() ?? [],
      passage: passage.value,
      device: device.value === "cpu" ? "cpu" : "auto",
      gpu: /^\d+$/.test(device.value) ? Number(device.value) : null,
    }),
    /** @param {Partial<Settings>} settings */
    write(settings) {
      system.value = settings.system ?? "";
      passage.value = settings.passage ?? "";
      for (const field of numbers) {
        const value = settings.sampling?.[field.name];
        field.value = value === undefined ? field.defaultValue : value === null ? "" : String(value);
      }
      tools.value = settings.tools?.length ? JSON.stringify(settings.tools, null, 1) : "";
      const chosen = settings.device === "cpu" ? "cpu" : String(settings.gpu ?? "");
      device.value = [...device.options].some((option) => option.value === chosen) ? chosen : "";
      mark();
    },
    /** Forget what another model was trained with. */
    forgetModel() { model = { system: "", tools: [] }; mark(); },
    /** Show what depends on the model. @param {ModelFacts} facts */
    setModel(facts) {
      model = { system: facts.system, tools: facts.tools };
      toolBox.hidden = facts.format !== "conversation";
      // A saved chat holds the tools that were sent.
      if (JSON.stringify(readTools()) === JSON.stringify(model.tools)) tools.value = "";
      if (model.tools.length) toolBox.open = true;
      system.placeholder = facts.system || "Who the model is and how it should answer";
      /** @type {HTMLElement} */ (system.closest(".f")).hidden = facts.format !== "conversation";
      const kept = device.value;
      const gpus = facts.gpus.map((gpu) => [String(gpu.index), `GPU ${gpu.index}: ${gpu.name}`]);
      const offered = [["", gpus.length ? "Automatic" : "CPU"], ...gpus, ...(gpus.length && facts.cpu.possible ? [["cpu", "CPU"]] : [])];
      device.replaceChildren(...offered.map(([value, text]) => create("option", text, { value })));
      device.value = offered.some(([value]) => value === kept) ? kept : "";
      /** @type {HTMLElement} */ (device.closest(".f")).hidden = !gpus.length;
      mark();
    },
    /** Show a setting that is not possible at its field; return whether there is none. */
    check() {
      const isList = readTools() !== null;
      find("#tools-error", root).textContent = isList ? "" : "This is not a JSON list. Write [ ] around the functions.";
      if (form.checkValidity() && isList) return true;
      setOpen(true);
      if (!isList) { toolBox.open = true; tools.focus(); }
      else form.reportValidity();
      return false;
    },
  };
}

/** @param {any} tool */
const toolName = (tool) => String(tool.function?.name ?? tool.name ?? "");
