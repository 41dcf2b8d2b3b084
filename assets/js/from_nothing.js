// Start from nothing on the Train page: the same form with another model card. The form that is left is kept beside it.
import { actions, call, find, findInput, load, patch, store } from "./page.js";

/** @typedef {import("./train.js").Form} Form */
/** @typedef {import("./types").TrainReply} TrainReply */

const ENABLED = "pretraining.enabled", OTHER_KEY = "modelforge-form-other", DIAL_DELAY_MS = 250;
const EMPTY = { profile: null, values: {}, recipe: {}, changes: [], kept: [], adapterOf: null, nextOf: null, edits: null };

/** @param {Form} form */
export const isFromNothing = (form) => String(form.values[ENABLED] ?? form.recipe.pretraining?.enabled ?? form.recipe[ENABLED] ?? false) === "true";

/**
 * @param {HTMLElement} root @param {import("./page.js").Server} server @param {Form} form
 * @param {{ changed: (delay: number) => void, useSingle: () => void }} page
 */
export function openFromNothing(root, server, form, { changed, useSingle }) {
  const app = find(".app", root), dial = findInput("#dial", root), number = find('[data-part="dial-depth"]', root);
  const help = /** @type {HTMLDetailsElement} */ (find("#no-text", root));
  let timer = 0;
  /** @type {boolean | null} */
  let hadText = null;

  /** Exchange the form with the one of the other kind, which keeps the data of this one if it has none. */
  function exchange() {
    const wasFromNothing = isFromNothing(form), left = structuredClone(form), { dataset } = form.values;
    Object.assign(form, structuredClone(EMPTY), load(sessionStorage, OTHER_KEY) ?? {});
    store(sessionStorage, OTHER_KEY, left);
    if (wasFromNothing) { delete form.values[ENABLED]; if (isFromNothing(form)) form.values[ENABLED] = "false"; }
    else form.values[ENABLED] = "true";
    if (dataset && !form.values.dataset) form.values.dataset = dataset;
  }

  actions["from-nothing"] = actions["fine-tune"] = (_button, event) => {
    event.preventDefault();
    exchange();
    useSingle();
    changed(0);
    scrollTo(0, 0);
  };

  // The number follows the hand; the server is asked once it rests.
  dial.addEventListener("input", () => { number.textContent = dial.value; });

  // The menu of commands closes when something is chosen, or elsewhere.
  const menu = /** @type {HTMLDetailsElement} */ (find("#copy-as", root));
  document.addEventListener("click", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (!menu.contains(target) || target.closest("button")) menu.open = false;
  });

  /** Take the address into the form: `?from=nothing`. */
  function begin() {
    if (new URLSearchParams(location.search).get("from") === "nothing" && !isFromNothing(form)) exchange();
  }

  /** Show the cards of the new model, and draw the curve after a pause. @param {TrainReply} reply @param {() => boolean} isWanted */
  function apply(reply, isWanted) {
    const isOn = reply.values[ENABLED] === "true";
    app.dataset.from = isOn ? "nothing" : "";
    if (app.dataset.mode === "form") {
      document.title = isOn ? "Start from nothing · ModelForge" : "Train · ModelForge";
      const address = new URLSearchParams(location.search);
      if (isOn !== (address.get("from") === "nothing")) history.replaceState({}, "", isOn ? "/?from=nothing" : "/?new=1");
    }
    if (!isOn) return;
    // Help for those without text is open until there is some.
    const hasText = Boolean(reply.values.dataset.trim());
    if (hasText !== hadText) help.open = !hasText;
    hadText = hasText;
    number.textContent = dial.value = reply.values["pretraining.depth"];
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const drawn = await call(server, "show_dial", form);
      if (drawn && isWanted()) patch(drawn.parts);
    }, DIAL_DELAY_MS);
  }

  return { begin, apply };
}
