// The Runs, Export and Machine pages: ask for their parts, now and then again.
face.page = (root, server, every = 0) => {
  const { actions, ask, call, patch } = face;
  const search = root.querySelector(".search");
  let waiting = 0;

  async function refresh() {
    const reply = await call(server, "open", { query: search?.value ?? "", chosen: new URLSearchParams(location.search).get("run") });
    if (!reply) return;
    patch(reply.parts);
    root.dataset.usable = "true";
    if (every && !document.hidden && reply.lively) { clearTimeout(waiting); waiting = setTimeout(refresh, every); }
  }
  search?.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(refresh, 150); });
  face.visible((seen) => { if (seen) refresh(); });
  root.addEventListener("change", (event) => {
    if (event.target.dataset.choose === undefined) return;
    history.replaceState({}, "", `?run=${encodeURIComponent(event.target.value)}`);
    refresh();
  });

  actions["run-stop"] = async (button) => {
    if (!(await ask("Stop this run?", "What it has learned so far is kept.", "Stop and keep", false))) return;
    await call(server, "stop", { run: button.dataset.run, keep: true });
    refresh();
  };
  actions["run-delete"] = async (button) => {
    const sure = await ask(`Delete “${button.dataset.name}”?`, "Its adapter, log and numbers are deleted for good.", "Delete");
    if (!sure) return;
    await call(server, "delete", { run: button.dataset.run });
    refresh();
    root.querySelector(".search")?.focus();
  };
  actions.examine = async (button) => {
    button.setAttribute("aria-disabled", "true");
    patch({ doctor: '<p class="help">Looking at Python, PyTorch, GPU, packages, disk and network. A few seconds …</p><div class="prog vague"><i></i></div>' });
    const reply = await call(server, "examine");
    patch(reply?.parts ?? { doctor: "" });
    button.setAttribute("aria-disabled", "false");
  };
  refresh();
};
