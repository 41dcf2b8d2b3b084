// Sweeps on the Runs page: the form that starts one, stop, all trials, and the settings of the best.
import { FORM_KEY, actions, all, ask, call, find, findInput, load, patch, store, toast, whileDisabled } from "./page.js";

const TYPING_MS = 400;

/**
 * @param {HTMLElement} root @param {import("./page.js").Server} server
 * @param {(sweep: string) => void} showAll shows all trials of a sweep from now on @param {() => Promise<void>} refresh
 */
export function openSweeps(root, server, showAll, refresh) {
  const box = /** @type {HTMLDialogElement} */ (find("#sweep-dialog", root)), start = find("#sweep-start", box);
  let timer = 0, checks = 0;

  /** The form of the Train page, which the browser keeps. @param {string} source */
  const settingsOf = (source) => ({ source, form: load(sessionStorage, FORM_KEY) ?? {} });

  const fields = () => ({
    ...settingsOf(findInput("#sweep-source", box).value),
    vary: Object.fromEntries(all("[data-sweep-vary]:checked", box).map((tick) => [tick.dataset.sweepVary, findInput(`#values-${tick.dataset.sweepVary}`, box).value])),
    other: findInput("#sweep-other", box).value,
    on: all("[data-sweep-on]", box).length ? all("[data-sweep-on]:checked", box).map((tick) => tick.dataset.sweepOn ?? "") : null,
    budget: findInput("#sweep-budget", box).value,
  });

  /** @param {string} source */
  async function showForm(source) {
    /** @type {import("./types").SweepFormReply | undefined} */
    const reply = await call(server, "open_sweep_form", settingsOf(source));
    if (!reply) return;
    patch(reply.parts);
    start.setAttribute("aria-disabled", String(!reply.can_start));
    if (!box.open) box.showModal();
  }

  async function price() {
    const number = ++checks;
    const reply = await call(server, "price_sweep", fields());
    if (number === checks) patch(reply?.parts);
  }

  box.addEventListener("input", (event) => {
    const field = /** @type {HTMLElement} */ (event.target);
    if (field.id.startsWith("values-")) findInput(`#vary-${field.id.slice(7)}`, box).checked = true;
    if (field.id !== "sweep-budget") return;
    clearTimeout(timer);
    timer = setTimeout(price, TYPING_MS);
  });
  box.addEventListener("change", (event) => {
    const field = /** @type {HTMLSelectElement} */ (event.target);
    if (field.id === "sweep-source") showForm(field.value);
    if (field.dataset.sweepOn) price();
  });
  find("form", box).addEventListener("submit", (event) => {
    event.preventDefault();
    whileDisabled(start, async () => {
      if (!(await call(server, "start_sweep", fields(), undefined, "sweep"))) return;
      box.close();
      await refresh();
    });
  });

  actions["sweep-form"] = (button) => whileDisabled(button, () => showForm(button.dataset.run ?? ""));
  actions["sweep-close"] = () => box.close();
  actions["sweep-open"] = (button) => { showAll(button.dataset.sweep ?? ""); return refresh(); };
  actions["sweep-stop"] = async (button) => {
    const text = "The trial that is training ends. The result is that of the trials so far.";
    if (!(await ask("Stop the search?", text, "Stop here", false))) return;
    if (await call(server, "stop_sweep", { sweep: button.dataset.sweep })) await refresh();
  };
  actions["sweep-delete"] = async (button) => {
    const text = "The result is removed for good. The trials stay under the filter Trials until you delete them there.";
    if (!(await ask("Delete this search?", text, "Delete"))) return;
    if (await call(server, "delete_sweep", { sweep: button.dataset.sweep })) await refresh();
  };
  actions["sweep-use"] = async (button) => {
    /** @type {import("./types").RecipeReply | undefined} */
    const reply = await call(server, "use_trial", { sweep: button.dataset.sweep, trial: Number(button.dataset.trial) });
    if (!reply) return;
    if (store(sessionStorage, FORM_KEY, { profile: null, values: {}, recipe: reply.recipe })) location.assign("/?new=1");
    else toast("The browser does not store data for this page. Copy the values by hand.", true);
  };
}
