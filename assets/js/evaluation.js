// The Evaluation tab of a run: start, follow and stop an evaluation, show its report, and prepare the next run.
import { actions, all, ask, call, find, findInput, newRequestId, onVisibility, patch, showFailure, whileDisabled } from "./page.js";
import { change, leaveOut, leftOut, valuesOf } from "./next_run.js";

const ACTIVE_MS = 1000, TYPING_MS = 400;

/** What is shown. @type {{ root: HTMLElement, server: import("./page.js").Server, run: string, chosen: string, isFormOpen: boolean } | null} */
let shown = null;
let timer = 0, typing = 0, requests = 0, stamp = "";

/** @param {HTMLElement} root @param {import("./page.js").Server} server @param {string} run */
export function openEvaluation(root, server, run) {
  if (shown?.run === run) return;
  shown = { root, server, run, chosen: "", isFormOpen: false };
  stamp = "";
  refresh();
}

export function closeEvaluation() { shown = null; clearTimeout(timer); }

async function refresh() {
  clearTimeout(timer);
  if (!shown) return;
  const { server, run, chosen, root } = shown, number = ++requests;
  /** @type {import("./types").EvaluationReply | undefined} */
  const reply = await call(server, "show_evaluation", { run, evaluation: chosen });
  if (!reply || number !== requests || shown?.run !== run) return;
  const isNew = stamp !== "" && stamp !== reply.stamp;
  stamp = reply.stamp || "none";
  // A new report is shown in place of the one that was chosen.
  if (isNew && chosen && !reply.is_active) { shown.chosen = ""; await refresh(); return; }
  patch(reply.parts);
  showForm(reply.is_first);
  markRows();
  if (!find("#evaluation-form", root).hidden) predict();
  if (reply.is_active && !document.hidden) timer = setTimeout(refresh, ACTIVE_MS);
}

/** @param {boolean} isFirst */
function showForm(isFirst) {
  if (shown) find("#evaluation-form", shown.root).hidden = !isFirst && !shown.isFormOpen;
}

onVisibility((isVisible) => { if (isVisible) refresh(); });

/** The fields as a request. @param {HTMLElement} root */
function request(root) {
  const value = (/** @type {string} */ name) => findInput(`#evaluation-${name}`, root).value;
  const isOn = (/** @type {string} */ name) => findInput(`#evaluation-${name}`, root).checked;
  return { run: shown?.run, rows: value("rows"), prompts: value("prompts"), tasks: value("tasks"), answers: isOn("answers"), prompted: isOn("prompted"), general: isOn("general") };
}

async function predict() {
  if (!shown || !shown.root.querySelector("#evaluate")) return;
  const { root, server, run } = shown;
  const reply = await call(server, "predict_evaluation", request(root));
  if (!reply || shown?.run !== run) return;
  patch(reply.parts);
  // What cannot be predicted cannot be started either.
  find("#evaluate", root).setAttribute("aria-disabled", String(Boolean(root.querySelector('[data-part="evaluation-prediction"] .wrong'))));
}

for (const kind of ["input", "change"]) {
  document.addEventListener(kind, (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (!shown) return;
    if (field.id === "evaluation-pick") {
      if (kind !== "change") return;
      shown.chosen = field.value;
      refresh();
    } else if (field.closest?.("#evaluation-form")) {
      clearTimeout(typing);
      typing = setTimeout(predict, TYPING_MS);
    }
  });
}

actions.evaluate = (button) => whileDisabled(button, async () => {
  if (!shown) return;
  button.dataset.request ??= newRequestId();
  const reply = await call(shown.server, "evaluate", { ...request(shown.root), request_id: button.dataset.request }, undefined, "evaluate");
  if (!reply || !shown) return;
  delete button.dataset.request;
  shown.isFormOpen = false;
  shown.chosen = "";
  await refresh();
  shown?.root.querySelector('[data-part="evaluation-progress"]')?.scrollIntoView({ block: "nearest" });
  /** @type {HTMLElement | null} */ (document.getElementById("evaluation-stop"))?.focus();
});

actions["evaluate-again"] = () => {
  if (!shown) return;
  shown.isFormOpen = true;
  showForm(false);
  predict();
  const form = find("#evaluation-form", shown.root);
  form.scrollIntoView({ block: "center" });
  /** @type {HTMLElement | null} */ (form.querySelector("input"))?.focus();
};
actions["evaluate-close"] = () => {
  if (!shown) return;
  shown.isFormOpen = false;
  showForm(false);
  document.getElementById("evaluate-again")?.focus();
};

actions["evaluation-stop"] = (button) => whileDisabled(button, async () => {
  if (!shown) return;
  await call(shown.server, "stop_evaluation", { evaluation: button.dataset.evaluation });
  await refresh();
  find("#tab-run-evaluation", shown?.root).focus();
});

actions["evaluation-delete"] = (button) => whileDisabled(button, async () => {
  if (!shown || !(await ask("Delete this evaluation?", "Its report and its answers cannot be restored; the run is not changed.", "Delete"))) return;
  await call(shown.server, "delete_evaluation", { evaluation: button.dataset.evaluation });
  shown.chosen = "";
  await refresh();
  find("#tab-run-evaluation", shown?.root).focus();
});

// The next run

const openForm = () => location.assign("/?new=1");

actions["mix-general"] = (button) => whileDisabled(button, () => prepareWith("mix_general", button));
actions["hold-out"] = (button) => whileDisabled(button, () => prepareWith("hold_out_rows", button));

/** @param {"mix_general" | "hold_out_rows"} name @param {HTMLElement} button */
async function prepareWith(name, button) {
  if (!shown) return;
  const { server, run } = shown;
  /** @type {import("./types").NextRunReply | undefined} */
  const reply = await call(server, name, { run, values: valuesOf(run), rows: Number(button.dataset.rows) });
  if (reply && await change(run, reply.values)) openForm();
}

/** @param {HTMLElement} button */
const rowsOf = (button) => (button.dataset.row ?? "").split(",").map(Number);

actions["leave-out"] = (button) => whileDisabled(button, async () => {
  if (!shown) return;
  const isOut = button.dataset.out !== "yes";
  if (await leaveOut(shown.server, shown.run, rowsOf(button), isOut)) markRows();
});

/** Show which rows the next run leaves out. */
function markRows() {
  if (!shown) return;
  const out = leftOut(shown.run);
  for (const button of all('[data-action="leave-out"]', shown.root)) {
    const isOut = rowsOf(button).every((row) => out.has(row));
    button.dataset.usual ??= button.textContent ?? "";
    button.dataset.label ??= button.getAttribute("aria-label") ?? "";
    button.dataset.out = isOut ? "yes" : "no";
    button.textContent = isOut ? "Use again" : button.dataset.usual;
    button.setAttribute("aria-label", isOut ? button.dataset.label.replace(/^Leave (one )?out( of)?/, "Use again") : button.dataset.label);
    button.closest(".flagged")?.classList.toggle("out", isOut);
  }
  const next = document.getElementById("open-next");
  if (next) next.hidden = !out.size;
}
actions["open-next"] = openForm;

actions["edit-row"] = (button, event) => openRow(button, event, "&edit=1");
actions["show-row"] = (button, event) => openRow(button, event, "");

/** Open a row on the data card of the next run. @param {HTMLElement} button @param {Event} event @param {string} more */
async function openRow(button, event, more) {
  event.preventDefault();
  if (!shown || !(await change(shown.run, {}))) return;
  const out = leftOut(shown.run), row = Number(button.dataset.row);
  // What the model sees are the rows of the copy; only the editor counts those that are left out.
  const isEdited = more || out.has(row);
  const number = isEdited ? button.dataset.row ?? "" : String(row - [...out].filter((each) => each < row).length);
  location.assign(`/?new=1&row=${encodeURIComponent(number)}${isEdited ? "&edit=1" : ""}`);
}

actions["see-forgotten"] = () => {
  if (!shown) return;
  find("#tab-run-evaluation", shown.root).click();
  document.getElementById("forgotten")?.scrollIntoView();
};
