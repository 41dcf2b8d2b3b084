// The queue: reorder, hold, schedule and remove runs on the Runs page; add a run on the Train page.
import { actions, ask, call, create, dialog, find, findInput, patch } from "./page.js";

/** @typedef {{ start_after: number | null, held: boolean }} Schedule */

/** Local time as a datetime input holds it. @param {number} time in milliseconds */
const localTime = (time) => new Date(time - new Date(time).getTimezoneOffset() * 60000).toISOString().slice(0, 16);

/**
 * Ask when a run may start and, for a new run, whether it is held.
 * @param {{ title: string, text: string, submit: string, startAfter?: number, canHold?: boolean }} options
 * @returns {Promise<Schedule | undefined>}
 */
async function askSchedule({ title, text, submit, startAfter = 0, canHold = false }) {
  const body = create("div");
  body.innerHTML = `<p></p><div class="f"><div class="lab"><label for="start-after">Start no earlier than</label></div>
    <div class="in"><input type="datetime-local" id="start-after"></div>
    <small class="hint">Leave it empty to start when its turn comes.</small></div>
    <label class="tick"><input type="checkbox" id="start-held"> Hold it until I release it</label>`;
  const field = findInput("#start-after", body), held = findInput("#start-held", body);
  find("p", body).textContent = text;
  find(".tick", body).hidden = !canHold;
  field.toggleAttribute("autofocus", !canHold);
  field.min = localTime(Date.now());
  if (startAfter * 1000 > Date.now()) field.value = localTime(startAfter * 1000);
  if (!(await dialog({ id: "schedule", title, body: [body], submit }))) return undefined;
  return { start_after: field.value ? new Date(field.value).getTime() / 1000 : null, held: held.checked };
}

/** The queue on the Runs page. @param {HTMLElement} root @param {import("./page.js").Server} server */
export function openQueue(root, server) {
  /** @param {string} what @param {object} [more] */
  const change = async (what, more = {}) => patch((await call(server, "change_queue", { change: what, ...more }))?.parts);

  actions.queue = async (button) => {
    const { what = "", run, name, at } = button.dataset, row = button.closest(".waiting-run");
    if (row && (what === "up" || what === "down")) {
      const position = [...(row.parentElement?.children ?? [])].indexOf(row) + 1;
      await change("move", { run, position: position + (what === "up" ? -1 : 1) });
    } else if (row && what === "remove") {
      if (!(await ask(`Remove “${name}”?`, "It has not started, so no training is lost.", "Remove"))) return;
      const next = row.nextElementSibling ?? row.previousElementSibling;
      const focused = next?.querySelector('[data-what="remove"]')?.id ?? "";
      await change("remove", { run });
      document.getElementById(focused)?.focus();
    } else if (what === "schedule") {
      const schedule = await askSchedule({ title: `When may “${name}” start?`, text: "It also waits for its turn.", submit: "Save", startAfter: Number(at) });
      if (schedule) await change("schedule", { run, start_after: schedule.start_after });
      document.getElementById(button.id)?.focus();
    } else await change(what, { run });
  };

  root.addEventListener("change", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (field.id === "queue-after-failure") change("after-failure", { on: field.checked });
  });
}

/**
 * Adding a run on the Train page. Returns a function that offers the queue when the GPU is in use.
 * @param {import("./page.js").Server} server
 * @param {() => object} request the form, with an id that makes one run of two clicks
 * @param {() => void} onAdded
 */
export function openEnqueue(server, request, onAdded) {
  let isAdding = false;
  /** @param {string} title @param {string} text */
  async function add(title, text) {
    const schedule = await askSchedule({ title, text, submit: "Add to queue", canHold: true });
    if (!schedule || isAdding) return;
    isAdding = true;
    const reply = await call(server, "enqueue", { ...request(), ...schedule });
    isAdding = false;
    if (reply) onAdded();
  }
  actions.enqueue = () => add("Add to queue", "It starts by itself when this computer is free and its turn comes.");
  return (/** @type {string} */ busy) => add("This computer is in use", `${busy} This run can wait in the queue.`);
}
