// The two models of the Chat page: which can be compared, how they are called, and what the server knows of them.
import { all, find } from "./page.js";
import { rest } from "./chat_state.js";

/** @typedef {import("./chat_state.js").Side} Side */
/** @typedef {import("./chat_state.js").Mode} Mode */
/** @typedef {import("./chat_state.js").ModelFacts} ModelFacts */

/**
 * @param {HTMLElement} root
 * @param {{ changed: (isMain: boolean) => unknown, described: (facts: ModelFacts) => void, forget: () => void }} handlers
 */
export function openPickers(root, { changed, described, forget }) {
  /** @param {string} id @returns {HTMLSelectElement | null} */
  const select = (id) => root.querySelector(`#${id}`);
  const main = () => select("chat-model")?.selectedOptions[0];
  const other = () => select("chat-other")?.selectedOptions[0];
  /** @type {ModelFacts | undefined} */
  let facts;

  root.addEventListener("change", (event) => {
    const { id } = /** @type {HTMLElement} */ (event.target);
    if (id !== "chat-model" && id !== "chat-other") return;
    if (id === "chat-model") offerOthers();
    changed(id === "chat-model");
  });

  /** Whether a model can be compared with the main one. @param {HTMLOptionElement} option */
  function isComparable(option) {
    const chosen = main()?.dataset ?? {};
    if (option.value === main()?.value) return false;
    if (option.dataset.tuned === "yes") return option.dataset.format === (chosen.format ?? "conversation");
    return isOwnBase(option) ? chosen.hasBase === "yes" : (chosen.format ?? "conversation") === "conversation";
  }
  /** Whether it is the base model of the run that is the main model. @param {HTMLOptionElement} option */
  const isOwnBase = (option) => main()?.dataset.tuned === "yes" && option.dataset.tuned === "no" && option.dataset.base === main()?.dataset.base;

  /** Choose what the main model is compared with: a model, or else its base model. @param {string} [wanted] */
  function offerOthers(wanted) {
    const list = select("chat-other");
    if (!list) return;
    const options = [...list.options];
    for (const option of options) option.disabled = !isComparable(option);
    const possible = options.filter((option) => !option.disabled);
    list.value = (possible.find((option) => option.value === wanted) ?? possible.find(isOwnBase) ?? possible[0])?.value ?? "";
    mark();
  }

  /** A mark beside each list: a dot for a tuned model, a square for a base model. */
  function mark() {
    for (const list of /** @type {HTMLSelectElement[]} */ (all(".side-picker select", root))) {
      const isTuned = list.selectedOptions[0]?.dataset.tuned === "yes";
      find(".mark", /** @type {HTMLElement} */ (list.parentElement)).classList.toggle("tuned", isTuned);
    }
  }

  /** @param {HTMLOptionElement | undefined} option @returns {Side | undefined} */
  function sideOf(option) {
    if (!option?.value) return undefined;
    // The base model of a run is the same model without its adapter, so that one loading serves both sides.
    if (isOwnBase(option) && option !== main() && main()?.dataset.hasBase === "yes") return { model: main()?.value ?? "", tuned: false };
    return { model: option.value, tuned: option.dataset.tuned === "yes" };
  }

  /** The option of a side in a list. @param {HTMLSelectElement} list @param {Side} side */
  function optionOf(list, side) {
    const own = [...list.options].find((option) => option.value === side.model);
    if (side.tuned || own?.dataset.tuned === "no") return own;
    return own && [...list.options].find((option) => option.dataset.tuned === "no" && option.value === own.dataset.base);
  }

  /** Why a mode is not possible; empty if it is. @param {Mode} mode */
  function reason(mode) {
    if (mode === "one") return "";
    if (!other()) return "There is no other model that answers the same kind of question.";
    if (mode === "blind" && main()?.dataset.tuned !== "yes" && other()?.dataset.tuned !== "yes") return "Votes are kept with a run: choose one.";
    return "";
  }

  return {
    reason,
    canUse: (/** @type {Mode} */ mode) => !reason(mode),
    model: () => main()?.value ?? "",
    other: () => other()?.value ?? "",
    format: () => /** @type {import("./chat_state.js").Format} */ (main()?.dataset.format ?? "conversation"),
    hasOwnBase: () => { const option = other(); return Boolean(option && isOwnBase(option)); },
    hasGpu: () => Boolean(facts?.gpus.length),
    context: () => facts?.context ?? null,
    /** The sides of a new chat, the main model last. @param {string} [wanted] @returns {Side[]} */
    sides(wanted) {
      offerOthers(wanted);
      return [sideOf(other()), sideOf(main())].filter((side) => side !== undefined);
    },
    /** Choose the models of a chat. @param {Side[]} sides */
    choose(sides) {
      const [list, others] = [select("chat-model"), select("chat-other")];
      const last = sides.at(-1);
      if (!list || !others || !last) return;
      list.value = optionOf(list, last)?.value ?? list.value;
      offerOthers(sides.length > 1 ? optionOf(others, sides[0])?.value : undefined);
    },
    /** Make sure that the models of a chat are in the lists; return whether one is missing. @param {Side[]} sides */
    async offer(sides) {
      const list = select("chat-model");
      if (!list) return true;
      return !sides.length || sides.some((side) => !optionOf(list, side));
    },
    /** Replace the lists and choose the same models again. @param {() => void} replace @param {string} model */
    keep(replace, model) {
      const kept = other()?.value;
      replace();
      const list = select("chat-model");
      if (list && [...list.options].some((option) => option.value === model)) list.value = model;
      offerOthers(kept);
    },
    /** What a side is called: its kind where that tells the sides apart, and else its name. @param {Side[]} sides @param {number} side */
    nameOf(sides, side) {
      const own = sides[side];
      if (!own) return "";
      if (sides.length < 2 || sides.filter((each) => each.tuned === own.tuned).length === 1) return own.tuned ? "tuned" : "base model";
      const list = select("chat-model");
      return (list && optionOf(list, own)?.dataset.name) || own.model;
    },
    /** Ask what the server knows of the main model. */
    async describe() {
      const model = main()?.value;
      if (!model || facts?.model === model) { if (facts) described(facts); return; }
      facts = undefined;
      forget();
      const reply = await rest("GET", `models/${model.split("/").map(encodeURIComponent).join("/")}`);
      if (!reply || main()?.value !== model) return;
      facts = { ...reply, model };
      described(reply);
    },
  };
}
