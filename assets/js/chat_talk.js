// The conversation of the Chat page: questions, answers and the panels under them. All text is set as text, never as HTML.
import { all, create, find } from "./page.js";
import { isComplete, sideOf } from "./chat_state.js";

/** @typedef {import("./chat_state.js").Chat} Chat */
/** @typedef {import("./chat_state.js").Turn} Turn */
/** @typedef {import("./chat_state.js").Answer} Answer */

const POSITIONS = ["Left", "Right"];
/** Characters of the passage that are shown on each side of a span answer. */
const AROUND = 90;

/**
 * Draw the turns of a chat. `nameOf` returns what a side is called; `canCorrect` whether its answers can be corrected; `about` how they are asked.
 * @param {HTMLElement} root @param {() => Chat} current @param {(side: number) => string} nameOf @param {(side: number) => boolean} canCorrect
 * @param {() => { format: import("./chat_state.js").Format, passage: string }} about
 */
export function openTalk(root, current, nameOf, canCorrect, about) {
  const conversation = find(".talk", root);

  /** Add the turn that is the last one of the chat. @param {Turn} turn */
  function addTurn(turn) {
    conversation.append(create("div", "", { className: "turn" }));
    redraw(turn);
  }

  /** Draw a turn again from its start. @param {Turn} turn */
  function redraw(turn) {
    const line = create("div", "", { className: "ask-line" });
    line.append(create("span", turn.role === "tool" ? `Result of ${turn.name ?? "the tool"}` : "You", { className: "sub" }), create("div", turn.asked, { className: "asked" }));
    line.append(button("Edit", "chat-edit-question", "Edit this message"));
    nodeOf(turn).replaceChildren(line, create("div", "", { className: "answers" }), create("div", "", { className: "under-turn" }));
    for (const answer of turn.answers) addAnswer(turn, answer);
  }

  /** @param {Turn} turn @param {Answer} answer @returns {HTMLElement} */
  function addAnswer(turn, answer) {
    const node = create("div", "", { className: "say" }), label = create("small");
    node.dataset.side = String(answer.side);
    label.append(create("span", "", { className: "what" }), create("span", "", { className: "num" }));
    node.append(label, create("div", "", { className: "text" }), create("div", "", { className: "acts" }));
    find(".answers", nodeOf(turn)).append(node);
    showAnswer(turn, answer);
    return node;
  }

  /** Draw an answer as it is now; its node stays, so that a focused button keeps the focus. @param {Turn} turn @param {Answer} answer */
  function showAnswer(turn, answer) {
    const node = answerNode(turn, answer), side = sideOf(current(), turn, answer.side), isShuffled = current().mode === "blind";
    const name = side === undefined ? POSITIONS[answer.side] : isShuffled ? `${POSITIONS[answer.side]}: ${nameOf(side)}` : nameOf(side);
    node.classList.toggle("wait", Boolean(answer.isWaiting));
    node.classList.toggle("new", side !== undefined && canCorrect(side) && side === current().sides.length - 1);
    // No empty value: page.js clears the text of what failed at a place without a name.
    if (answer.problem && !answer.text) node.dataset.failed = "yes"; else delete node.dataset.failed;
    find(".what", node).textContent = [name, answer.phase, answer.problem && "no answer"].filter(Boolean).join(" · ");
    find(".num", node).textContent = [measure(answer), about().format === "document" && isComplete(answer) && shortened(turn.asked, answer.text)].filter(Boolean).join(" · ");
    const text = find(".text", node);
    text.textContent = answer.text || (answer.problem ?? (answer.isWaiting || answer.tool_calls?.length ? "" : answer.isStopped ? "Stopped before the first word." : "The answer is empty."));
    if (answer.problem && !answer.text) text.append(" ", create("a", "Machine page", { href: "/machine" }), " · ", create("a", "Log of the chat", { href: "/ui/chat/log", target: "_blank" }));
    for (const old of all("pre.call, .found", node)) old.remove();
    if (answer.done?.answer && about().format === "passage") text.after(...foundIn(about().passage, answer.done.answer));
    for (const call of answer.tool_calls ?? []) {
      find(".acts", node).before(create("pre", writeCall(call), { className: "call", tabIndex: 0, ariaLabel: `Call of ${call.name}` }));
    }
    showActs(node, answer, side);
  }

  /** @param {HTMLElement} node @param {Answer} answer @param {number | undefined} side */
  function showActs(node, answer, side) {
    const acts = find(".acts", node), isBlind = current().mode === "blind";
    const owner = side === undefined ? `on the ${POSITIONS[answer.side].toLowerCase()}` : ownerOf(nameOf(side));
    /** @type {[string, string, string][]} */
    const wanted = isComplete(answer) ? [["Copy", "chat-copy", ""]] : [];
    if (!isBlind) wanted.push(["Regenerate", "chat-again", "again"]);
    if (!isBlind && answer.text) wanted.push(["Edit", "chat-edit", ""]);
    if (side !== undefined && canCorrect(side) && isComplete(answer)) wanted.push(["Correct this answer", "chat-correct", "more"]);
    const key = wanted.map(([text]) => text + owner).join();
    if (acts.dataset.key === key) return;
    acts.dataset.key = key;
    acts.replaceChildren(...wanted.map(([text, action, className]) => button(text, action, text.endsWith("answer") ? `${text} ${owner}` : `${text} the answer ${owner}`, className)));
  }

  /** Replace what stands under the answers of a turn: votes, a panel, or that it waits. @param {Turn} turn @param {Node[]} content */
  const setUnder = (turn, ...content) => find(".under-turn", nodeOf(turn)).replaceChildren(...content);

  /**
   * Open a panel with a text to change under the answers; a second one replaces it.
   * @param {Turn} turn @param {{ label: string, value: string, note: string, submit: string, isCalm?: boolean }} options @param {(text: string) => unknown} submitted
   */
  function openPanel(turn, { label, value, note, submit, isCalm = false }, submitted) {
    const under = find(".under-turn", nodeOf(turn)), back = /** @type {HTMLElement | null} */ (document.activeElement);
    closePanel(turn);
    const panel = create("form", "", { className: isCalm ? "panel calm" : "panel" }), id = `panel-${current().turns.indexOf(turn)}`;
    const field = create("textarea", "", { id, className: "wide-text", rows: 3, maxLength: 100000, required: true, value });
    const name = create("div", "", { className: "lab" }), foot = create("div", "", { className: "foot" }), buttons = create("div", "", { className: "btns" });
    const hint = create("span", note, { className: "sub", id: `${id}-note` });
    const close = () => { panel.remove(); back?.focus({ preventScroll: true }); };
    name.append(create("label", label, { htmlFor: id }));
    field.setAttribute("aria-describedby", hint.id);
    const confirm = create("button", submit, { className: isCalm ? "btn s" : "btn s go", type: "submit" });
    buttons.append(create("button", "Cancel", { className: "btn s", type: "button", onclick: close }), confirm);
    foot.append(hint, buttons);
    panel.append(name, field, foot);
    panel.addEventListener("submit", async (/** @type {Event} */ event) => {
      event.preventDefault();
      if (confirm.disabled || !field.value.trim()) return;
      confirm.disabled = true;
      const isDone = await submitted(field.value.trim());
      confirm.disabled = false;
      if (isDone !== false) close();
    });
    panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") close();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); panel.requestSubmit(); }
    });
    under.append(panel);
    field.focus({ preventScroll: true });
    panel.scrollIntoView({ block: "nearest" });
    return hint;
  }
  /** @param {Turn} turn */
  const closePanel = (turn) => { for (const old of all("form.panel", nodeOf(turn))) old.remove(); };

  /** @param {Turn} turn @returns {HTMLElement} */
  const nodeOf = (turn) => /** @type {HTMLElement} */ (conversation.children[current().turns.indexOf(turn)]);
  /** @param {Turn} turn @param {Answer} answer @returns {HTMLElement} */
  const answerNode = (turn, answer) => find(`.say[data-side="${answer.side}"]`, nodeOf(turn));

  return {
    addTurn, redraw, addAnswer, showAnswer, setUnder, openPanel, nodeOf, answerNode,
    /** Remove the turns from a place on. @param {number} place */
    removeFrom(place) { for (const node of [...conversation.children].slice(place)) node.remove(); },
    /** The turn and the answer of a button. @param {HTMLElement} node @returns {{ turn: Turn, place: number, answer: Answer }} */
    find(node) {
      const place = [...conversation.children].indexOf(/** @type {Element} */ (node.closest(".turn"))), turn = current().turns[place];
      const side = Number(/** @type {HTMLElement | null} */ (node.closest(".say"))?.dataset.side ?? 0);
      return { turn, place, answer: /** @type {Answer} */ (turn.answers.find((each) => each.side === side)) };
    },
  };
}

/** @param {string} text @param {string} action @param {string} label @param {string} [className] @returns {HTMLButtonElement} */
function button(text, action, label, className = "") {
  const node = create("button", text, { type: "button", className: `plain ${className}`.trim(), ariaLabel: label });
  node.dataset.action = action;
  return node;
}

/** @param {string} name */
const ownerOf = (name) => (name === "tuned" ? "of the tuned model" : name === "base model" ? "of the base model" : `of ${name}`);

/** @param {import("./chat_state.js").ToolCall} call */
export const writeCall = (call) => `${call.name}(${typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments, null, 1)})`;

/** Where a span answer stands in the passage, as long as it is the same passage. @param {string} passage @param {{ text: string, start: number, score: number }} answer */
function foundIn(passage, { text, start, score }) {
  // Positions are counted in characters, not in the code units of JavaScript.
  const characters = [...passage], length = [...text].length, end = start + length;
  if (!text || characters.slice(start, end).join("") !== text) return [];
  const before = characters.slice(Math.max(0, start - AROUND), start).join(""), after = characters.slice(end, end + AROUND).join("");
  const line = create("p", "", { className: "found sub" });
  line.append(start > AROUND ? "…" : "", before, create("mark", text), after, end + AROUND < characters.length ? "…" : "", create("span", ` score ${score.toFixed(2)}`, { className: "num" }));
  return [line];
}

/** How much shorter a summary is. @param {string} document @param {string} summary */
function shortened(document, summary) {
  const words = (/** @type {string} */ text) => text.split(/\s+/).filter(Boolean).length;
  return `${words(summary).toLocaleString("en")} of ${words(document).toLocaleString("en")} words`;
}

/** The size of an answer and how long it took. @param {Answer} answer */
function measure(answer) {
  const { done } = answer;
  if (answer.isStopped && !done) return "stopped";
  if (!done) return "";
  const tokens = `${done.tokens.toLocaleString("en")} token${done.tokens === 1 ? "" : "s"}`;
  const time = typeof done.seconds === "number" ? ` in ${done.seconds.toFixed(1)} s` : "";
  const end = done.reason === "length" ? ", cut" : done.reason === "stopped" ? ", stopped" : "";
  return `${tokens}${time}${end}`;
}
