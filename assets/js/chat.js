// The Chat page: ask one model, or two side by side or shuffled, and write the answers as they arrive.
import { actions, all, call, find, findInput, load, patch, problemText, store, toast } from "./page.js";
import { openAnswerActions } from "./chat_answers.js";
import { emptyChat, isComplete, messagesOf, readTurns, rest, savedTurns } from "./chat_state.js";
import { openPickers } from "./chat_pickers.js";
import { openSaved } from "./chat_saved.js";
import { openSettings } from "./chat_settings.js";
import { openTalk } from "./chat_talk.js";
import { readRates, rateOf, showRate, voteButtons } from "./chat_votes.js";
import { openWaiting } from "./chat_waiting.js";
import { postLines } from "./streams.js";

/** @typedef {import("./chat_state.js").Answer} Answer */
/** @typedef {import("./chat_state.js").Chat} Chat */
/** @typedef {import("./chat_state.js").Done} Done */
/** @typedef {import("./chat_state.js").Mode} Mode */
/** @typedef {import("./chat_state.js").Turn} Turn */
/** One line of a stream of answers. @typedef {{ side?: number, question?: string, phase?: string, text?: string, done?: Done, error?: { where: string, what: string, remedy: string, holder?: string } }} Part */

const BUSY_MS = 5000, DRAFT_KEY = "modelforge-chat", FULL = 0.9;
const HINTS = { conversation: "Write a message", passage: "Ask a question that the text answers", document: "Paste a document to summarize", continuation: "Write the beginning of a text; the model continues it" };

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  const page = find(".chat-page", root), conversation = find(".talk", root);
  const box = /** @type {HTMLTextAreaElement} */ (find("#message", root)), sendButton = find('[data-action="chat-send"]', root);
  const passage = findInput("#passage", root);
  let chat = emptyChat();
  /** @type {AbortController | null} */
  let request = null;
  let busyTimer = 0, isSaving = Promise.resolve();
  /** @type {import("./chat_votes.js").WinRate | undefined} */
  let rate;

  const nameOf = (/** @type {number} */ side) => pickers.nameOf(chat.sides, side);
  const canCorrect = (/** @type {number} */ side) => Boolean(chat.sides[side]?.tuned);
  const talk = openTalk(root, () => chat, nameOf, canCorrect, () => ({ format: pickers.format(), passage: passage.value.trim() }));
  const settings = openSettings(root, () => { keepDraft(); if (chat.id) save(); });
  const pickers = openPickers(root, { changed: changeModel, forget: settings.forgetModel, described: (facts) => { settings.setModel(facts); showFormat(); showContext(); } });
  const saved = openSaved(root, () => chat.id, { open: openChat, renamed: (id, name) => { if (id === chat.id) { chat.name = name; showHead(); } }, deleted: (id) => { if (id === chat.id) begin(); } });
  const waiting = openWaiting({ show: talk.setUnder, ended: takeAnswers, missing: takeBack, takenBack: takeBack, isShown: (turn) => chat.turns.includes(turn), hasGpu: () => pickers.hasGpu() });

  // The models, and the chat of the address: a saved one, or a new one with the model of a run.

  async function start() {
    const address = new URLSearchParams(location.search), draft = load(sessionStorage, DRAFT_KEY) ?? {};
    const id = address.get("chat"), linked = address.get("run") ?? "";
    const isDraft = !linked || linked === draft.model;
    await refresh(linked || draft.model || "");
    if (isDraft || id) settings.write(draft.settings ?? {});
    else settings.write({ sampling: draft.settings?.sampling });
    // What was typed before the page was ready stays.
    box.value ||= draft.message ?? "";
    if (!id || !(await openChat(id, { isFirst: true }))) begin({ other: isDraft ? draft.other : undefined, mode: isDraft ? draft.mode : undefined, isFirst: true });
    saved.refresh();
    root.dataset.usable = "true";
  }

  /** @param {string} [selected] */
  async function refresh(selected = pickers.model()) {
    clearTimeout(busyTimer);
    /** @type {import("./types").ChatPageReply | undefined} */
    const reply = await call(server, "open", { selected });
    if (!reply) return;
    pickers.keep(() => patch(reply.parts), selected);
    find(".app", root).dataset.empty = String(!reply.has_models);
    sendButton.setAttribute("aria-disabled", String(!reply.has_models));
    if (reply.is_busy) busyTimer = setTimeout(() => { if (!document.hidden) refresh(); else document.addEventListener("visibilitychange", () => refresh(), { once: true }); }, BUSY_MS);
  }

  /** Begin a new chat with the chosen models. @param {{ other?: string, mode?: Mode, isFirst?: boolean }} [options] */
  function begin({ other, mode, isFirst = false } = {}) {
    const wanted = mode ?? (isFirst && pickers.hasOwnBase() ? "pair" : chat.mode);
    show({ ...emptyChat(), mode: wanted }, other);
    setAddress();
    keepDraft();
  }

  /** Show a chat. @param {Chat} next @param {string} [other] the model it is compared with */
  function show(next, other) {
    request?.abort();
    conversation.replaceChildren();
    chat = next;
    if (chat.sides.length) pickers.choose(chat.sides);
    else chat.sides = pickers.sides(other);
    if (!pickers.canUse(chat.mode)) chat.mode = pickers.canUse("pair") && chat.mode === "blind" ? "pair" : "one";
    for (const turn of chat.turns) {
      talk.addTurn(turn);
      showVote(turn);
      if (isKept(turn)) waiting.follow(turn);
    }
    showHead();
    showFormat();
    showContext();
    showSending();
    pickers.describe();
    refreshRate();
  }

  /** @param {string} id @param {{ isFirst?: boolean }} [options] @returns {Promise<boolean>} */
  async function openChat(id, { isFirst = false } = {}) {
    const found = await rest("GET", `saved/${encodeURIComponent(id)}`);
    if (!found) return false;
    settings.write(found.settings ?? {});
    const missing = await pickers.offer(found.sides);
    show({ id: found.id, name: found.name, mode: found.mode, sides: missing ? [] : found.sides, turns: readTurns(found.turns) });
    find("#chat-mode-note", root).textContent = missing ? "A model of this chat does not exist any more. Its answers stay; a new message goes to the models above." : "";
    setAddress();
    keepDraft();
    saved.show();
    if (!isFirst) { page.dataset.saved = "closed"; box.focus({ preventScroll: true }); conversation.lastElementChild?.scrollIntoView({ block: "nearest" }); }
    return true;
  }

  // Another model begins a new conversation; the one before is in the list of saved chats.
  function changeModel(/** @type {boolean} */ isMain) {
    if (isMain) settings.write({ ...settings.read(), system: "", tools: [], passage: "" });
    begin({ other: isMain ? undefined : pickers.other(), mode: chat.mode });
    if (isMain) refresh();
  }

  actions["chat-mode"] = (button) => {
    const mode = /** @type {Mode} */ (button.dataset.mode);
    if (mode === chat.mode) return;
    // Blind questions are a chat of their own, so that no earlier answer tells which model is which.
    if (chat.turns.length && (mode === "blind" || chat.mode === "blind")) begin({ other: pickers.other(), mode });
    else {
      chat.mode = mode;
      showHead();
      showFormat();
      showContext();
      pickers.describe();
      refreshRate();
      keepDraft();
      if (chat.id) save();
    }
    box.focus({ preventScroll: true });
  };
  actions["chat-clear"] = () => { begin({ other: pickers.other(), mode: chat.mode }); saved.show(); box.focus(); };

  function setAddress() {
    const query = chat.id ? `chat=${encodeURIComponent(chat.id)}` : pickers.model() ? `run=${encodeURIComponent(pickers.model())}` : "";
    window.history.replaceState({}, "", query ? `/chat?${query}` : "/chat");
  }

  function showHead() {
    const isBlind = chat.mode === "blind";
    page.dataset.mode = chat.mode;
    find("#chat-title", root).textContent = isBlind ? "Answers are shuffled. Which is better?" : chat.name || "New chat";
    find("#chat-sub", root).textContent = isBlind ? `Vote ${(rate?.votes ?? 0) + 1}. The names are shown after you vote.` : "";
    find("#chat-settings-for", root).textContent = chat.mode === "one" ? "" : "the same for both sides";
    for (const button of all("[data-mode]", find(".modes", root))) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === chat.mode));
      const reason = pickers.reason(/** @type {Mode} */ (button.dataset.mode));
      button.setAttribute("aria-disabled", String(Boolean(reason)));
      button.title = reason;
    }
  }

  function showFormat() {
    const format = pickers.format(), isTool = Boolean(pendingTool());
    find(".passage", root).hidden = format !== "passage";
    const hint = isTool ? `Type the result of ${pendingTool()}` : format !== "conversation" || chat.mode === "one" ? HINTS[format] : "Ask both models";
    box.placeholder = hint;
    if (format === "document") box.rows = 6; else box.rows = 2;
  }

  /** The tokens of the conversation and how many the model reads. */
  function showContext() {
    const meter = find("#chat-context", root), last = chat.turns.findLast((turn) => turn.answers.some((answer) => answer.done));
    const used = Math.max(0, ...(last?.answers ?? []).map(({ done }) => (done ? (done.prompt_tokens ?? 0) + done.tokens : 0)));
    const limits = [...(last?.answers ?? []).map(({ done }) => done?.context), pickers.context()].filter((limit) => typeof limit === "number");
    meter.hidden = !limits.length || pickers.format() !== "conversation" || chat.mode === "blind";
    if (!limits.length) return;
    const limit = Math.min(...limits), share = Math.min(1, used / limit);
    /** @type {HTMLElement} */ (find(".meter i", meter)).style.width = `${100 * share}%`;
    meter.classList.toggle("full", share >= FULL);
    find(".num", meter).textContent = `${used.toLocaleString("en")} of ${limit.toLocaleString("en")} tokens`;
    meter.title = share >= FULL ? "The model reads no more than this. Begin a new chat soon." : "";
  }

  // Saving: a chat saves itself after each change; what is not sent yet is kept in the tab.

  function keepDraft() {
    store(sessionStorage, DRAFT_KEY, { model: pickers.model(), other: pickers.other(), mode: chat.mode, settings: settings.read(), message: box.value });
  }
  box.addEventListener("input", keepDraft);
  addEventListener("pagehide", () => {
    const turn = request && chat.turns.at(-1);
    if (turn && !turn.answers.some((answer) => answer.text)) box.value ||= turn.asked;
    keepDraft();
  });

  /** Save the chat after the saving before it. */
  function save() {
    const saving = chat, values = settings.read(), list = find("#saved-chats", root);
    list.setAttribute("aria-busy", "true");
    const own = isSaving = isSaving.then(() => write(saving, values)).then(() => { if (own === isSaving) list.setAttribute("aria-busy", "false"); });
    return own;
  }

  /** @param {Chat} saving @param {import("./chat_state.js").Settings} values */
  async function write(saving, values) {
    const turns = savedTurns(saving);
    if (!turns.length && !saving.id) return;
    const content = { name: saving.name, mode: saving.mode, sides: saving.sides, settings: values, turns };
    const reply = saving.id ? await rest("PUT", `saved/${encodeURIComponent(saving.id)}`, content) : await rest("POST", "saved", content);
    if (!reply) return;
    saving.id = reply.id;
    saving.name = reply.name;
    if (saving === chat) { setAddress(); showHead(); }
    await saved.refresh();
  }

  // Asking

  actions["chat-try"] = (button) => { box.value = button.textContent ?? ""; send(); };
  actions["chat-send"] = () => (request ? request.abort() : send());
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!request) send(); }
  });

  const indices = () => (chat.mode === "one" ? [chat.sides.length - 1] : chat.sides.map((_, index) => index));
  /** The tool that was called last and has no result yet. */
  const pendingTool = () => chat.turns.at(-1)?.answers.flatMap((answer) => answer.tool_calls ?? [])[0]?.name;

  async function send() {
    await ready;
    const text = box.value.trim();
    if (request || !text || !pickers.model() || !settings.check()) return;
    if (chat.turns.some(isKept)) { toast("A question waits already. Take it back first, or begin a new chat."); return; }
    if (pickers.format() === "passage" && !passage.value.trim()) { toast("Paste the text that holds the answers first."); passage.focus(); return; }
    // A question without any answer has gone back into its field, and is asked again from there.
    const last = chat.turns.at(-1);
    if (last && isFailed(last)) { talk.removeFrom(chat.turns.length - 1); chat.turns.pop(); }
    const tool = pendingTool();
    /** @type {Turn} */
    const turn = tool ? { asked: text, role: "tool", name: tool, answers: [] } : { asked: text, role: "user", answers: [] };
    // Only a side that has called the tool gets its result.
    const called = chat.turns.at(-1)?.answers.filter((answer) => answer.tool_calls?.length).map((answer) => answer.side);
    box.value = "";
    chat.turns.push(turn);
    talk.addTurn(turn);
    find("#chat-mode-note", root).textContent = "";
    await generate(turn, tool && called ? indices().filter((side) => called.includes(side)) : indices(), seed());
    // A question without any answer goes back into its field.
    if (chat.turns.includes(turn) && !isKept(turn) && isFailed(turn)) { box.value = text; refresh(); }
    keepDraft();
    if (document.activeElement === document.body || document.activeElement === sendButton) box.focus({ preventScroll: true });
  }

  /** @param {Turn} turn */
  const isFailed = (turn) => turn.answers.length > 0 && turn.answers.every((answer) => answer.problem && !answer.text);
  const seed = () => settings.read().sampling.seed ?? null;

  /** What is sent for a turn. @param {Turn} turn @param {number[]} sides @param {number | null} ownSeed */
  function askOf(turn, sides, ownSeed) {
    const values = settings.read(), format = pickers.format(), place = chat.turns.indexOf(turn);
    return {
      sides: sides.map((side) => ({ ...chat.sides[side], messages: messagesOf(chat, values, format, side, place) })),
      sampling: { ...values.sampling, seed: ownSeed }, tools: values.tools, device: values.device, gpu: values.gpu, blind: chat.mode === "blind",
    };
  }

  /** Ask the sides, and write the answers as they arrive; a new question can wait for the computer. @param {Turn} turn @param {number[]} sides @param {number | null} ownSeed */
  async function generate(turn, sides, ownSeed, { canWait } = { canWait: true }) {
    const own = request = new AbortController(), asked = chat, ask = askOf(turn, sides, ownSeed);
    for (const side of sides) {
      const old = turn.answers.find((answer) => answer.side === side);
      /** @type {Answer} */
      const fresh = { side, text: "", isWaiting: true };
      if (old) { turn.answers[turn.answers.indexOf(old)] = fresh; talk.showAnswer(turn, fresh); } else { turn.answers.push(fresh); talk.addAnswer(turn, fresh); }
    }
    const answers = sides.map((side) => /** @type {Answer} */ (turn.answers.find((answer) => answer.side === side)));
    showSending();
    talk.nodeOf(turn).scrollIntoView({ block: "nearest" });
    const isShown = () => asked === chat && asked.turns.includes(turn);
    let problem = "";
    try {
      /** @type {AsyncGenerator<Part>} */
      const lines = postLines("/api/chat", ask, own.signal);
      for await (const part of lines) {
        // Something else has begun to use the computer meanwhile.
        if (part.error?.holder && !answers.some((answer) => answer.text)) throw Object.assign(new Error(problemText({ problems: [part.error] })), { status: 409 });
        problem = receive(turn, answers, part) || problem;
        if (isShown()) for (const answer of answers) talk.showAnswer(turn, answer);
      }
    } catch (error) {
      const { name, message, status } = /** @type {import("./streams.js").Refusal} */ (error);
      if (status === 409 && canWait && await wait(turn, ask)) { if (request === own) { request = null; showSending(); } return; }
      if (name === "AbortError") for (const answer of answers) answer.isStopped = !answer.done;
      else problem = status ? message : "The server does not respond.";
    }
    for (const answer of answers) {
      if (problem && !answer.done && !answer.isStopped) answer.problem ??= problem;
      if (answer.problem && answer.text) toast(answer.problem, true);
      answer.isWaiting = false;
      answer.phase = "";
      if (isShown()) talk.showAnswer(turn, answer);
    }
    if (request === own) { request = null; showSending(); }
    if (isShown()) finish(turn);
  }

  /** Take one line of the stream; return a problem of all sides. @param {Turn} turn @param {Answer[]} answers @param {Part} part */
  function receive(turn, answers, part) {
    if (part.question) turn.question = part.question;
    const concerned = part.side === undefined ? answers : [answers[part.side]];
    for (const answer of concerned) {
      if (part.error) answer.problem = problemText({ problems: [part.error] });
      else if (part.phase) answer.phase = `${part.text ?? "loading"} …`;
      else if (part.text) { answer.text += part.text; answer.isWaiting = false; answer.phase = ""; }
      else if (part.done) { setDone(answer, part.done); answer.phase = ""; }
    }
    return part.error && part.side === undefined ? problemText({ problems: [part.error] }) : "";
  }

  /** @param {Answer} answer @param {Done} done */
  function setDone(answer, done) {
    answer.done = done;
    answer.isWaiting = false;
    if (!done.tool_calls?.length) return;
    answer.tool_calls = done.tool_calls;
    // The calls are shown as calls; what is left is text beside them.
    const rest = answer.text.replace(/<tool_call>[^]*?(<\/tool_call>|$)/g, "").trim();
    answer.text = /^[[{]/.test(rest) ? "" : rest;
  }

  /** After the last answer of a turn. @param {Turn} turn */
  function finish(turn) {
    showVote(turn);
    showContext();
    showFormat();
    keepDraft();
    return save();
  }

  function showSending() {
    sendButton.textContent = request ? "Stop" : "Send";
    sendButton.classList.toggle("go", !request);
  }

  // A question that waits

  /** Whether the answers of a turn are still to come. @param {Turn} turn */
  const isKept = (turn) => Boolean(turn.question) && chat.mode !== "blind" && !turn.answers.some(isComplete);

  /** Keep a question until the computer is free; return whether it is kept. @param {Turn} turn @param {object} ask */
  async function wait(turn, ask) {
    if (chat.mode === "blind") return false;
    /** @type {import("./chat_waiting.js").Kept | undefined} */
    const kept = await rest("POST", "questions", ask);
    if (!kept) return false;
    turn.question = kept.id;
    turn.answers = [];
    if (!chat.turns.includes(turn)) return true;
    talk.redraw(turn);
    // A reload finds the question with its chat.
    const isSaved = save();
    await waiting.follow(turn, kept);
    await isSaved;
    return true;
  }

  /** Show the answers of a question that has waited. @param {Turn} turn @param {import("./chat_waiting.js").Kept} kept */
  function takeAnswers(turn, kept) {
    const sides = kept.ask.sides.map(({ model, tuned }) => chat.sides.findIndex((each) => each.model === model && each.tuned === tuned));
    delete turn.question;
    turn.answers = kept.answers.map(({ side, text, done, error }) => {
      /** @type {Answer} */
      const answer = { side: sides[side], text, problem: error ? problemText({ problems: [error] }) : undefined };
      if (done) setDone(answer, done);
      return answer;
    });
    talk.redraw(turn);
    if (!turn.answers.some(isComplete)) box.value ||= turn.asked;
    finish(turn);
  }

  /** Put a question that does not wait any more back into its field. @param {Turn} turn */
  function takeBack(turn) {
    const place = chat.turns.indexOf(turn);
    if (place < 0) return;
    talk.removeFrom(place);
    chat.turns.splice(place);
    box.value ||= turn.asked;
    box.focus({ preventScroll: true });
    keepDraft();
    save();
  }

  openAnswerActions(server, {
    talk, settings, pickers, generate, indices, seed, save, nameOf, isKept,
    chat: () => chat, isSending: () => Boolean(request),
    replaceFrom(place, turn) { talk.removeFrom(place); chat.turns.splice(place, Infinity, turn); talk.addTurn(turn); },
  });

  // Blind questions

  /** @param {Turn} turn */
  function showVote(turn) {
    if (chat.mode !== "blind" || !turn.question || turn.answers.filter(isComplete).length < 2) return;
    talk.setUnder(turn, voteButtons(turn, nameOf));
  }
  actions["chat-vote"] = async (button) => {
    const { turn } = talk.find(button), choice = button.dataset.choice;
    if (turn.vote) return;
    /** @type {import("./chat_votes.js").Reveal | undefined} */
    const reveal = await rest("POST", "votes", { question: turn.question, choice });
    if (!reveal) return;
    Object.assign(turn, { vote: reveal.choice, left: reveal.left });
    rate = reveal.rate;
    for (const answer of turn.answers) talk.showAnswer(turn, answer);
    showVote(turn);
    showRate(root, rate);
    showHead();
    find(".verdict-line", talk.nodeOf(turn)).focus({ preventScroll: true });
    save();
  };
  async function refreshRate() {
    rate = undefined;
    const shown = chat, run = chat.sides.find((side) => side.tuned)?.model;
    if (chat.mode === "blind" && run) {
      const rates = await readRates(run);
      if (shown !== chat) return;
      rate = rateOf(rates, chat.sides);
    }
    showRate(root, rate);
    showHead();
  }

  const ready = start();
}
