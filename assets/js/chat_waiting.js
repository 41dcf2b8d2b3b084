// A question that waits while a run uses the computer: kept by the server, and answered when it is free.
import { actions, create } from "./page.js";
import { clock, duration, rest } from "./chat_state.js";

/** @typedef {import("./chat_state.js").Turn} Turn */
/** @typedef {import("./chat_state.js").CpuFit} CpuFit */
/** @typedef {{ side: number, text: string, done: import("./chat_state.js").Done | null, error: { where: string, what: string, remedy: string } | null }} KeptAnswer */
/** `since`, `expected` and `ended` are Unix seconds. @typedef {{ id: string, state: "waiting" | "answering" | "answered" | "failed", since: number, holder: string, reason: string, expected: number | null, seconds_left: number | null, cpu: CpuFit, ask: { sides: import("./chat_state.js").Side[] }, answers: KeptAnswer[], ended: number | null }} Kept */

const POLL_MS = 2000, RUN_ID = /^\d{8}-\d{6}-\w+$/;

/**
 * Follow kept questions. `show` puts a card under the turn, `ended` takes over its answers, and `missing` is called when the server does not know it any more.
 * @param {{ show: (turn: Turn, ...content: Node[]) => void, ended: (turn: Turn, kept: Kept) => void, missing: (turn: Turn) => void, isShown: (turn: Turn) => boolean, takenBack: (turn: Turn) => void, hasGpu: () => boolean }} page
 */
export function openWaiting(page) {
  /** Questions whose choices are folded after "Wait". @type {Set<string>} */
  const folded = new Set();
  /** @type {Map<string, Turn>} */
  const turns = new Map();
  let timer = 0;

  /** Show a question that waits, and follow it. @param {Turn} turn @param {Kept} [kept] */
  async function follow(turn, kept) {
    const id = turn.question ?? "";
    turns.set(id, turn);
    await update(id, kept);
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    if (turns.size && !document.hidden) timer = setTimeout(poll, POLL_MS);
  }
  async function poll() {
    await Promise.all([...turns.keys()].map((id) => update(id)));
    schedule();
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

  /** @param {string} id @param {Kept} [known] */
  async function update(id, known) {
    const turn = turns.get(id);
    if (!turn || !page.isShown(turn)) { turns.delete(id); return; }
    /** @type {Kept | undefined} */
    const kept = known ?? await rest("GET", `questions/${encodeURIComponent(id)}`, undefined, { isQuiet: true });
    if (!turns.has(id) || !page.isShown(turn)) return;
    if (!kept && !navigator.onLine) return;
    if (!kept) { turns.delete(id); page.missing(turn); return; }
    if (kept.state === "waiting" || kept.state === "answering") { draw(turn, kept); return; }
    turns.delete(id);
    page.show(turn);
    page.ended(turn, kept);
    await rest("DELETE", `questions/${encodeURIComponent(id)}`, undefined, { isQuiet: true });
  }

  /** What is drawn, so that a button that has the focus is not replaced. @type {Map<string, string>} */
  const drawn = new Map();
  /** @param {Turn} turn @param {Kept} kept */
  function draw(turn, kept) {
    const isFolded = folded.has(kept.id), isAnswering = kept.state === "answering";
    const text = isAnswering ? "" : explain(kept);
    const key = [kept.state, kept.reason, text, isFolded].join("|");
    if (drawn.get(kept.id) === key && document.querySelector(`[data-kept="${CSS.escape(kept.id)}"]`)) return;
    drawn.set(kept.id, key);
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.action;
    const box = create("div", "", { className: "waits-for" }), body = create("div"), buttons = create("div", "", { className: "btns" });
    box.dataset.kept = kept.id;
    body.append(create("b", isAnswering ? "The question is being answered." : kept.reason || "The question is the next to be answered."));
    if (!isAnswering && RUN_ID.test(kept.holder)) body.append(" ", create("a", "Show run", { href: `/?run=${kept.holder}` }));
    if (!isAnswering) body.append(create("div", isFolded ? `Waiting since ${clock(kept.since)}.` : text, { className: "sub" }));
    const wanted = [["Take the question back", "kept-back"]];
    if (!isAnswering && kept.cpu.possible) wanted.unshift(["Ask anyway on the CPU", "kept-cpu"]);
    if (!isAnswering && !isFolded) wanted.unshift(["Wait", "kept-wait"]);
    for (const [title, action] of wanted) {
      const button = create("button", title, { type: "button", className: "btn s" });
      button.dataset.action = action;
      buttons.append(button);
    }
    body.append(buttons);
    box.append(create("span", isAnswering ? "Answering" : page.hasGpu() ? "GPU in use" : "Computer in use", { className: isAnswering ? "chip good" : "chip warn" }), body);
    page.show(turn, box);
    if (focused?.startsWith("kept-")) /** @type {HTMLElement | null} */ (box.querySelector(`[data-action="${focused}"]`) ?? box.querySelector("button"))?.focus({ preventScroll: true });
  }

  /** @param {Kept} kept */
  function explain({ expected, seconds_left: left, cpu, ask }) {
    const rest = left ? `About ${duration(left)} left. ` : "";
    const when = expected ? `at about ${clock(expected)}` : "when it is free";
    const both = ask.sides.length > 1;
    const onCpu = cpu.possible ? ` On the CPU ${both ? "both answers take" : "the answer takes"}${cpu.seconds ? ` about ${duration(cpu.seconds)}` : " longer"} and ${both ? "slow" : "slows"} the training a little.` : cpu.why ? ` ${cpu.why}` : "";
    return `${rest}Your question is kept and will be answered here ${when}.${onCpu}`;
  }

  /** @param {HTMLElement} button */
  const idOf = (button) => /** @type {HTMLElement} */ (button.closest("[data-kept]")).dataset.kept ?? "";
  actions["kept-wait"] = async (button) => { const id = idOf(button); folded.add(id); await update(id); };
  actions["kept-cpu"] = async (button) => {
    const id = idOf(button);
    button.setAttribute("aria-disabled", "true");
    if (await rest("POST", `questions/${encodeURIComponent(id)}/cpu`, {})) await update(id);
    else button.setAttribute("aria-disabled", "false");
    schedule();
  };
  actions["kept-back"] = async (button) => {
    const id = idOf(button), turn = turns.get(id);
    if (!turn || !(await rest("DELETE", `questions/${encodeURIComponent(id)}`))) return;
    turns.delete(id);
    page.takenBack(turn);
  };

  return { follow, isWaiting: (/** @type {Turn} */ turn) => Boolean(turn.question && turns.get(turn.question) === turn) };
}
