// What makes a run fit and quick: several settings in one click with an undo, memory that refines by itself, rehearsals.
face.fit = (root, server, state, page) => {
  const { actions, call, patch } = face;
  const PATIENCE = 600, BEAT = 700, TRIES = 2;
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const line = root.querySelector(".applied"), panel = root.querySelector('.for-form .plan [data-part="plan"]');
  const asked = new Map();
  let watched = null;

  // Several settings at once, and back again

  const holds = (change) => Object.entries(change.said).every(([name, value]) => state.mine[name] === value);

  actions.apply = (button) => {
    const said = JSON.parse(button.dataset.settings);
    const before = Object.fromEntries(Object.keys(said).map((name) => [name, state.mine[name] ?? null]));
    state.changes = [...(state.changes ?? []), { said, before, words: button.dataset.words }].slice(-20);
    Object.assign(state.mine, said);
    page.changed(0);
    line.querySelector("button").focus({ preventScroll: true });
  };
  actions.unapply = () => {
    const change = state.changes?.pop();
    for (const [name, value] of Object.entries(change?.before ?? {})) {
      if (value === null) delete state.mine[name];
      else state.mine[name] = value;
    }
    page.changed(0);
  };

  // What was changed by hand since is nobody's to undo but theirs.
  function applied() {
    while (state.changes?.length && !holds(state.changes.at(-1))) state.changes.pop();
    const last = state.changes?.at(-1);
    line.hidden = !last;
    if (last) line.querySelector("span").textContent = `Changed: ${last.words[0].toLowerCase()}${last.words.slice(1)}.`;
  }

  // While a setting is wrong, the last plan stays in grey.
  function keep(reply) {
    const stale = !reply.planned && panel.dataset.planned === "true";
    if (stale) delete reply.parts.plan;
    if (reply.planned) panel.dataset.planned = "true";
    panel.inert = stale;
    root.querySelector(".before").hidden = !stale;
    // What is folded open stays so, whatever is drawn anew.
    reply.open = [...panel.querySelectorAll("details[open]")].map((part) => part.id);
  }

  function follow(reply) {
    for (const key of reply.open ?? []) { const part = panel.querySelector(`#${key}`); if (part) part.open = true; }
    applied();
    if (reply.rehearsing && reply.rehearsing !== watched) watch(reply.rehearsing);
    const held = Boolean(watched ?? reply.rehearsing);
    root.querySelector("#rehearse").setAttribute("aria-disabled", String(!reply.ready || held));
    root.querySelector("#start").classList.toggle("go", !reply.red);
    if (held) root.querySelector("#start").setAttribute("aria-disabled", "true");
  }

  // Memory by the model's own code: asked for each such plan, once more if that failed, and shown if still wanted.
  async function refine(reply, wanted) {
    const key = reply.traceable, tried = asked.get(key) ?? 0;
    if (!key || tried >= TRIES) return;
    await wait(PATIENCE);
    if (!wanted()) return;
    asked.set(key, tried + 1);
    const better = await call(server, "trace", state);
    if (better?.parts && wanted()) page.apply(better);
  }

  // Rehearsals

  actions.rehearse = async (button) => {
    button.setAttribute("aria-disabled", "true");
    patch({ rehearsal: "" });
    const reply = await call(server, "rehearse", state);
    if (reply?.id) { patch(reply.parts); watch(reply.id); }
    else await page.check();
  };
  actions["stop-rehearsal"] = async (button) => { patch((await call(server, "stop_rehearsal", { id: button.dataset.id }))?.parts); };

  async function watch(id) {
    watched = id;
    for (const name of ["#start", "#rehearse"]) root.querySelector(name).setAttribute("aria-disabled", "true");
    while (watched === id) {
      const reply = document.hidden ? null : await call(server, "rehearsal", { id });
      if (reply) patch(reply.parts);
      if (reply && !reply.lively) { watched = null; await page.check(); }
      else await wait(BEAT);
    }
  }

  return { keep, follow, refine };
};
