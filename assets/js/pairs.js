// Make preference pairs: sample two answers for each prompt while the user picks the better one.
import { actions, call, find, findInput, load, store, toast, whileDisabled } from "./page.js";
import { postLines } from "./streams.js";

const STORAGE_KEY = "modelforge-pairs", MAX_FILE_BYTES = 1048576, MAX_TRIES = 3, TEMPERATURE = 0.8;
/** A prompt with its two answers. @typedef {{ prompt: string, answers: [string, string], isReady: boolean }} Candidate */
/** @typedef {{ prompt: string, chosen: string, rejected: string }} Pair */

/** @param {HTMLElement} root @param {import("./page.js").Server} server @param {(dataset: string) => void} useDataset */
export function openPairs(root, server, useDataset) {
  const prompts = findInput("#prompts", root), panel = find("#choosing", root), count = find("#pairs-count", root);
  const buttons = [find("#answer-1", root), find("#answer-2", root)], question = find(".asked-now", panel), sampleButton = find("#sample", root);
  /** @returns {HTMLSelectElement | null} */
  const picker = () => root.querySelector("#pairs-model");
  // A candidate moves from the queue to `current`, and becomes a pair.
  /** @type {Candidate[]} */
  let queue = [];
  /** @type {Candidate | null} */
  let current = null;
  /** @type {AbortController | null} */
  let sampling = null;
  let total = 0;
  const stored = load(localStorage, STORAGE_KEY);
  /** @type {Pair[]} */
  const pairs = stored?.pairs ?? [];
  prompts.value = stored?.prompts ?? "";

  function remember() {
    store(localStorage, STORAGE_KEY, { pairs, prompts: prompts.value });
    const left = queue.length + (current ? 1 : 0);
    count.textContent = `${pairs.length} picked${left ? `, ${left} left` : ""}`;
  }
  prompts.addEventListener("input", remember);

  findInput("#prompt-file", root).addEventListener("change", async (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target), file = field.files?.[0];
    if (!file) return;
    if (file.size > MAX_FILE_BYTES) toast("A list of prompts may have up to 1.0 MiB.", true);
    else prompts.value = [prompts.value.trimEnd(), (await file.text()).trim()].filter(Boolean).join("\n");
    field.value = "";
    remember();
  });

  actions["pairs-sample"] = () => {
    if (sampling) { sampling.abort(); return; }
    const used = new Set(pairs.map((pair) => pair.prompt));
    const lines = [...new Set(prompts.value.split("\n").map((line) => line.trim()).filter(Boolean))].filter((line) => !used.has(line));
    if (!lines.length) { toast(used.size ? "Every prompt has a pair already." : "Write a prompt first.", true); prompts.focus(); return; }
    if (!picker()?.value) { toast("Train a model first; there is none to sample from yet.", true); return; }
    queue = lines.map((prompt) => ({ prompt, answers: ["", ""], isReady: false }));
    total = pairs.length + queue.length;
    panel.hidden = false;
    advance();
    sampleAll();
  };

  // Answers are sampled in order while the user picks.
  async function sampleAll() {
    if (sampling) return;
    sampling = new AbortController();
    sampleButton.textContent = "Stop";
    try {
      for (let next = nextToSample(); next; next = nextToSample()) await sampleTwice(next, sampling.signal);
    } catch (error) {
      const { name, message } = /** @type {Error} */ (error);
      if (name !== "AbortError") toast(message || "The server does not respond.", true);
      queue = queue.filter((candidate) => candidate.isReady);
      if (current && !current.isReady) advance();
    }
    sampling = null;
    sampleButton.textContent = "Sample answers";
    remember();
  }
  const nextToSample = () => [current, ...queue].find((candidate) => candidate && !candidate.isReady);
  const isSame = (/** @type {Candidate} */ candidate) => candidate.answers[0].trim() === candidate.answers[1].trim();

  /** @param {Candidate} candidate @param {AbortSignal} signal */
  async function sampleTwice(candidate, signal) {
    candidate.answers = ["", ""];
    await sample(candidate, 0, signal);
    // Two equal answers make no pair; another sample may differ.
    for (let tries = 0; tries < MAX_TRIES && (tries === 0 || isSame(candidate)); tries += 1) await sample(candidate, 1, signal);
    candidate.isReady = true;
    if (candidate === current) show();
  }

  /** @param {Candidate} candidate @param {0 | 1} place @param {AbortSignal} signal */
  async function sample(candidate, place, signal) {
    const select = picker();
    candidate.answers[place] = "";
    const messages = [{ role: "user", content: candidate.prompt }];
    /** @type {AsyncGenerator<import("./types").ChatLine>} */
    const lines = postLines("/ui/chat", { target: select?.value, messages, tuned: select?.selectedOptions[0]?.dataset.tuned === "yes", temperature: TEMPERATURE }, signal);
    for await (const line of lines) {
      if (line.error) throw new Error(line.error);
      if (line.phase) { if (candidate === current) setText(place, `${line.text ?? "Loading"} …`); }
      else if (line.text) { candidate.answers[place] += line.text; if (candidate === current) show(); }
    }
  }

  function advance() {
    current = queue.shift() ?? null;
    show();
    remember();
  }

  /** @param {number} place @param {string} text */
  const setText = (place, text) => { find(".text", buttons[place]).textContent = text; };

  function show() {
    const areEqual = Boolean(current?.isReady && isSame(current));
    const canPick = Boolean(current?.isReady && !areEqual && current.answers.every((text) => text.trim()));
    question.textContent = current
      ? `${pairs.length + 1} of ${total}: ${current.prompt}${areEqual ? " (both answers are equal: sample again, or skip)" : ""}`
      : `${pairs.length} picked. Save them, or add prompts.`;
    buttons.forEach((button, place) => {
      setText(place, current ? current.answers[place] || "…" : "");
      button.setAttribute("aria-disabled", String(!canPick));
      button.hidden = !current;
    });
  }

  /** @param {number} place */
  function pick(place) {
    if (!current?.isReady || buttons[place].getAttribute("aria-disabled") === "true") return;
    pairs.push({ prompt: current.prompt, chosen: current.answers[place], rejected: current.answers[1 - place] });
    advance();
  }
  actions["pairs-pick"] = (button) => pick(Number(button.dataset.pick) - 1);
  actions["pairs-skip"] = () => { if (current) { total -= 1; advance(); } };
  actions["pairs-again"] = () => { if (current?.isReady) { current.isReady = false; show(); sampleAll(); } };
  actions["pairs-back"] = () => {
    const last = pairs.pop();
    if (!last) return;
    if (current) queue.unshift(current);
    else total = Math.max(total, pairs.length + 1);
    current = { prompt: last.prompt, answers: [last.chosen, last.rejected], isReady: true };
    show();
    remember();
  };
  document.addEventListener("keydown", (event) => {
    if (panel.hidden || !panel.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/** @type {Element} */ (event.target).matches?.("input, textarea, select")) return;
    if (event.key === "1" || event.key === "2") { event.preventDefault(); pick(Number(event.key) - 1); }
  });

  actions["pairs-save"] = (button) => whileDisabled(button, async () => {
    /** @type {import("./types").DatasetReply | undefined} */
    const reply = await call(server, "save_pairs", { name: findInput("#pairs-name", root).value, pairs });
    if (!reply) return;
    localStorage.removeItem(STORAGE_KEY);
    useDataset(reply.dataset);
  });

  remember();
  if (pairs.length) { panel.hidden = false; show(); }
}
