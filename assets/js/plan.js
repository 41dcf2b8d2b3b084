// The plan panel of the Train page: several settings in one click with undo, memory traces, and trial runs.
import { actions, all, call, find, patch } from "./page.js";

/** @typedef {import("./types").TrainReply} TrainReply */
/** @typedef {import("./types").TrialRunReply} TrialRunReply */

const TRACE_DELAY_MS = 600, POLL_MS = 700, MAX_TRACES = 2, MAX_CHANGES = 20;
const wait = (/** @type {number} */ ms) => new Promise((done) => setTimeout(done, ms));

/**
 * @param {HTMLElement} root @param {import("./page.js").Server} server @param {import("./train.js").Form} form
 * @param {{ apply: (reply: TrainReply) => void, changed: (delay: number) => void, check: () => Promise<unknown> }} page
 */
export function openPlan(root, server, form, page) {
  const changeLine = find(".applied", root), panel = find('.for-form .plan [data-part="plan"]', root);
  const startButtons = [find("#start", root), find("#dock-start", root)], trialButton = find("#trial-run", root);
  /** How often the memory of a plan was traced. @type {Map<string, number>} */
  const traces = new Map();
  /** @type {string | null} */
  let watched = null;

  // Several settings at once

  actions["apply-settings"] = (button) => {
    const values = JSON.parse(button.dataset.settings ?? "{}");
    const before = Object.fromEntries(Object.keys(values).map((name) => [name, form.values[name] ?? null]));
    form.changes = [...form.changes, { values, before, text: button.dataset.text ?? "" }].slice(-MAX_CHANGES);
    Object.assign(form.values, values);
    page.changed(0);
    find("button", changeLine).focus({ preventScroll: true });
  };
  actions["undo-settings"] = () => {
    const change = form.changes.pop();
    for (const [name, value] of Object.entries(change?.before ?? {})) {
      if (value === null) delete form.values[name];
      else form.values[name] = value;
    }
    page.changed(0);
  };

  /** Offer to undo the last change, unless one of its settings was edited since. */
  function showChange() {
    const isInForce = (/** @type {import("./train.js").Change} */ change) => Object.entries(change.values).every(([name, value]) => form.values[name] === value);
    while (form.changes.length && !isInForce(form.changes[form.changes.length - 1])) form.changes.pop();
    const last = form.changes.at(-1);
    changeLine.hidden = !last;
    if (last) find("span", changeLine).textContent = `Changed: ${last.text[0].toLowerCase()}${last.text.slice(1)}.`;
  }

  /** Keep the last plan in grey while a setting is invalid. Return the ids of the open details. @param {TrainReply} reply */
  function keepOldPlan(reply) {
    const isOld = !reply.has_plan && panel.dataset.planned === "true";
    if (isOld) delete reply.parts.plan;
    if (reply.has_plan) panel.dataset.planned = "true";
    panel.inert = isOld;
    find(".before", root).hidden = !isOld;
    return all("details[open]", panel).map((details) => details.id);
  }

  /** @param {TrainReply} reply @param {string[]} openDetails */
  function apply(reply, openDetails) {
    for (const id of openDetails) panel.querySelector(`#${id}`)?.setAttribute("open", "");
    showChange();
    if (reply.trial_run && reply.trial_run !== watched) watch(reply.trial_run);
    const isBusy = Boolean(watched ?? reply.trial_run);
    trialButton.setAttribute("aria-disabled", String(!reply.can_start || isBusy));
    for (const button of startButtons) {
      button.classList.toggle("go", !reply.exceeds_memory);
      if (isBusy) button.setAttribute("aria-disabled", "true");
    }
  }

  /** Ask for the memory traced through the model's code, at most twice per plan. @param {TrainReply} reply @param {() => boolean} isWanted */
  async function traceMemory(reply, isWanted) {
    const key = reply.trace_key, count = traces.get(key) ?? 0;
    if (!key || count >= MAX_TRACES) return;
    await wait(TRACE_DELAY_MS);
    if (!isWanted()) return;
    traces.set(key, count + 1);
    /** @type {TrainReply | undefined} */
    const traced = await call(server, "trace_memory", form);
    if (traced?.cards && isWanted()) page.apply(traced);
  }

  // Trial runs

  actions["trial-run"] = async (button) => {
    button.setAttribute("aria-disabled", "true");
    patch({ "trial-run": "" });
    /** @type {TrialRunReply | undefined} */
    const reply = await call(server, "start_trial_run", form, undefined, "start");
    if (reply) { patch(reply.parts); watch(reply.id); }
    else await page.check();
  };
  actions["stop-trial-run"] = async (button) => { patch((await call(server, "stop_trial_run", { id: button.dataset.id }))?.parts); };

  /** @param {string} id */
  async function watch(id) {
    watched = id;
    for (const button of [...startButtons, trialButton]) button.setAttribute("aria-disabled", "true");
    while (watched === id) {
      /** @type {TrialRunReply | undefined} */
      const reply = document.hidden ? undefined : await call(server, "show_trial_run", { id });
      if (reply) patch(reply.parts);
      if (reply && !reply.poll) { watched = null; await page.check(); }
      else await wait(POLL_MS);
    }
  }

  return { keepOldPlan, apply, traceMemory };
}
