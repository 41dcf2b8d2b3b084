// Continue from a run that is over: resume it, train it longer, start from its adapter, or apply a fix.
import { FORM_KEY, actions, ask, create, dialog, newRequestId, openRun, problemText, store, toast, whileDisabled } from "./page.js";

/**
 * Post to the REST interface; return its reply, or undefined after a toast.
 * @param {string} path @param {object} body @param {(message: string) => Promise<undefined>} [whenBusy]
 */
async function post(path, body, whenBusy) {
  try {
    const reply = await fetch(`/api/${path}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const content = await reply.json();
    if (reply.ok) return content;
    if (reply.status === 409 && whenBusy && content.problems?.length) return await whenBusy(content.problems[0].what);
    toast(problemText(content) || "The server refused the request.", true);
  } catch {
    toast("The server does not respond. Check that it is still running.", true);
  }
  return undefined;
}

/** @param {HTMLElement} button */
const runOf = (button) => encodeURIComponent(button.dataset.run ?? "");

actions["resume-run"] = (button) => whileDisabled(button, async () => {
  const choice = document.querySelector("select#resume-step");
  // A run in the queue resumes from its newest checkpoint, so an earlier one is refused while this computer is in use.
  const isEarlier = choice instanceof HTMLSelectElement && choice.selectedIndex > 0;
  const reply = await post(`runs/${runOf(button)}/resume`, isEarlier ? { step: Number(choice.value) } : {}, isEarlier ? undefined : async (busy) => {
    const text = `${busy} This run can wait in the queue and resumes when its turn comes.`;
    if (await ask("This computer is in use", text, "Add to queue", false) && await post(`queue/${runOf(button)}`, {})) location.assign("/runs");
    return undefined;
  });
  if (reply) openRun(reply.id);
});

// The button names the checkpoint that is chosen.
document.addEventListener("change", (event) => {
  const choice = event.target, button = document.getElementById("resume-run");
  if (choice instanceof HTMLSelectElement && choice.id === "resume-step" && button) button.textContent = `Resume from ${choice.selectedOptions[0].text.toLowerCase()}`;
});

actions["continue-run"] = (button) => whileDisabled(button, async () => {
  const { unit = "epochs", text = "", amount = "1" } = button.dataset;
  const count = await askAmount(text, unit, amount);
  if (count === undefined) return;
  const reply = await post(`runs/${runOf(button)}/continue`, { [unit]: count, request_id: newRequestId() });
  if (reply) openRun(reply.id);
});

/** Ask how much longer to train; resolve to undefined if cancelled. @param {string} text @param {string} unit @param {string} amount */
async function askAmount(text, unit, amount) {
  const label = create("label", `Additional ${unit} `, { className: "amount" });
  const field = create("input", "", { type: "number", min: 1, max: 1e6, step: 1, value: amount, required: true, autofocus: true, id: "additional" });
  label.append(field);
  const isConfirmed = await dialog({ id: "continue", title: "Train longer?", body: [create("p", text), label], submit: "Start" });
  return isConfirmed ? Number(field.value) : undefined;
}

// Open the Train page with the settings of this run; nothing starts by itself.
actions["start-from-run"] = (button) => whileDisabled(button, async () => {
  try {
    const { config } = await (await fetch(`/api/runs/${runOf(button)}`)).json();
    const adapter = { ...config.adapter, start_from: button.dataset.run };
    delete adapter.init;
    store(sessionStorage, FORM_KEY, { profile: null, values: {}, recipe: { ...config, adapter }, adapterOf: button.dataset.run });
    location.assign("/?new=1");
  } catch {
    toast("The settings of this run cannot be read.", true);
  }
});

// Open the Train page with the settings that teach a new model to chat.
actions["teach-chat"] = (button) => {
  store(sessionStorage, FORM_KEY, { profile: null, values: JSON.parse(button.dataset.settings ?? "{}"), recipe: {} });
  location.assign("/?new=1");
};

// Add the run that trains in another way with the FLOPs of this growing model; the page shows it as waiting.
actions["compare-growth"] = (button) => whileDisabled(button, async () => {
  if (await post(`runs/${runOf(button)}/growth/comparisons`, { way: button.dataset.way })) location.reload();
});

actions["apply-fix"] = (button) => whileDisabled(button, async () => {
  if (!(await ask(`${button.textContent}?`, button.dataset.changes ?? "", "Start", false))) return;
  // One id per button: a click that is sent twice starts one run.
  button.dataset.request ??= newRequestId();
  const reply = await post(`runs/${runOf(button)}/retry?request_id=fix-${button.dataset.run}-${button.dataset.request}`, {});
  if (reply) openRun(reply.id);
});
