// The Export and Machine pages: ask for their parts, now and then again.
face.page = (root, server, every = 0) => {
  const { actions, ask, call, patch } = face;
  let waiting = 0;

  async function refresh() {
    const reply = await call(server, "open", { chosen: new URLSearchParams(location.search).get("run") });
    if (!reply) return;
    patch(reply.parts);
    root.dataset.usable = "true";
    if (every && !document.hidden && reply.lively) { clearTimeout(waiting); waiting = setTimeout(refresh, every); }
  }
  face.visible((seen) => { if (seen) refresh(); });
  root.addEventListener("change", (event) => {
    if (event.target.dataset.choose === undefined) return;
    history.replaceState({}, "", `${location.pathname}?run=${encodeURIComponent(event.target.value)}`);
    refresh();
  });

  actions.free = async (button) => {
    const { kind, run, title, loses, size } = button.dataset;
    if (!(await ask(`Free ${size}?`, `${title}. ${loses}`, "Free"))) return;
    await call(server, "free", { kind, run });
    refresh();
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
