// Blind questions: vote for the better answer, and show the win rate with its interval.
import { create, find } from "./page.js";
import { rest } from "./chat_state.js";

/** @typedef {import("./chat_state.js").Side} Side */
/** @typedef {import("./chat_state.js").Turn} Turn */
/** @typedef {"left" | "right" | "tie"} Choice */
/** A model with its name. @typedef {Side & { name: string }} NamedSide */
/** `share` and `interval` are those of the second side. @typedef {{ sides: [NamedSide, NamedSide], votes: number, wins: number, losses: number, ties: number, share: number | null, interval: [number, number] | null, settled: boolean, sentence: string }} WinRate */
/** @typedef {{ question: string, choice: Choice, left: 0 | 1, winner: 0 | 1 | null, names: [string, string], rate: WinRate }} Reveal */

const CHOICES = /** @type {const} */ (["left", "tie", "right"]);

/** The buttons of a question, or which answer was chosen. @param {Turn} turn @param {(side: number) => string} nameOf */
export function voteButtons(turn, nameOf) {
  if (turn.vote) return voted(turn, nameOf);
  const row = create("div", "", { className: "votes", role: "group", ariaLabel: "Which answer is better?" });
  for (const choice of CHOICES) {
    const button = create("button", `${choice[0].toUpperCase()}${choice.slice(1)}`, { type: "button", className: "btn" });
    button.dataset.action = "chat-vote";
    button.dataset.choice = choice;
    row.append(button);
  }
  return row;
}

/** @param {Turn} turn @param {(side: number) => string} nameOf */
function voted(turn, nameOf) {
  const line = create("p", "", { className: "verdict-line", tabIndex: -1 });
  const side = turn.vote === "tie" ? undefined : turn.vote === "left" ? turn.left : 1 - (turn.left ?? 0);
  line.append("Your vote: ", create("b", side === undefined ? "tie" : nameOf(side)), ".");
  return line;
}

/** The win rates of a run against other models. @param {string} run @returns {Promise<WinRate[]>} */
export async function readRates(run) {
  const reply = await rest("GET", `votes?run=${encodeURIComponent(run)}`, undefined, { isQuiet: true });
  return reply?.rates ?? reply ?? [];
}

/** The rate of two sides, in either order. @param {WinRate[]} rates @param {Side[]} sides */
export function rateOf(rates, sides) {
  const isSame = (/** @type {Side} */ one, /** @type {Side} */ two) => one.model === two.model && one.tuned === two.tuned;
  return rates.find((rate) => sides.every((side) => rate.sides.some((each) => isSame(each, side))));
}

/** @param {HTMLElement} root @param {WinRate | undefined} rate */
export function showRate(root, rate) {
  const box = find("#win-rate", root);
  box.hidden = !rate?.votes;
  if (!rate?.votes) { box.replaceChildren(); return; }
  // A number and its unit stay on one line.
  const sentence = rate.sentence.replaceAll(" %", "\u00a0%"), end = sentence.indexOf(". ") + 1 || sentence.length;
  const text = create("p");
  text.append(create("b", sentence.slice(0, end)), sentence.slice(end));
  box.replaceChildren(plot(rate), text);
}

/** @param {WinRate} rate */
function plot(rate) {
  const svg = shape("svg", { role: "img", "aria-label": rate.sentence });
  const at = (/** @type {number} */ share) => `${(100 * share).toFixed(1)}%`;
  svg.append(shape("line", { class: "axis", x1: "0", x2: "100%", y1: "13.5", y2: "13.5" }), shape("line", { class: "half", x1: "50%", x2: "50%", y1: "3", y2: "24" }));
  if (rate.interval) {
    const [low, high] = rate.interval.map(at);
    for (const [x1, x2, y1, y2] of [[low, high, "13.5", "13.5"], [low, low, "9", "18"], [high, high, "9", "18"]]) svg.append(shape("line", { class: "range", x1, x2, y1, y2 }));
  }
  if (rate.share !== null) svg.append(shape("circle", { cx: at(rate.share), cy: "13.5", r: "5" }));
  const isPlain = rate.sides[0].tuned !== rate.sides[1].tuned;
  const [first, second] = rate.sides.map(({ name, tuned }) => (isPlain ? (tuned ? "tuned" : "base") : name.length > 16 ? `${name.slice(0, 15)}…` : name));
  for (const [x, anchor, text] of [["0", "start", `${first} wins`], ["50%", "middle", "50 %"], ["100%", "end", `${second} wins`]]) {
    const label = shape("text", { x, y: "36", "text-anchor": anchor });
    label.textContent = text;
    svg.append(label);
  }
  return svg;
}

/** @param {string} name @param {Record<string, string>} attributes */
function shape(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
