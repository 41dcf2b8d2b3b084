// What can be done with an answer of the Chat page: copy, regenerate, edit and correct it, and change its question.
import { actions, call, copyText, create, toast } from "./page.js";
import { isComplete, messagesOf, rest, sideOf } from "./chat_state.js";
import { writeCall } from "./chat_talk.js";

/** @typedef {import("./chat_state.js").Chat} Chat */
/** @typedef {import("./chat_state.js").Turn} Turn */
/**
 * What the actions use of the page.
 * @typedef {{
 *   talk: ReturnType<typeof import("./chat_talk.js").openTalk>, settings: ReturnType<typeof import("./chat_settings.js").openSettings>,
 *   pickers: ReturnType<typeof import("./chat_pickers.js").openPickers>, chat: () => Chat, isSending: () => boolean, indices: () => number[],
 *   generate: (turn: Turn, sides: number[], seed: number | null, options?: { canWait: boolean }) => Promise<void>, seed: () => number | null, save: () => Promise<void>,
 *   nameOf: (side: number) => string, isKept: (turn: Turn) => boolean, replaceFrom: (place: number, turn: Turn) => void,
 * }} Page
 */

/** @param {import("./page.js").Server} server @param {Page} page */
export function openAnswerActions(server, { talk, settings, pickers, generate, indices, seed, save, nameOf, isKept, chat, isSending, replaceFrom }) {
  actions["chat-copy"] = (button) => {
    const { answer } = talk.find(button);
    copyText([answer.text, ...(answer.tool_calls ?? []).map(writeCall)].filter(Boolean).join("\n"));
  };
  actions["chat-again"] = async (button) => {
    const { turn, answer } = talk.find(button), before = { ...answer };
    if (isSending() || !settings.check()) return;
    const last = answer.done?.seed ?? seed();
    await generate(turn, [answer.side], last === null ? null : last + 1, { canWait: false });
    const fresh = turn.answers.find((each) => each.side === answer.side);
    if (!fresh || !chat().turns.includes(turn)) return;
    if (!isComplete(fresh)) {
      // The old answer stays where there is no new one.
      if (fresh.problem) toast(fresh.problem, true);
      turn.answers[turn.answers.indexOf(fresh)] = before;
      talk.showAnswer(turn, before);
      save();
    } else if (fresh.text === before.text && settings.read().sampling.temperature === 0) toast("The same answer: temperature 0 always takes the likeliest token.");
  };
  actions["chat-edit"] = (button) => {
    const { turn, answer } = talk.find(button);
    talk.openPanel(turn, { label: "The answer", value: answer.text, note: "The conversation continues with this text.", submit: "Save", isCalm: true }, (/** @type {string} */ text) => {
      answer.text = text;
      talk.showAnswer(turn, answer);
      save();
    });
  };
  actions["chat-edit-question"] = (button) => {
    const { turn, place } = talk.find(button), later = chat().turns.length - place - 1;
    if (isSending() || isKept(turn)) return;
    const note = later ? `${later} later message${later === 1 ? " is" : "s are"} removed.` : "It is asked again.";
    talk.openPanel(turn, { label: "Your message", value: turn.asked, note, submit: "Ask again", isCalm: true }, (/** @type {string} */ text) => {
      if (isSending() || !settings.check()) return false;
      /** @type {Turn} */
      const fresh = { asked: text, role: turn.role, name: turn.name, answers: [] };
      replaceFrom(place, fresh);
      generate(fresh, indices(), seed());
      return true;
    });
  };
  actions["chat-correct"] = async (button) => {
    const { turn, place, answer } = talk.find(button), side = sideOf(chat(), turn, answer.side) ?? 0, { model } = chat().sides[side];
    const hint = talk.openPanel(turn, { label: `What ${nameOf(side) === "tuned" ? "the tuned model" : nameOf(side)} should have answered`, value: answer.text, note: "", submit: "Teach it back" }, async (/** @type {string} */ text) => {
      const messages = messagesOf(chat(), settings.read(), pickers.format(), side, place);
      const taught = await rest("POST", "corrections", { model, messages, answer: answer.text, correction: text, tools: settings.read().tools });
      if (taught) toast(`${taught.replaced ? "Row" : "Added as row"} ${taught.row} of ${taught.dataset}${taught.replaced ? " is replaced" : ""}. Later runs are tested on the question.`);
      return Boolean(taught);
    });
    /** @type {import("./types").CorrectionReply | undefined} */
    const preview = await call(server, "next_correction", { model });
    if (preview) hint.replaceChildren(`Becomes row ${preview.row} of `, create("span", preview.dataset, { className: "num" }), " for your next run, and a question every later run is tested on.");
  };
}
