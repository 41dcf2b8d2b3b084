// The saved chats: a list beside the conversation, to open, rename and delete them.
import { actions, ask, create, dialog, find, toast } from "./page.js";
import { clock, rest } from "./chat_state.js";

/** @typedef {{ id: string, name: string, created: number, changed: number, turns: number, votes: number }} Summary */
const NOW_S = 60, DAY_MS = 86_400_000, LONGEST_NAME = 80;

/**
 * @param {HTMLElement} root @param {() => string} currentId
 * @param {{ open: (id: string) => unknown, renamed: (id: string, name: string) => unknown, deleted: (id: string) => unknown }} handlers
 */
export function openSaved(root, currentId, handlers) {
  const list = find("#saved-chats", root);
  /** @type {Summary[]} */
  let chats = [];

  async function refresh() {
    const reply = await rest("GET", "saved", undefined, { isQuiet: true });
    chats = reply?.chats ?? reply ?? [];
    show();
  }

  function show() {
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.closest?.(".saved")?.getAttribute("data-chat");
    list.replaceChildren(...(chats.length ? chats.map(row) : [create("p", "Chats are saved here by themselves.", { className: "help" })]));
    if (focused) /** @type {HTMLElement | null} */ (list.querySelector(`[data-chat="${CSS.escape(focused)}"] .open`))?.focus({ preventScroll: true });
  }

  /** @param {Summary} chat */
  function row(chat) {
    const node = create("div", "", { className: "saved" }), menu = create("details", "", { className: "menu" }), choices = create("div");
    node.dataset.chat = chat.id;
    if (chat.id === currentId()) node.setAttribute("aria-current", "true");
    const open = create("button", chat.name, { type: "button", className: "open", title: chat.name });
    open.dataset.action = "chat-open";
    const more = create("summary", "⋯", { ariaLabel: `⋯ More for ${chat.name}` });
    for (const [text, action, className] of [["Rename", "chat-rename", ""], ["Delete", "chat-delete", "bad"]]) {
      const choice = create("button", text, { type: "button", className });
      choice.dataset.action = action;
      choices.append(choice);
    }
    menu.append(more, choices);
    menu.addEventListener("focusout", (/** @type {FocusEvent} */ event) => { if (!menu.contains(/** @type {Node | null} */ (event.relatedTarget))) menu.open = false; });
    node.append(open, create("small", chat.votes ? `${chat.votes} vote${chat.votes === 1 ? "" : "s"}` : when(chat.changed)), menu);
    return node;
  }

  /** @param {HTMLElement} button @returns {Summary} */
  const chatOf = (button) => /** @type {Summary} */ (chats.find((chat) => chat.id === /** @type {HTMLElement} */ (button.closest(".saved")).dataset.chat));
  actions["chat-open"] = (button) => handlers.open(chatOf(button).id);
  actions["chat-rename"] = async (button) => {
    const chat = chatOf(button), label = create("label", "Name ", { className: "amount" });
    const field = create("input", "", { id: "preset-name", value: chat.name, maxLength: LONGEST_NAME, required: true, autofocus: true });
    label.append(field);
    if (!(await dialog({ id: "rename", title: "Rename the chat", body: [label], submit: "Save" })) || !field.value.trim()) return;
    const reply = await rest("PATCH", `saved/${encodeURIComponent(chat.id)}`, { name: field.value.trim() });
    if (!reply) return;
    handlers.renamed(chat.id, field.value.trim());
    await refresh();
  };
  actions["chat-delete"] = async (button) => {
    const chat = chatOf(button);
    if (!(await ask(`Delete ${chat.name}?`, "Its messages cannot be restored. Votes and corrections stay.", "Delete"))) return;
    if (!(await rest("DELETE", `saved/${encodeURIComponent(chat.id)}`))) return;
    toast("Deleted.");
    handlers.deleted(chat.id);
    await refresh();
  };

  return { refresh, show };
}

/** When a chat has changed: now, 15:12, yesterday, 26 Nov. @param {number} seconds */
function when(seconds) {
  const then = new Date(seconds * 1000), today = new Date();
  if (today.getTime() / 1000 - seconds < NOW_S) return "now";
  if (then.toDateString() === today.toDateString()) return clock(seconds);
  if (then.toDateString() === new Date(today.getTime() - DAY_MS).toDateString()) return "yesterday";
  const day = `${then.getDate()} ${then.toLocaleString("en", { month: "short" })}`;
  return then.getFullYear() === today.getFullYear() ? day : `${day} ${then.getFullYear()}`;
}
