// Shared by all pages: parts replaced by the server, actions of buttons, toasts, dialogs and tabs.

/** Functions of the server, by name. @typedef {Record<string, (request: object) => Promise<any>>} Server */
/** @typedef {(button: HTMLElement, event: Event) => unknown} Action */

/** Handlers of clicks, by the value of `data-action`. @type {Record<string, Action>} */
export const actions = {};

/** @param {string} selector @param {ParentNode} [root] @returns {HTMLElement[]} */
export const all = (selector, root = document) => [...root.querySelectorAll(selector)].map((node) => /** @type {HTMLElement} */ (node));

/** Return the first match; raise an error if there is none. @param {string} selector @param {ParentNode} [root] @returns {HTMLElement} */
export function find(selector, root = document) {
  const node = root.querySelector(selector);
  if (!node) throw new Error(`No element matches ${selector}.`);
  return /** @type {HTMLElement} */ (node);
}

/** @param {string} selector @param {ParentNode} [root] @returns {HTMLInputElement} */
export const findInput = (selector, root = document) => /** @type {HTMLInputElement} */ (find(selector, root));

/** @param {string} tag @param {string} [text] @param {Record<string, unknown>} [properties] @returns {any} */
export function create(tag, text = "", properties = {}) {
  const node = Object.assign(document.createElement(tag), properties);
  if (text) node.textContent = text;
  return node;
}

/** @type {WeakMap<Element, string>} */
const shown = new WeakMap();

/**
 * Replace the content of parts with HTML that the server has escaped. Unchanged parts are left alone.
 * @param {Record<string, string> | undefined} parts
 */
export function patch(parts) {
  for (const [name, html] of Object.entries(parts ?? {})) {
    for (const part of all(`[data-part="${CSS.escape(name)}"]`)) {
      if (shown.get(part) === html) continue;
      shown.set(part, html);
      const focused = part.contains(document.activeElement) ? document.activeElement?.id : "";
      const isLog = part.matches("pre.log");
      const isAtEnd = isLog && part.scrollHeight - part.scrollTop - part.clientHeight < 30;
      part.innerHTML = html;
      if (isAtEnd) part.scrollTop = part.scrollHeight;
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
  }
}

/** @param {string} text @param {boolean} [isError] @param {() => void} [undo] adds a button */
export function toast(text, isError = false, undo = undefined) {
  const note = create("div", text, { className: isError ? "toast bad" : "toast" });
  if (undo) {
    // Only the newest change can be undone.
    for (const older of all("#toasts .undoable")) older.remove();
    note.classList.add("undoable");
    note.append(" ", create("button", "Undo", { className: "btn s", type: "button", onclick: () => { note.remove(); undo(); } }));
  }
  find("#toasts").append(note);
  setTimeout(() => note.remove(), isError || undo ? 9000 : 4000);
}

/** Show an error at the field or button that caused it, until the next try clears it. @param {string} place the value of `data-failed` @param {string} [text] */
export function showFailure(place, text = "") {
  for (const note of all(`[data-failed="${place}"]`)) note.textContent = text;
}

const LOST = "The server does not respond. Check that it is still running. A run in progress continues without it.";

/**
 * Call a function of the server. A refusal or a lost connection becomes a toast and a text at its `place`, and the result undefined.
 * @param {Server} server @param {string} name @param {object} [request] @param {() => void} [onRefused] @param {string} [place]
 * @returns {Promise<any>}
 */
export async function call(server, name, request = {}, onRefused = () => {}, place = "") {
  showFailure(place);
  try {
    const reply = await server[name](request);
    if (reply?.toast) toast(reply.toast, reply.is_error);
    if (!reply?.is_error) return reply;
    showFailure(place, reply.toast);
    onRefused();
  } catch {
    toast(LOST, true);
    showFailure(place, LOST);
  }
  return undefined;
}

/** Return the first problem of an error reply as a sentence. @param {any} reply */
export function problemText(reply) {
  const first = reply?.problems?.[0] ?? reply?.detail?.problems?.[0];
  // As in Problem.sentence: a text in lower case continues the sentence that its place begins.
  const start = /^[a-z]+ /.test(first?.what ?? "") ? `${first.where} ` : "";
  return first ? `${start}${first.what} ${first.remedy ?? ""}`.trim() : "";
}

/**
 * Show a modal dialog with a form; resolve to true if it was submitted.
 * @param {{ id: string, title: string, body: Node[], submit: string, isDanger?: boolean }} options
 * @returns {Promise<boolean>}
 */
export function dialog({ id, title, body, submit, isDanger = false }) {
  const box = create("dialog", "", { className: "ask" });
  const form = create("form", "", { method: "dialog" });
  const buttons = create("div", "", { className: "buttons" });
  const cancel = create("button", "Cancel", { className: "btn", type: "button", onclick: () => box.close() });
  const confirm = create("button", submit, { className: isDanger ? "btn danger" : "btn go", type: "submit", value: "yes" });
  buttons.append(cancel, confirm);
  form.append(create("b", title, { id: `${id}-title` }), ...body, buttons);
  box.append(form);
  box.setAttribute("aria-labelledby", `${id}-title`);
  find("#page").append(box);
  return new Promise((resolve) => {
    box.onclose = () => { box.remove(); resolve(box.returnValue === "yes"); };
    box.showModal();
    (box.querySelector("[autofocus]") ?? (isDanger ? cancel : confirm)).focus();
  });
}

/** Ask for confirmation. @param {string} title @param {string} text @param {string} submit @param {boolean} [isDanger] */
export const ask = (title, text, submit, isDanger = true) => dialog({ id: "ask", title, body: [create("p", text)], submit, isDanger });

/** Run `work` while the button is disabled; ignore clicks in the meantime. @param {HTMLElement} button @param {() => Promise<unknown>} work */
export async function whileDisabled(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try { await work(); } finally { button.setAttribute("aria-disabled", "false"); }
}

/** @param {(isVisible: boolean) => void} handler */
export const onVisibility = (handler) => document.addEventListener("visibilitychange", () => handler(!document.hidden));

/** Offer text as a file. @param {string} name @param {string} text */
export function saveFile(name, text) {
  const link = create("a", "", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** @param {Storage} storage @param {string} key @returns {any} */
export function load(storage, key) {
  try { return JSON.parse(storage.getItem(key) ?? "null"); } catch { return null; }
}

/** Store a value; return false where the browser stores nothing. @param {Storage} storage @param {string} key @param {unknown} value */
export function store(storage, key, value) {
  try { storage.setItem(key, JSON.stringify(value)); return true; } catch { return false; }
}

/** An id that lets the server recognize a request that is sent twice. */
export const newRequestId = () => crypto.randomUUID?.() ?? String(Math.random()).slice(2);

// Gradio has set its own title.
document.title = `${find(".top").dataset.title} · ModelForge`;

/** The form of the Train page, kept while the tab is open. */
export const FORM_KEY = "modelforge-form";

/** @param {string} run */
export const openRun = (run) => location.assign(`/?run=${encodeURIComponent(run)}`);

document.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest?.("[data-action]"));
  if (!button) return;
  if (button.getAttribute("aria-disabled") === "true") { event.preventDefault(); return; }
  actions[button.dataset.action ?? ""]?.(button, event);
});

document.addEventListener("keydown", (event) => {
  const tab = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest?.('[role="tab"]'));
  if (!tab?.parentElement || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  const row = all('[role="tab"]', tab.parentElement);
  const next = row[(row.indexOf(tab) + (event.key === "ArrowRight" ? 1 : row.length - 1)) % row.length];
  next.focus();
  next.click();
});

/** @param {Element} button @returns {HTMLElement} */
const controlled = (button) => find(`#${CSS.escape(button.getAttribute("aria-controls") ?? "")}`);

actions.fold = (button) => {
  const isOpen = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(isOpen));
  controlled(button).hidden = !isOpen;
};

actions.tab = (button) => {
  for (const tab of all('[role="tab"]', button.parentElement ?? document)) {
    tab.setAttribute("aria-selected", String(tab === button));
    tab.tabIndex = tab === button ? 0 : -1;
    controlled(tab).hidden = true;
  }
  controlled(button).hidden = false;
  controlled(button).setAttribute("aria-labelledby", button.id);
  button.dispatchEvent(new CustomEvent("tabchange", { bubbles: true }));
};

actions.copy = (button) => copyText(find(`[data-part="${button.dataset.from}"]`).textContent ?? "");

/** @param {string} text */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("The browser did not allow copying. Select the text and copy it by hand.", true);
  }
};
