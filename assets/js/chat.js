// The Chat page: send messages and write the answers as they arrive, as text and never as HTML.
import { actions, all, call, copyText, create, find, findInput, load, patch, store, toast } from "./page.js";
import { postLines } from "./streams.js";

/** @typedef {{ role: string, content: string }} Message */
/** @typedef {"tuned" | "base"} Side */

/** An answer as it is shown. @typedef {{ side: Side, label: string, text: string }} Answer */
/** A conversation as it is kept. @typedef {{ system?: string, history: Record<Side, Message[]>, turns: { asked: string, answers: Answer[] }[] }} Kept */

const BUSY_MS = 5000, SETTINGS_KEY = "modelforge-chat-settings";
/** Numbers of the answers: the id of the field, and its name in a request. */
const NUMBERS = { temperature: "temperature", "top-p": "top_p", longest: "max_new_tokens" };

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  const page = find(".app", root), conversation = find(".talk", root);
  const box = /** @type {HTMLTextAreaElement} */ (find("#message", root));
  const sideBySide = findInput("#side-by-side", root), passage = findInput("#passage", root);
  const settings = /** @type {HTMLFormElement} */ (find("#chat-settings", root)), panel = /** @type {HTMLDetailsElement} */ (find(".chat-settings", root));
  const system = /** @type {HTMLTextAreaElement} */ (find("#system", root));
  const numbers = Object.keys(NUMBERS).map((id) => findInput(`#${id}`, root));
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
    conversation: { hint: "Write a message", messages: (/** @type {Message[]} */ earlier, /** @type {string} */ text) => [...(system.value.trim() ? [{ role: "system", content: system.value.trim() }] : []), ...earlier, { role: "user", content: text }] },
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
    const isConversation = format() === FORMATS.conversation;
    const field = /** @type {HTMLElement} */ (system.closest(".f"));
    field.hidden = !isConversation;
    system.placeholder = model().system || "Who the model is and how it answers";
    find(".hint", field).textContent = model().system ? "As trained if empty." : "None if empty.";
    box.placeholder = format().hint;
    box.rows = format() === FORMATS.document ? 6 : 1;
  }
  sideBySide.addEventListener("change", applyModel);
  root.addEventListener("change", (event) => {
    const select = picker();
    if (!select || event.target !== select) return;
    window.history.replaceState({}, "", `/chat?run=${encodeURIComponent(select.value)}`);
    clear();
    system.value = "";
    refresh();
  });

  // The settings of answers are kept while the tab is open, and the system message with its conversation.
  const isWide = matchMedia("(min-width: 901px)");
  panel.open = isWide.matches;
  isWide.addEventListener("change", () => { panel.open = isWide.matches; });
  for (const [index, value] of (load(sessionStorage, SETTINGS_KEY) ?? []).entries()) if (numbers[index]) numbers[index].value = value;
  function showSettings() {
    const [temperature, share, longest] = numbers.map((field) => field.value);
    find("#chat-sum", root).textContent = `temperature ${temperature} · top-p ${share} · ${longest} tokens${system.value.trim() ? " · system message" : ""}`;
    const isChanged = system.value !== "" || numbers.some((field) => field.value !== field.defaultValue);
    find('[data-action="chat-defaults"]', root).hidden = !isChanged;
  }
  settings.addEventListener("submit", (event) => event.preventDefault());
  settings.addEventListener("input", () => { store(sessionStorage, SETTINGS_KEY, numbers.map((field) => field.value)); showSettings(); });
  system.addEventListener("change", keep);
  actions["chat-defaults"] = () => {
    for (const field of numbers) field.value = field.defaultValue;
    system.value = "";
    store(sessionStorage, SETTINGS_KEY, null);
    showSettings();
    keep();
  };
  /** Show a setting that is not possible at its field; return whether there is none. */
  function checkSettings() {
    if (settings.checkValidity()) return true;
    panel.open = true;
    return settings.reportValidity();
  }

  function clear() { request?.abort(); history = { tuned: [], base: [] }; conversation.replaceChildren(); }
  actions["chat-clear"] = () => { clear(); keep(); box.focus(); };

  // A conversation is kept for each model while the tab is open.
  const key = () => `modelforge-chat-${picker()?.value ?? ""}`;
  function keep() {
    const turns = all(".turn", conversation).map((turn) => ({
      asked: find(".asked", turn).textContent ?? "",
      answers: all(".say", turn).map((say) => ({ side: say.classList.contains("new") ? "tuned" : "base", label: find("small", say).textContent ?? "", text: find(".text", say).textContent ?? "" })),
    }));
    store(sessionStorage, key(), { system: system.value, history, turns });
  }
  function restore() {
    const kept = /** @type {Kept | null} */ (load(sessionStorage, key()));
    system.value = kept?.system ?? "";
    showSettings();
    if (!kept?.turns) return;
    history = kept.history;
    for (const { asked, answers } of kept.turns) {
      const row = addTurn(asked);
      for (const { side, label, text } of answers) {
        const answer = addAnswer(row, side, label);
        answer.classList.remove("wait");
        find(".text", answer).textContent = text;
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
    const acts = create("div", "", { className: "acts" });
    acts.append(...[["Copy", "chat-copy", ""], ["Regenerate", "chat-again", "again"]].map(([text, action, className]) => {
      const button = create("button", text, { type: "button", className, ariaLabel: `${text} the answer of the ${side === "tuned" ? "tuned" : "base"} model` });
      button.dataset.action = action;
      return button;
    }));
    answer.append(create("small", label), create("div", "", { className: "text" }), acts);
    answers.append(answer);
    return answer;
  }
  actions["chat-copy"] = (button) => copyText(find(".text", /** @type {HTMLElement} */ (button.closest(".say"))).textContent ?? "");
  actions["chat-again"] = async (button) => {
    const answer = /** @type {HTMLElement} */ (button.closest(".say")), turn = /** @type {HTMLElement} */ (button.closest(".turn"));
    /** @type {Side} */
    const side = answer.classList.contains("new") ? "tuned" : "base", asked = find(".asked", turn).textContent ?? "";
    if (request || isBusy || !checkSettings()) return;
    const earlier = history[side];
    // A question without an answer is not in the conversation.
    if (earlier.at(-1)?.role === "assistant" && earlier.at(-2)?.content === asked) history[side] = earlier.slice(0, -2);
    const text = find(".text", answer).textContent, label = find("small", answer).textContent;
    find(".text", answer).textContent = "";
    find("small", answer).textContent = side === "tuned" ? "tuned" : "base model";
    answer.classList.add("wait");
    delete answer.dataset.failed;
    await generate([[side, answer]], asked);
    if (answer.dataset.failed && answer.isConnected) {
      // The old answer stays where there is no new one.
      history[side] = earlier;
      toast(find(".text", answer).textContent ?? "", true);
      find(".text", answer).textContent = text;
      find("small", answer).textContent = label;
      keep();
    }
  };
  actions["chat-try"] = (button) => { box.value = button.textContent ?? ""; send(); };
  actions["chat-send"] = () => (request ? request.abort() : send());
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!request) send(); }
  });

  async function send() {
    await ready;
    const text = box.value.trim();
    if (request || isBusy || !text || !picker()?.value || !checkSettings()) return;
    if (format() === FORMATS.passage && !passage.value.trim()) { toast("Paste the text that holds the answers first."); passage.focus(); return; }
    box.value = "";
    const answers = addTurn(text);
    const isTuned = model().tuned === "yes";
    /** @type {Side[]} */
    const sides = isTuned && !sideBySide.disabled && sideBySide.checked ? ["base", "tuned"] : [isTuned ? "tuned" : "base"];
    /** @type {[Side, HTMLElement][]} */
    const boxes = sides.map((side) => [side, addAnswer(answers, side, side === "tuned" ? "tuned" : "base model")]);
    await generate(boxes, text);
    // A question without any answer goes back into its field.
    if (answers.isConnected && boxes.every(([, answer]) => answer.dataset.failed)) { box.value = text; refresh(); }
    box.focus({ preventScroll: true });
  }

  /** Write the answers to a question, one side after the other. @param {[Side, HTMLElement][]} boxes @param {string} question */
  async function generate(boxes, question) {
    const own = request = new AbortController();
    showSending(true);
    boxes[0][1].scrollIntoView({ block: "nearest" });
    for (const [side, answer] of boxes) await receive(side, question, answer, own.signal);
    if (request === own) { request = null; showSending(false); }
    if (boxes[0][1].isConnected) keep();
  }

  /** @param {boolean} isSending */
  function showSending(isSending) {
    const button = find('[data-action="chat-send"]', root);
    button.textContent = isSending ? "Stop" : "Send";
    button.classList.toggle("go", !isSending);
  }

  /** @param {Side} side @param {string} question @param {HTMLElement} answer @param {AbortSignal} signal */
  async function receive(side, question, answer, signal) {
    const body = find(".text", answer), label = find("small", answer), title = label.textContent;
    const messages = format().messages(history[side], question);
    const kept = history[side];
    kept.push({ role: "user", content: question });
    let text = "", problem = "";
    try {
      /** @type {AsyncGenerator<import("./types").ChatLine>} */
      const lines = postLines("/ui/chat", { target: picker()?.value, messages, tuned: side === "tuned", ...Object.fromEntries(numbers.map((field) => [NUMBERS[/** @type {keyof NUMBERS} */ (field.id)], field.valueAsNumber])) }, signal);
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
      else body.append(" ", create("a", "Machine page", { href: "/machine" }), " · ", create("a", "Log of the chat", { href: "/ui/chat/log", target: "_blank" }));
    }
    answer.classList.remove("wait");
    // Of a conversation that was cleared in the meantime nothing is kept.
    if (text) kept.push({ role: "assistant", content: text });
    else kept.pop();
  }

  const ready = refresh();
}
