// The Chat page: send messages and write the answers as they arrive, as text and never as HTML.
import { actions, all, call, create, find, findInput, load, patch, store, toast } from "./page.js";
import { postLines } from "./streams.js";

/** @typedef {{ role: string, content: string }} Message */
/** @typedef {"tuned" | "base"} Side */

/** An answer as it is shown. @typedef {{ side: Side, label: string, text: string }} Answer */
/** A conversation as it is kept. @typedef {{ history: Record<Side, Message[]>, turns: { asked: string, answers: Answer[] }[] }} Kept */

const BUSY_MS = 5000;

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  const page = find(".app", root), conversation = find(".talk", root);
  const box = /** @type {HTMLTextAreaElement} */ (find("#message", root));
  const sideBySide = findInput("#side-by-side", root), passage = findInput("#passage", root);
  /** @returns {HTMLSelectElement | null} */
  const picker = () => root.querySelector("#chat-model");
  /** @type {Record<Side, Message[]>} */
  let history = { tuned: [], base: [] };
  /** @type {AbortController | null} */
  let request = null;
  let isBusy = false;

  async function refresh() {
    const selected = new URLSearchParams(location.search).get("run") ?? picker()?.value ?? "";
    /** @type {import("./types").ChatPageReply | undefined} */
    const reply = await call(server, "open", { selected });
    if (!reply) return;
    patch(reply.parts);
    page.dataset.empty = String(!reply.has_models);
    // The question stays in its field until the run has ended.
    isBusy = reply.is_busy;
    find('[data-action="chat-send"]', root).setAttribute("aria-disabled", String(isBusy && !request));
    if (isBusy) setTimeout(() => { if (!document.hidden) refresh(); else document.addEventListener("visibilitychange", refresh, { once: true }); }, BUSY_MS);
    applyModel();
    if (!conversation.children.length) restore();
    root.dataset.usable = "true";
  }

  const model = () => picker()?.selectedOptions[0]?.dataset ?? {};
  /** How messages are sent to each kind of model: a conversation, a question about a passage, or a document. */
  const FORMATS = {
    conversation: { hint: "Write a message", messages: (/** @type {Message[]} */ earlier, /** @type {string} */ text) => [...earlier, { role: "user", content: text }] },
    passage: { hint: "Ask a question that the text answers", messages: (/** @type {Message[]} */ _earlier, /** @type {string} */ text) => [{ role: "system", content: passage.value.trim() }, { role: "user", content: text }] },
    document: { hint: "Paste a document to summarize", messages: (/** @type {Message[]} */ _earlier, /** @type {string} */ text) => [{ role: "user", content: text }] },
  };
  const format = () => FORMATS[/** @type {keyof typeof FORMATS} */ (model().format)] ?? FORMATS.conversation;

  function applyModel() {
    const hasBase = model().tuned === "yes" && model().base === "yes";
    sideBySide.disabled = !hasBase;
    if (sideBySide.parentElement) sideBySide.parentElement.hidden = !hasBase;
    page.classList.toggle("both", hasBase && sideBySide.checked);
    if (passage.parentElement) passage.parentElement.hidden = format() !== FORMATS.passage;
    box.placeholder = format().hint;
    box.rows = format() === FORMATS.document ? 6 : 1;
  }
  sideBySide.addEventListener("change", applyModel);
  root.addEventListener("change", (event) => {
    const select = picker();
    if (!select || event.target !== select) return;
    window.history.replaceState({}, "", `/chat?run=${encodeURIComponent(select.value)}`);
    clear();
    refresh();
  });

  function clear() { request?.abort(); history = { tuned: [], base: [] }; conversation.replaceChildren(); }
  actions["chat-clear"] = () => { clear(); keep(); box.focus(); };

  // A conversation is kept for each model while the tab is open.
  const key = () => `modelforge-chat-${picker()?.value ?? ""}`;
  function keep() {
    const turns = all(".turn", conversation).map((turn) => ({
      asked: find(".asked", turn).textContent ?? "",
      answers: all(".say", turn).map((say) => ({ side: say.classList.contains("new") ? "tuned" : "base", label: say.firstChild?.textContent ?? "", text: say.lastChild?.textContent ?? "" })),
    }));
    store(sessionStorage, key(), { history, turns });
  }
  function restore() {
    const kept = /** @type {Kept | null} */ (load(sessionStorage, key()));
    if (!kept?.turns) return;
    history = kept.history;
    for (const { asked, answers } of kept.turns) {
      const row = addTurn(asked);
      for (const { side, label, text } of answers) {
        const answer = addAnswer(row, side, label);
        answer.classList.remove("wait");
        if (answer.lastChild) answer.lastChild.textContent = text;
      }
    }
  }

  /** @param {string} asked @returns {HTMLElement} the place of its answers */
  function addTurn(asked) {
    const turn = create("div", "", { className: "turn" }), answers = create("div", "", { className: "answers" });
    turn.append(create("div", asked, { className: "asked" }), answers);
    conversation.append(turn);
    return answers;
  }

  /** @param {HTMLElement} answers @param {Side} side @param {string} label @returns {HTMLElement} */
  function addAnswer(answers, side, label) {
    const answer = create("div", "", { className: side === "tuned" ? "say wait new" : "say wait" });
    answer.append(create("small", label), create("div"));
    answers.append(answer);
    return answer;
  }
  actions["chat-try"] = (button) => { box.value = button.textContent ?? ""; send(); };
  actions["chat-send"] = () => (request ? request.abort() : send());
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!request) send(); }
  });

  async function send() {
    await ready;
    const text = box.value.trim();
    if (request || isBusy || !text || !picker()?.value) return;
    if (format() === FORMATS.passage && !passage.value.trim()) { toast("Paste the text that holds the answers first."); passage.focus(); return; }
    box.value = "";
    const answers = addTurn(text);
    const isTuned = model().tuned === "yes";
    /** @type {Side[]} */
    const sides = isTuned && !sideBySide.disabled && sideBySide.checked ? ["base", "tuned"] : [isTuned ? "tuned" : "base"];
    const boxes = sides.map((side) => addAnswer(answers, side, side === "tuned" ? "tuned" : "base model"));
    request = new AbortController();
    showSending(true);
    answers.scrollIntoView({ block: "end" });
    for (const [place, side] of sides.entries()) await receive(side, text, boxes[place], request.signal);
    request = null;
    showSending(false);
    if (answers.isConnected) {
      keep();
      // A question without any answer goes back into its field.
      if (boxes.every((answer) => answer.dataset.failed)) { box.value = text; refresh(); }
    }
    box.focus({ preventScroll: true });
  }

  /** @param {boolean} isSending */
  function showSending(isSending) {
    const button = find('[data-action="chat-send"]', root);
    button.textContent = isSending ? "Stop" : "Send";
    button.classList.toggle("go", !isSending);
  }

  /** @param {Side} side @param {string} question @param {HTMLElement} answer @param {AbortSignal} signal */
  async function receive(side, question, answer, signal) {
    const body = /** @type {HTMLElement} */ (answer.lastChild), label = /** @type {HTMLElement} */ (answer.firstChild), title = label.textContent;
    const messages = format().messages(history[side], question);
    history[side].push({ role: "user", content: question });
    let text = "", problem = "";
    try {
      /** @type {AsyncGenerator<import("./types").ChatLine>} */
      const lines = postLines("/ui/chat", { target: picker()?.value, messages, tuned: side === "tuned", temperature: Number(findInput("#temperature", root).value) }, signal);
      for await (const line of lines) {
        if (line.error) { problem = line.error; break; }
        if (line.phase) label.textContent = `${title} · ${line.text ?? "loading"} …`;
        else if (line.text) { text += line.text; body.textContent = text; answer.classList.remove("wait"); label.textContent = title; }
        else if (line.done) {
          label.textContent = `${title} · ${line.done.tokens} token${line.done.tokens === 1 ? "" : "s"} in ${line.done.seconds.toFixed(1)} s`;
          if (!text) body.textContent = "The answer is empty.";
        }
      }
    } catch (error) {
      if (/** @type {Error} */ (error).name === "AbortError") label.textContent = `${title} · stopped`;
      else problem = "The server does not respond.";
    }
    if (problem) {
      label.textContent = `${title} · no answer`;
      body.textContent = text || problem;
      answer.dataset.failed = text ? "" : "yes";
      if (text) toast(problem, true);
    }
    answer.classList.remove("wait");
    if (text) history[side].push({ role: "assistant", content: text });
    else history[side].pop();
  }

  const ready = refresh();
}
