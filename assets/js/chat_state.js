// A chat: its data, what is sent of it to each side, and the REST interface of chats.
import { problemText, toast } from "./page.js";

/** @typedef {"one" | "pair" | "blind"} Mode */
/** A model, with its adapter or without it. @typedef {{ model: string, tuned: boolean }} Side */
/** `arguments` is a text where it is not valid JSON. @typedef {{ name: string, arguments: unknown }} ToolCall */
/** @typedef {{ tokens: number, prompt_tokens?: number, context?: number | null, seconds?: number, reason: string, seed?: number | null, answer?: { text: string, start: number, score: number }, tool_calls?: ToolCall[] }} Done */
/** An answer. `side` is an index of the sides of the chat, and of a blind question 0 for left and 1 for right. `isWaiting`, `phase` and `problem` are not saved. @typedef {{ side: number, text: string, done?: Done | null, tool_calls?: ToolCall[], isWaiting?: boolean, phase?: string, problem?: string, isStopped?: boolean }} Answer */
/** A question with its answers. `question` is the id of a blind question or of one that waits; `left` is the side that was on the left. @typedef {{ asked: string, role: "user" | "tool", name?: string, answers: Answer[], question?: string, vote?: "left" | "right" | "tie", left?: number }} Turn */
/** @typedef {{ system: string, sampling: Record<string, number | null>, tools: object[], passage: string, device: "auto" | "cpu", gpu: number | null }} Settings */
/** @typedef {{ id: string, name: string, mode: Mode, sides: Side[], turns: Turn[] }} Chat */
/** @typedef {{ role: string, content: string, name?: string, tool_calls?: ToolCall[] }} Message */
/** @typedef {"conversation" | "passage" | "document" | "continuation"} Format */
/** @typedef {{ possible: boolean, why: string, seconds: number | null, memory_bytes: number | null }} CpuFit */
/** What the server knows of a model. @typedef {{ model: string, name: string, format: Format, has_base: boolean, tuned: boolean, system: string, context: number | null, gpu: number | null, gpus: { index: number, name: string, free_gib: number | null }[], cpu: CpuFit, tools: object[] }} ModelFacts */

/** @returns {Chat} */
export const emptyChat = () => ({ id: "", name: "", mode: "one", sides: [], turns: [] });

/** Whether an answer can be continued. @param {Answer | undefined} answer */
export const isComplete = (answer) => Boolean(answer && !answer.isWaiting && (answer.text || answer.tool_calls?.length));

/** The side of an answer in the chat; undefined while a blind question has no vote. @param {Chat} chat @param {Turn} turn @param {number} side @returns {number | undefined} */
export function sideOf(chat, turn, side) {
  if (chat.mode !== "blind") return side;
  if (turn.left === undefined) return undefined;
  return side === 0 ? turn.left : 1 - turn.left;
}

/**
 * The messages that are sent to a side for the turn at `place`.
 * @param {Chat} chat @param {Settings} settings @param {Format} format @param {number} side @param {number} place
 * @returns {Message[]}
 */
export function messagesOf(chat, settings, format, side, place) {
  const turn = chat.turns[place];
  if (format === "document" || format === "continuation") return [{ role: "user", content: turn.asked }];
  if (format === "passage") return [{ role: "system", content: settings.passage.trim() }, { role: "user", content: turn.asked }];
  const system = settings.system.trim();
  /** @type {Message[]} */
  const messages = system ? [{ role: "system", content: system }] : [];
  // Blind questions stand alone, so that no earlier answer tells which model is which.
  if (chat.mode !== "blind") for (const earlier of chat.turns.slice(0, place)) messages.push(...exchange(earlier, side, messages));
  messages.push(askedMessage(turn));
  return messages;
}

/** @param {Turn} turn @param {number} side @param {Message[]} before @returns {Message[]} */
function exchange(turn, side, before) {
  // A side that was not asked continues from the answer of the other one.
  const answer = turn.answers.find((each) => each.side === side && isComplete(each)) ?? turn.answers.find(isComplete);
  if (!answer || (turn.role === "tool" && !before.at(-1)?.tool_calls)) return [];
  return [askedMessage(turn), { role: "assistant", content: answer.text, ...(answer.tool_calls?.length ? { tool_calls: answer.tool_calls } : {}) }];
}

/** @param {Turn} turn @returns {Message} */
const askedMessage = (turn) => (turn.role === "tool" ? { role: "tool", name: turn.name, content: turn.asked } : { role: "user", content: turn.asked });

/** The turns as they are saved: those with an answer, and those that wait. @param {Chat} chat */
export const savedTurns = (chat) => chat.turns.filter((turn) => turn.question || turn.answers.some(isComplete)).map(({ asked, role, name, answers, question, vote, left }) => ({
  ...withoutEmpty({ role, name, question, vote, left }), asked,
  answers: answers.filter(isComplete).map(({ side, text, done, tool_calls }) => ({ side, text, ...withoutEmpty({ done, tool_calls }) })),
}));

/** The turns of a saved chat, in which the server writes what is missing as null or empty. @param {any[]} turns @returns {Turn[]} */
export const readTurns = (turns) => turns.map((turn) => /** @type {Turn} */ ({
  ...withoutEmpty(turn), asked: turn.asked, answers: turn.answers.map((/** @type {Answer} */ answer) => ({ ...withoutEmpty(answer), text: answer.text })),
}));

/** Leave out what is missing, null or an empty text or list. @param {Record<string, unknown>} values */
const withoutEmpty = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "" && !(Array.isArray(value) && !value.length)));

/**
 * Call the REST interface of chats. A refusal or a lost connection becomes a toast, and the result undefined.
 * @param {string} method @param {string} path @param {object} [body] @param {{ isQuiet?: boolean }} [options]
 * @returns {Promise<any>}
 */
export async function rest(method, path, body, { isQuiet = false } = {}) {
  try {
    const reply = await fetch(`/api/chat/${path}`, { method, headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body) });
    const content = reply.status === 204 ? {} : await reply.json();
    if (reply.ok) return content;
    if (!isQuiet) toast(problemText(content) || "The server refused the request.", true);
  } catch {
    if (!isQuiet) toast("The server does not respond. Check that it is still running.", true);
  }
  return undefined;
}

/** Seconds as people say them: 45 s, 12 min, 2 h 10 min. @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))}\u00a0s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes}\u00a0min` : `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}

/** The time of day of Unix seconds: 15:44. @param {number} seconds */
export const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 5);
