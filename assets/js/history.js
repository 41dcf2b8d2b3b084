// The Runs page: search, filters, tags, and runs chosen to be compared; the Compare page.
face.history = (root, server) => {
  const { actions, all, ask, call, patch, toast } = face;
  const search = root.querySelector(".search"), sort = root.querySelector("#sort");
  const about = root.querySelector("#about"), bar = root.querySelector("#chosen");
  const said = new URLSearchParams(location.search);
  const wanted = { query: said.get("q") ?? "", group: said.get("show") ?? "", tag: said.get("tag") ?? "", sort: said.get("sort") ?? "age", shown: 25 };
  const chosen = new Set();
  let waiting = 0, asked = 0, noted = "";
  search.value = wanted.query;
  sort.value = wanted.sort;

  async function refresh() {
    const mine = ++asked;
    clearTimeout(waiting);
    const reply = await call(server, "open", wanted);
    if (!reply || mine !== asked) return;
    // An open menu would be closed under the pointer.
    if (!root.querySelector("details.menu[open]")) { patch(reply.parts); mark(); }
    root.dataset.usable = "true";
    if (reply.lively && !document.hidden) waiting = setTimeout(refresh, 2000);
  }
  function narrow() {
    wanted.shown = 25;
    const query = new URLSearchParams();
    for (const [key, value, usual] of [["q", wanted.query, ""], ["show", wanted.group, ""], ["tag", wanted.tag, ""], ["sort", wanted.sort, "age"]]) if (value !== usual) query.set(key, value);
    // The whole path: Gradio sets a base that a bare query would be put on.
    history.replaceState({}, "", query.size ? `${location.pathname}?${query}` : location.pathname);
    refresh();
  }
  function mark() {
    for (const box of all("[data-choose-run]", root)) box.checked = chosen.has(box.dataset.chooseRun);
    bar.hidden = !chosen.size;
    bar.querySelector("span").textContent = chosen.size === 1 ? "1 run chosen; choose another to compare" : `${chosen.size} runs chosen`;
    bar.querySelector('[data-do="compare"]').setAttribute("aria-disabled", String(chosen.size < 2));
  }

  search.addEventListener("input", () => { wanted.query = search.value; clearTimeout(waiting); waiting = setTimeout(narrow, 150); });
  sort.addEventListener("change", () => { wanted.sort = sort.value; narrow(); });
  root.addEventListener("change", (event) => {
    const id = event.target.dataset.chooseRun;
    if (!id) return;
    if (event.target.checked && chosen.size >= 8) toast("Eight runs are compared at most.", true);
    else if (event.target.checked) chosen.add(id);
    else chosen.delete(id);
    mark();
  });
  document.addEventListener("click", (event) => {
    for (const menu of all("details.menu[open]", root)) if (!menu.contains(event.target) || event.target.closest(".menu a, .menu button")) menu.open = false;
  });
  root.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest?.("details.menu[open]");
    if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
  });
  face.visible((seen) => { if (seen) refresh(); });

  actions.filter = (button) => { wanted[button.dataset.kind] = button.dataset.value; narrow(); };
  actions["show-all"] = () => { Object.assign(wanted, { query: "", group: "", tag: "" }); search.value = ""; narrow(); };
  actions["show-more"] = () => { wanted.shown += 50; refresh(); };
  actions["clear-chosen"] = () => { chosen.clear(); mark(); };
  actions.compare = () => { location.href = `/compare?runs=${[...chosen].map(encodeURIComponent).join(",")}`; };

  actions["run-stop"] = async (button) => {
    if (!(await ask("Stop this run?", "What it has learned so far is kept.", "Stop and keep", false))) return;
    await call(server, "stop", { run: button.dataset.run, keep: true });
    refresh();
  };
  actions["run-delete"] = async (button) => {
    const sure = await ask(`Delete “${button.dataset.name}”?`, "Its adapter, log and numbers are deleted for good.", "Delete");
    if (!sure) return;
    await call(server, "delete", { run: button.dataset.run });
    chosen.delete(button.dataset.run);
    refresh();
    search.focus();
  };
  actions["run-about"] = (button) => {
    noted = button.dataset.run;
    for (const part of ["name", "tags", "note"]) about.querySelector(`#about-${part}`).value = button.dataset[part] ?? "";
    about.showModal();
  };
  actions["about-close"] = () => about.close();
  about.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = (part) => about.querySelector(`#about-${part}`).value;
    const reply = await call(server, "annotate", { run: noted, name: value("name"), tags: value("tags"), note: value("note") });
    if (reply?.done) { about.close(); refresh(); }
  });
  actions["run-again"] = async (button) => {
    const answer = await fetch(`/api/runs/${encodeURIComponent(button.dataset.run)}`);
    if (!answer.ok) { toast("Its settings cannot be read.", true); return; }
    const { config } = await answer.json();
    try { sessionStorage.setItem("modelforge-answers", JSON.stringify({ profile: null, mine: {}, recipe: config })); } catch { toast("The browser keeps nothing for this page; download the recipe and open it there.", true); return; }
    location.href = "/?new=1";
  };
  refresh();
};

face.compare = (root, server) => {
  const { actions, call, patch } = face;
  let axis = "step";
  async function refresh() {
    const reply = await call(server, "open", { runs: new URLSearchParams(location.search).get("runs") ?? "", axis });
    if (reply) patch(reply.parts);
    root.dataset.usable = "true";
  }
  actions.axis = (button) => { axis = button.dataset.axis; refresh(); };
  refresh();
};
