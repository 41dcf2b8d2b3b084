// The Train page: collects answers, asks what they come to, and turns into the run after Start.
face.train = (root, server) => {
  const { actions, all, call, patch, toast } = face;
  const kept = (() => { try { return JSON.parse(sessionStorage.getItem("modelforge-answers")) ?? {}; } catch { return {}; } })();
  const state = { profile: kept.profile ?? null, mine: kept.mine ?? {}, recipe: kept.recipe ?? {}, changes: kept.changes ?? [] };
  const page = root.querySelector(".face");
  let asked = 0, timer = 0, starting = false, fresh = null, shown = {};

  const find = (query) => all(query, root);
  const mode = (name) => { page.dataset.mode = name; };

  const data = face.data(root, server, state, () => changed(0));
  const fit = face.fit(root, server, state, { apply: (reply) => apply(reply), changed: (wait) => changed(wait), check: () => check() });

  function remember() {
    try { sessionStorage.setItem("modelforge-answers", JSON.stringify(state)); } catch { /* private window */ }
  }

  // Answers in

  function say(name, value) {
    if (name === "profile") state.profile = value;
    else state.mine[name] = value;
    if (name === "dataset") data.only();
    changed(0);
  }

  root.addEventListener("input", (event) => {
    const field = event.target;
    if (field.type === "radio" || field.type === "checkbox" || field.type === "file") return;
    if (field.name) { state.mine[field.name] = field.value; changed(350); }
    else if (field.dataset.free) {
      if (field.value.trim()) state.mine[field.dataset.free] = field.value;
      else delete state.mine[field.dataset.free];
      if (field.dataset.free === "dataset") data.only();
      changed(450);
    }
  });
  root.addEventListener("change", (event) => {
    const field = event.target;
    if (field.id === "recipe-file") openRecipe(field);
    else if (field.type === "checkbox" && field.name) say(field.name, String(field.checked));
    else if (field.dataset.strategies) { suit(field.dataset.strategies.split(" ")); say(field.name, field.value); }
    else if ((field.type === "radio" || field.tagName === "SELECT") && field.name) say(field.name, field.value);
  });

  // A sample that is made for some strategies brings the first of them along.
  function suit(strategies) {
    const now = find('[name="strategy"]').find((tile) => tile.checked)?.value;
    if (!strategies.includes(now)) state.mine.strategy = strategies[0];
  }

  // Basic and All are one panel: All shows what Basic leaves out.
  root.addEventListener("tabbed", (event) => {
    const basic = { "tab-settings-basic": true, "tab-settings-all": false }[event.target.id];
    if (basic !== undefined) root.querySelector("#settings-basic").classList.toggle("basic-only", basic);
  });

  // The Hub is asked when somebody says so, never while a name is typed.
  const query = root.querySelector("#model-query");
  actions["model-search"] = async (button) => {
    button.setAttribute("aria-disabled", "true");
    const task = find('[name="task"]').find((tile) => tile.checked)?.value ?? "";
    const reply = await call(server, "find_models", { ...state, query: query.value, task });
    button.setAttribute("aria-disabled", "false");
    patch(reply?.parts);
    mark("model_name", shown.values?.model_name);
  };
  query.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); root.querySelector('[data-do="model-search"]').click(); } });
  const mark = (name, value) => { for (const tile of find(`input[type="radio"][name="${name}"]`)) tile.checked = tile.value === value; };

  actions.reset = (button) => { delete state.mine[button.dataset.field]; changed(0); document.getElementById(`f-${button.dataset.field}`)?.focus(); };
  actions.fix = (button) => say(button.dataset.field, button.dataset.value);
  actions["close-recipe"] = () => { state.recipe = {}; changed(0); };
  actions["save-recipe"] = () => face.save("recipe.yaml", root.querySelector('[data-part="recipe"]').textContent);

  function changed(wait) {
    remember();
    clearTimeout(timer);
    timer = setTimeout(check, wait);
  }

  // What they come to

  async function check() {
    const mine = ++asked;
    let waits = true;
    data.glimpse(() => waits && mine === asked);
    const reply = await call(server, "check", state);
    waits = false;
    if (reply && mine === asked) { apply(reply); fit.refine(reply, () => mine === asked); }
    return reply;
  }

  function apply(reply) {
    shown = reply;
    fit.keep(reply);
    patch(reply.parts);
    applying(new Set(reply.hidden));
    // What a person is typing is left alone.
    const typing = (field, name) => field === document.activeElement && name in state.mine;
    for (const field of find("[name]")) {
      const value = field.name === "profile" ? reply.profile : reply.values[field.name] ?? "";
      if (field.type === "radio") field.checked = field.value === value;
      else if (field.type === "checkbox") field.checked = value === "true";
      else if (!typing(field, field.name) && field.value !== value) field.value = value;
    }
    for (const field of find("[data-free]")) {
      const name = field.dataset.free, value = reply.values[name] ?? "";
      const onTile = find(`input[type="radio"][name="${name}"]`).some((tile) => tile.value === value);
      if (!typing(field, name)) field.value = onTile ? "" : value;
    }
    for (const box of find("[data-f]")) {
      const name = box.dataset.f;
      box.classList.toggle("mine", name in state.mine);
      box.classList.toggle("bad", name in reply.wrong);
      box.querySelector(":is(input, select)")?.setAttribute("aria-invalid", String(name in reply.wrong));
      const undo = box.querySelector(".undo");
      if (undo) undo.hidden = !(name in state.mine);
    }
    for (const note of find("[data-wrong]")) note.textContent = reply.wrong[note.dataset.wrong] ?? "";
    for (const note of find("[data-origin]")) note.textContent = reply.origins[note.dataset.origin] ?? "";
    for (const note of find("[data-hint]")) {
      note.dataset.usual ??= note.textContent;
      note.textContent = reply.hints[note.dataset.hint] ?? note.dataset.usual;
    }
    number(reply.cards);
    data.follow(reply.data);
    const start = root.querySelector("#start");
    start.setAttribute("aria-disabled", String(!reply.ready || starting));
    root.querySelector("#enqueue").setAttribute("aria-disabled", String(!reply.whole));
    fit.follow(reply);
  }

  // What does not apply is out of sight; what was typed into it stays where it is.
  function applying(hidden) {
    for (const group of find("#settings-basic .group")) {
      const fields = all("[data-f]", group);
      for (const field of fields) field.hidden = hidden.has(field.dataset.f);
      group.hidden = fields.every((field) => field.hidden);
    }
  }

  // A tick for what is answered, the accent for what comes next.
  function number(cards) {
    const next = Object.keys(cards).find((name) => cards[name] === "open");
    for (const circle of find("[data-n]")) {
      const told = cards[circle.dataset.n];
      circle.className = `n ${told === "open" && circle.dataset.n === next ? "now" : told === "open" ? "" : told}`;
      circle.textContent = told === "done" ? "✓" : told === "wrong" ? "!" : circle.dataset.place;
    }
  }

  // Recipes

  async function openRecipe(field) {
    const [file] = field.files;
    field.value = "";
    if (!file) return;
    if (file.size > 1048576) { toast("A recipe has 1.0 MiB at most.", true); return; }
    const reply = await call(server, "read_recipe", { name: file.name, text: await file.text() });
    if (!reply?.recipe) return;
    state.recipe = reply.recipe;
    state.mine = {};
    changed(0);
  }

  // Start, the queue, and the run

  const click = () => (fresh ??= crypto.randomUUID?.() ?? String(Math.random()).slice(2));
  const offer = face.queueing(root, server, () => ({ ...state, request_id: click() }), () => { fresh = null; });

  actions.start = async () => {
    if (starting) return;
    starting = true;
    const button = root.querySelector("#start");
    button.textContent = "Starting …";
    button.setAttribute("aria-disabled", "true");
    // The same click, sent twice, never makes two runs.
    const reply = await call(server, "start", { ...state, request_id: click() });
    starting = false;
    button.textContent = "Start training";
    if (reply && !reply.busy) fresh = null;
    if (reply?.busy) { button.setAttribute("aria-disabled", "false"); await offer(reply.busy); }
    else if (reply?.run) {
      history.pushState({}, "", `/?run=${encodeURIComponent(reply.run)}`);
      show();
    } else await check();
  };

  actions["new-run"] = (_button, event) => { event.preventDefault(); history.pushState({}, "", "/?new=1"); show(); };
  addEventListener("popstate", show);

  async function show() {
    const query = new URLSearchParams(location.search);
    face.quiet();
    if (query.get("run")) { mode("run"); face.live(root, server, query.get("run")); scrollTo(0, 0); return; }
    const reply = await call(server, "open", state);
    if (!reply) return;
    patch(reply.parts);
    if (reply.active && !query.has("new")) {
      history.replaceState({}, "", `/?run=${encodeURIComponent(reply.active)}`);
      show();
      return;
    }
    mode("form");
    document.title = "Train · ModelForge";
    apply(reply);
    root.dataset.usable = "true";
    const mine = asked;
    fit.refine(reply, () => mine === asked);
  }
  show();
};

face.said = (reply) => {
  const first = reply?.problems?.[0] ?? reply?.detail?.problems?.[0];
  return first ? `${first.what} ${first.remedy ?? ""}`.trim() : "";
};
