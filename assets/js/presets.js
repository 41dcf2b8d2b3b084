// The dialog Presets of the Train page: store the chosen settings under a name, apply, rename and delete them.
import { actions, call, create, dialog, toast, whileDisabled } from "./page.js";

/** @typedef {import("./train.js").Form} Form */
/** @typedef {import("./types").PresetsReply} PresetsReply */
/** @typedef {import("./types").PresetReply} PresetReply */

/** @param {import("./page.js").Server} server @param {Form} form @param {(delay: number) => void} changed */
export function openPresets(server, form, changed) {
  /** @param {string} text @param {string} label @param {(button: HTMLElement) => unknown} act */
  const button = (text, label, act) => create("button", text, { className: "btn s", type: "button", ariaLabel: label, onclick: (/** @type {Event} */ event) => act(/** @type {HTMLElement} */ (event.currentTarget)) });

  /** @param {HTMLElement} list @param {PresetsReply} reply */
  function show(list, reply) {
    list.replaceChildren(...reply.presets.map((preset) => row(list, preset)), ...reply.shipped.map((preset) => shippedRow(list, preset)));
  }

  /** @param {HTMLElement} list @param {Record<string, string>} preset */
  function shippedRow(list, { name, description }) {
    const item = create("li"), title = create("span", name, { className: "name" }), buttons = create("span", "", { className: "buttons" });
    title.append(create("small", description, { className: "fine" }));
    buttons.append(button("Apply", `Apply ${name}`, () => { close(list); apply(name); }));
    item.append(title, buttons);
    return item;
  }

  /** @param {HTMLElement} list @param {Record<string, string>} preset */
  function row(list, { name, problem }) {
    const item = create("li"), title = create("span", name, { className: "name" }), buttons = create("span", "", { className: "buttons" });
    if (problem) title.append(create("small", problem, { className: "wrong" }));
    else buttons.append(button("Apply", `Apply ${name}`, () => { close(list); apply(name); }), button("Rename", `Rename ${name}`, () => rename(list, item, name)));
    buttons.append(button("Delete", `Delete ${name}`, () => { close(list); remove(name); }));
    item.append(title, buttons);
    return item;
  }

  const close = (/** @type {HTMLElement} */ node) => /** @type {HTMLDialogElement | null} */ (node.closest("dialog"))?.close();

  /** Show what changes, and apply the preset if that is confirmed. @param {string} name */
  async function apply(name) {
    /** @type {PresetReply | undefined} */
    const reply = await call(server, "apply_preset", { ...form, name });
    if (!reply) return;
    const changes = create("div", "", { innerHTML: reply.changes });
    if (!(await dialog({ id: "preset-changes", title: `Apply “${name}”?`, body: [changes], submit: "Apply" }))) return;
    const before = { profile: form.profile, values: form.values, recipe: form.recipe, changes: form.changes };
    Object.assign(form, { profile: reply.profile, values: reply.values, recipe: reply.recipe, changes: [] });
    changed(0);
    toast(`The preset “${name}” is applied.`, false, () => { Object.assign(form, before); changed(0); });
  }

  /** @param {HTMLElement} list @param {HTMLElement} item @param {string} name */
  function rename(list, item, name) {
    const field = create("input", "", { value: name, maxLength: 60, ariaLabel: `New name of ${name}` });
    const save = async () => {
      const reply = await call(server, "rename_preset", { name, new_name: field.value });
      if (reply) show(list, reply);
    };
    field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter") { event.preventDefault(); save(); } });
    item.replaceChildren(field, button("OK", `Rename ${name}`, (done) => whileDisabled(done, save)));
    field.select();
  }

  /** @param {string} name */
  async function remove(name) {
    /** @type {PresetReply | undefined} */
    const reply = await call(server, "delete_preset", { name });
    if (reply) toast(`The preset “${name}” is deleted.`, false, () => call(server, "restore_preset", { name, recipe: reply.recipe }));
  }

  actions.presets = (opener) => whileDisabled(opener, async () => {
    /** @type {PresetsReply | undefined} */
    const reply = await call(server, "list_presets");
    if (!reply) return;
    const list = create("ul", "", { className: "presets" });
    show(list, reply);
    const label = create("label", "Save your choices as", { className: "amount" });
    const name = create("input", "", { id: "preset-name", maxLength: 60, required: true, placeholder: "Name", autocomplete: "off" });
    const withModel = create("input", "", { type: "checkbox", id: "preset-model" }), tick = create("label", "", { className: "tick" });
    tick.append(withModel, "Include the model");
    label.append(name);
    const help = create("p", "A preset holds the settings that you have chosen, without the data.", { className: "help" });
    if (!(await dialog({ id: "presets", title: "Presets", body: [help, list, label, tick], submit: "Save" }))) return;
    await call(server, "save_preset", { ...form, name: name.value, with_model: withModel.checked });
  });
}
