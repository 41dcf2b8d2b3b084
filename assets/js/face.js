// What every page shares: parts that are replaced when they change, actions, toasts, dialogs.
window.face = (() => {
  const shown = new WeakMap();
  const actions = {};

  const all = (query, root = document) => [...root.querySelectorAll(query)];

  // Parts come as HTML that Python has escaped. What has not changed is not touched.
  function patch(parts) {
    for (const [name, html] of Object.entries(parts ?? {})) {
      for (const part of all(`[data-part="${CSS.escape(name)}"]`)) {
        if (shown.get(part) === html) continue;
        shown.set(part, html);
        const held = part.contains(document.activeElement) ? document.activeElement.id : "";
        const log = part.matches("pre.log") && part;
        const atEnd = log && log.scrollHeight - log.scrollTop - log.clientHeight < 30;
        part.innerHTML = html;
        if (log && atEnd) log.scrollTop = log.scrollHeight;
        if (held) document.getElementById(held)?.focus({ preventScroll: true });
      }
    }
  }

  function toast(text, bad = false) {
    const note = document.createElement("div");
    note.className = bad ? "toast bad" : "toast";
    note.textContent = text;
    document.getElementById("toasts").append(note);
    setTimeout(() => note.remove(), bad ? 9000 : 4000);
  }

  // Ask the server; a problem becomes a toast and undefined.
  async function call(server, name, sent = {}) {
    try {
      const reply = await server[name](sent);
      if (reply?.toast) toast(reply.toast, reply.bad);
      return reply;
    } catch {
      toast("The server does not answer. Is it still running? Training goes on without it.", true);
      return undefined;
    }
  }

  // Resolves to true when the person says yes.
  function ask(title, text, yes, danger = true) {
    const box = document.createElement("dialog");
    box.className = "ask";
    const add = (tag, content, attributes = {}) => {
      const node = Object.assign(document.createElement(tag), attributes);
      node.textContent = content;
      return node;
    };
    const buttons = document.createElement("div");
    buttons.className = "buttons";
    const no = add("button", "Cancel", { className: "btn", type: "button" });
    const go = add("button", yes, { className: danger ? "btn danger" : "btn go", type: "button" });
    buttons.append(no, go);
    box.append(add("b", title, { id: "ask-title" }), add("p", text), buttons);
    box.setAttribute("aria-labelledby", "ask-title");
    document.querySelector(".face").append(box);
    return new Promise((resolve) => {
      let answer = false;
      no.onclick = () => box.close();
      go.onclick = () => { answer = true; box.close(); };
      box.onclose = () => { box.remove(); resolve(answer); };
      box.showModal();
      no.focus();
    });
  }

  const visible = (work) => document.addEventListener("visibilitychange", () => work(!document.hidden));

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-do]");
    if (!button) return;
    if (button.getAttribute("aria-disabled") === "true") { event.preventDefault(); return; }
    actions[button.dataset.do]?.(button, event);
  });
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.('[role="tab"]');
    if (!tab || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const row = all('[role="tab"]', tab.parentElement);
    const next = row[(row.indexOf(tab) + (event.key === "ArrowRight" ? 1 : row.length - 1)) % row.length];
    next.focus();
    next.click();
  });
  addEventListener("DOMContentLoaded", () => document.getElementById("shade").addEventListener("click", () => shade.flip()));

  actions.fold = (button) => fold(button, button.getAttribute("aria-expanded") !== "true");
  function fold(button, open) {
    button.setAttribute("aria-expanded", String(open));
    document.getElementById(button.getAttribute("aria-controls")).hidden = !open;
  }
  actions.more = (button) => fold(button, button.getAttribute("aria-expanded") !== "true");
  actions.tab = (button) => {
    const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
    for (const tab of all('[role="tab"]', button.parentElement)) {
      tab.setAttribute("aria-selected", String(tab === button));
      tab.tabIndex = tab === button ? 0 : -1;
      panel(tab).hidden = true;
    }
    panel(button).hidden = false;
    panel(button).setAttribute("aria-labelledby", button.id);
    button.dispatchEvent(new CustomEvent("tabbed", { bubbles: true }));
  };
  actions.copy = async (button) => {
    const text = document.querySelector(`[data-part="${button.dataset.from}"]`).textContent;
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied.");
    } catch {
      toast("The browser did not allow copying. Mark the text and copy it by hand.", true);
    }
  };

  function save(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  return { actions, all, ask, call, fold, patch, save, toast, visible };
})();
