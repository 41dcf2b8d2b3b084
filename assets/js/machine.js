// The Machine page: hardware, system checks, disk usage and optional packages.
import { actions, all, ask, call, onVisibility, patch, whileDisabled } from "./page.js";
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
