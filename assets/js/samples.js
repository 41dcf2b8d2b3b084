// The Samples tab of a run: a slider through time, and the prompts of the next run.
import { actions, all, create, dialog, find, findInput, toast } from "./page.js";
import { change, valuesOf } from "./next_run.js";

const PLAY_MS = 1300, MOST = 8, USUAL = 3, PROMPTS = "evaluation.sample_prompts", COUNT = "evaluation.samples";

/** The run that is shown, and the time that was chosen; null shows the newest. */
let run = "", timer = 0;
/** @type {number | null} */
let chosen = null;

/** @param {string} id */
export function openSamples(id) { run = id; chosen = null; stop(); }

const card = () => /** @type {HTMLElement | null} */ (document.querySelector("#samples-time"));
const last = () => Number(card()?.dataset.last ?? 0);
const steps = () => (findInput("#sample-step").dataset.steps ?? "").split(",").map(Number);

/** Show the answers of the chosen time; the parts may be new. @param {HTMLElement} root */
export function showSamples(root) {
  showPrompts();
  const box = card();
  if (!box || !root.querySelector("#sample-step")) return;
  const place = Math.min(chosen ?? last(), last()), slider = findInput("#sample-step", root), texts = find(`[data-sample-texts="${place}"]`, root).dataset;
  slider.value = String(steps()[place]);
  slider.setAttribute("aria-valuetext", texts.spoken ?? "");
  find("[data-sample-title]", box).textContent = texts.title ?? "";
  find("[data-sample-epoch]", box).textContent = texts.epoch ?? "";
  for (const label of all("[data-when]", box)) label.classList.toggle("now", Number(label.dataset.when) === place);
  for (const answer of all("[data-sample-time]", root)) answer.hidden = Number(answer.dataset.sampleTime) !== place;
  find("#sample-earlier", root).setAttribute("aria-disabled", String(place === 0));
  find("#sample-later", root).setAttribute("aria-disabled", String(place === last()));
}

/** @param {number} place */
function go(place) {
  const next = Math.max(0, Math.min(last(), place));
  // The newest time stays the newest while a run goes on.
  chosen = next === last() ? null : next;
  showSamples(find("#page"));
}
const current = () => Math.min(chosen ?? last(), last());

document.addEventListener("input", (event) => {
  const slider = /** @type {HTMLInputElement} */ (event.target);
  if (slider.id !== "sample-step") return;
  stop();
  const all = steps(), distances = all.map((step) => Math.abs(step - Number(slider.value)));
  go(distances.indexOf(Math.min(...distances)));
});

/** The keys of a slider move it from one time to the next. @type {Record<string, () => number>} */
const KEYS = {
  ArrowLeft: () => current() - 1, ArrowDown: () => current() - 1, ArrowRight: () => current() + 1, ArrowUp: () => current() + 1,
  PageDown: () => current() - 1, PageUp: () => current() + 1, Home: () => 0, End: () => last(),
};
document.addEventListener("keydown", (event) => {
  if (/** @type {HTMLElement} */ (event.target).id !== "sample-step" || !(event.key in KEYS)) return;
  event.preventDefault();
  stop();
  go(KEYS[event.key]());
});

actions["sample-earlier"] = () => { stop(); go(current() - 1); };
actions["sample-later"] = () => { stop(); go(current() + 1); };
actions["sample-play"] = (button) => {
  if (timer) { stop(); return; }
  if (current() === last()) go(0);
  button.textContent = "Pause";
  button.setAttribute("aria-pressed", "true");
  timer = setInterval(() => { go(current() + 1); if (current() === last()) stop(); }, PLAY_MS);
};

function stop() {
  clearInterval(timer);
  timer = 0;
  const button = document.getElementById("sample-play");
  if (button) { button.textContent = "Play"; button.setAttribute("aria-pressed", "false"); }
}

// The prompts of the next run

/** @param {string} text */
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** The prompts as the next run has them, otherwise those of this run. */
function prompts() {
  const own = valuesOf(run)[PROMPTS];
  return own === undefined ? all("[data-sample-prompt]").map((node) => node.dataset.samplePrompt ?? "") : lines(String(own));
}

function showPrompts() {
  const list = document.getElementById("next-prompts"), own = valuesOf(run)[PROMPTS];
  if (!list) return;
  const texts = own === undefined ? [] : lines(String(own));
  list.replaceChildren(...texts.map((text) => create("li", text, { title: text })));
}

/** Ask for prompts in a dialog. @param {string} title @param {string} text @param {string} value @param {number} rows */
async function askPrompts(title, text, value, rows) {
  const box = create("textarea", "", { id: "prompt-text", className: "wide-text", rows, value, autofocus: true, maxLength: 20000 });
  box.setAttribute("aria-label", title);
  return (await dialog({ id: "prompts", title, body: [create("p", text), box], submit: "Save" })) ? String(box.value) : undefined;
}

/** @param {string[]} texts */
async function usePrompts(texts) {
  const most = texts.slice(0, MOST);
  // Without prompts of the user, the evaluation rows are used.
  if (!(await change(run, { [PROMPTS]: most.join("\n"), [COUNT]: most.length || USUAL }))) return;
  showPrompts();
  const left = texts.length - most.length;
  if (!most.length) toast("Your next run answers evaluation rows.");
  else toast(left ? `A run answers at most ${MOST} prompts; ${left} are left out.` : `Your next run answers ${most.length === 1 ? "1 prompt" : `${most.length} prompts`}.`, left > 0);
}

actions["add-prompt"] = async () => {
  const text = await askPrompts("Add a prompt", "It is answered by the base model and at each evaluation of your next run.", "", 3);
  const line = text === undefined ? "" : lines(text).join(" ");
  if (line) await usePrompts([...prompts().filter((each) => each !== line), line]);
};
actions["edit-prompts"] = async () => {
  const text = await askPrompts("Prompts of the next run", `One prompt per line, at most ${MOST}. Without any, evaluation rows are used.`, prompts().join("\n"), 8);
  if (text !== undefined) await usePrompts(lines(text));
};
