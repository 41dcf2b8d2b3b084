// The Machine page: hardware, system checks, disk usage and optional packages.
import { actions, all, ask, call, find, onVisibility, patch, whileDisabled } from "./page.js";
import { postLines } from "./streams.js";

const REFRESH_MS = 10000;

/** @param {HTMLElement} root @param {import("./page.js").Server} server */
export function open(root, server) {
  let timer = 0;
  async function refresh() {
    clearTimeout(timer);
    const reply = await call(server, "open");
    if (!reply) return;
    patch(reply.parts);
    markStored();
    root.dataset.usable = "true";
    if (!document.hidden) timer = setTimeout(refresh, REFRESH_MS);
  }
  onVisibility((isVisible) => { if (isVisible) refresh(); });

  actions["free-space"] = async (button) => {
    const { kind, run, title, effect, size } = button.dataset;
    if (!(await ask(`Free ${size}?`, `${title}. ${effect}`, button.textContent ?? "Free"))) return;
    await call(server, "free_space", { kind, run });
    refresh();
  };
  /** Keys of the selected files: kind/name. @type {Set<string>} */
  const stored = new Set();
  const storedBoxes = () => /** @type {HTMLInputElement[]} */ (all("[data-stored]", root));
  function markStored() {
    const shown = storedBoxes().map((box) => box.dataset.stored ?? "");
    for (const key of stored) if (!shown.includes(key)) stored.delete(key);
    for (const box of storedBoxes()) box.checked = stored.has(box.dataset.stored ?? "");
    const bar = find("#stored-actions", root);
    bar.hidden = !stored.size;
    find("span", bar).textContent = `${stored.size} selected`;
  }
  root.addEventListener("change", (event) => {
    const box = /** @type {HTMLInputElement} */ (event.target), key = box.dataset.stored;
    if (!key) return;
    if (box.checked) stored.add(key); else stored.delete(key);
    markStored();
  });
  actions["delete-stored"] = (button) => whileDisabled(button, async () => {
    const chosen = [...stored].map((key) => ({ kind: key.split("/", 1)[0], name: key.slice(key.indexOf("/") + 1) }));
    const uses = storedBoxes().filter((box) => box.checked && box.dataset.uses).map((box) => `${box.dataset.stored?.replace(/^\w+\//, "")} is ${box.dataset.uses}.`);
    const effect = uses.length ? `${uses.join(" ")} These runs keep their results; continuing them needs it again.` : "No run uses it.";
    const title = chosen.length === 1 ? `Delete ${chosen[0].name}?` : `Delete ${chosen.length} files?`;
    if (!(await ask(title, `${effect} Models can be downloaded again; uploaded files are deleted permanently.`, "Delete"))) return;
    const names = (/** @type {string} */ kind) => chosen.filter((item) => item.kind === kind).map((item) => item.name);
    await call(server, "delete_stored", { data: names("data"), model: names("model") });
    refresh();
  });
  actions["restore-run"] = (button) => whileDisabled(button, async () => {
    await call(server, "restore", { run: button.dataset.run });
    refresh();
  });
  actions["check-system"] = (button) => whileDisabled(button, async () => {
    patch({ "system-checks": '<p class="help">Checking Python, PyTorch, GPU, packages, disk and network. Importing all packages takes up to a minute …</p><div class="prog vague"><i></i></div>' });
    const reply = await call(server, "check_system");
    patch(reply?.parts ?? { "system-checks": "" });
  });
  actions["install-unsloth"] = (button) => whileDisabled(button, async () => {
    const text = "Packages of about 1 GB are downloaded from the Python Package Index and installed beside ModelForge. If they do not work on this computer, they are removed again.";
    if (!await ask("Install Unsloth?", text, "Install", false)) return;
    const show = (/** @type {string} */ text) => { for (const line of all('[data-extra="unsloth"]', root)) line.textContent = text; };
    show("Contacting the package index …");
    try {
      /** @type {AsyncGenerator<import("./types").ProgressLine>} */
      const lines = postLines("/ui/extras/unsloth", { confirmed: true });
      for await (const line of lines) {
        if (line.done) show("Unsloth is installed. Choose it as the provider on the Train page.");
        else show(line.error ?? line.progress ?? "");
      }
    } catch { show("The server does not respond."); }
  });
  refresh();
}
