// The card of the data: files in, how rows are read, what the model sees, the doctor, lengths.
face.data = (root, server, state, changed) => {
  const { actions, all, call, patch, toast } = face;
  const SOURCES = "data.sources";
  const inside = root.querySelector("#data-inside"), map = root.querySelector("#map");
  // What each tab was last asked for; the same is not asked twice.
  const asked = { doctor: "", sees: "", lengths: "" };
  let facts = null, tab = "rows", row = 1, together = false;

  const bare = (source) => Object.keys(source).every((name) => name === "path" || source[name] == null);
  const tell = (part, text) => { for (const one of all(`[data-part="${part}"]`, root)) one.textContent = text; };

  // Which data

  // The one data set that `dataset` names; a recipe's own sources are put aside with an empty list.
  function only() {
    if (state.recipe?.data?.sources || state.recipe?.[SOURCES]) state.mine[SOURCES] = [];
    else delete state.mine[SOURCES];
    fold(false);
    row = 1;
  }

  function use(sources) {
    if (!sources.length) return;
    state.mine.dataset = sources[0].path;
    // A second choice may come before the server has answered the first.
    if (facts) facts.sources = sources;
    if (sources.length === 1 && bare(sources[0])) only();
    else state.mine[SOURCES] = sources;
    row = 1;
    changed();
  }

  actions["source-out"] = (button) => use(facts.sources.filter((_, place) => place !== Number(button.dataset.place)));

  // Files

  const drop = root.querySelector("#drop"), picked = root.querySelector("#file");
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
  picked.addEventListener("change", () => take(picked.files));

  async function take(files) {
    const sources = [];
    for (const file of [...files]) {
      const kept = await upload(file);
      if (kept) sources.push({ path: kept });
    }
    tell("upload", "");
    picked.value = "";
    use(sources);
  }

  function upload(file) {
    const most = Number(picked.dataset.most), gib = (bytes) => (bytes / 2 ** 30).toFixed(1);
    if (file.size > most) {
      toast(`${file.name} has ${gib(file.size)} GiB; at most ${gib(most)} can be sent. Give its path on this computer instead.`, true);
      return null;
    }
    return new Promise((resolve) => {
      const sending = new XMLHttpRequest();
      sending.open("POST", `/face/uploads?filename=${encodeURIComponent(file.name)}`);
      sending.responseType = "json";
      sending.upload.onprogress = (event) => tell("upload", `${file.name}: ${Math.round((100 * event.loaded) / (event.total || 1))} %`);
      sending.onload = () => {
        if (sending.status < 300) return resolve(sending.response.dataset);
        toast(face.said(sending.response) || "The file could not be taken.", true);
        resolve(null);
      };
      sending.onerror = () => { toast("The upload broke off. Is the server still running?", true); resolve(null); };
      tell("upload", `${file.name} …`);
      sending.send(file);
    });
  }

  actions["fetch-hub"] = async (button) => {
    const value = (name) => root.querySelector(`#hub-${name}`).value.trim() || null;
    if (!value("name")) { tell("hub", "Name the data set: owner/name."); root.querySelector("#hub-name").focus(); return; }
    button.setAttribute("aria-disabled", "true");
    tell("hub", "Asking the Hub …");
    try {
      const answer = await fetch("/face/fetch", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ name: value("name"), subset: value("subset"), split: value("split") }),
      });
      if (!answer.ok) throw new Error("refused");
      for await (const said of face.lines(answer.body)) {
        if (said.progress) tell("hub", progress(said.progress));
        else if (said.error) tell("hub", `${said.error.what} ${said.error.remedy ?? ""}`);
        else if (said.done) { tell("hub", `${said.done.name} is here.`); use([Object.fromEntries(Object.entries({ path: `hub:${value("name")}`, subset: value("subset"), split: value("split") }).filter(([, one]) => one))]); }
      }
    } catch { tell("hub", "The server does not answer."); }
    button.setAttribute("aria-disabled", "false");
  };
  const progress = (told) => {
    if (told.text) return told.text;
    if (told.rows != null || told.done != null) return `${Number(told.rows ?? told.done).toLocaleString("en")}${told.total ? ` of ${Number(told.total).toLocaleString("en")}` : ""} rows …`;
    return "Fetching …";
  };

  // How rows are read

  function fold(open) {
    map.hidden = !open;
    root.querySelector("#map-open")?.setAttribute("aria-expanded", String(open));
  }
  actions["map-open"] = () => { fold(map.hidden); if (!map.hidden) map.querySelector("select")?.focus(); };
  actions["map-undo"] = () => {
    const own = ["path", "subset", "split", "samples", "weight"];
    use(facts.sources.map((source) => Object.fromEntries(Object.entries(source).filter(([name]) => own.includes(name)))));
  };
  map.addEventListener("change", (event) => {
    const box = event.target.closest("[data-source]"), name = event.target.dataset.map;
    if (!box || !name) return;
    const sources = facts.sources.map((source) => ({ ...source }));
    const source = sources[Number(box.dataset.source)], value = event.target.value;
    if (name.startsWith("in:")) {
      const names = { ...source.message_property_mappings, [name.slice(3)]: value };
      if (!value) delete names[name.slice(3)];
      source.message_property_mappings = names;
      if (!Object.keys(names).length) delete source.message_property_mappings;
    } else if (name === "type") {
      // Another kind has other columns.
      for (const old of Object.keys(source)) if (old.endsWith("_field") || old === "message_property_mappings") delete source[old];
      if (value === "auto") delete source.type; else source.type = value;
    } else if (value && value !== "none") source[name] = value;
    else delete source[name];
    use(sources);
  });

  // The tabs

  root.addEventListener("tabbed", (event) => {
    if (!event.target.id.startsWith("tab-data-")) return;
    tab = event.target.id.slice("tab-data-".length);
    load();
  });
  actions["token-row"] = (button) => { row = Number(button.dataset.row); load(); };
  root.addEventListener("change", (event) => {
    if (event.target.id === "row-together") { together = event.target.checked; load(); }
    if (event.target.id !== "row-number") return;
    event.stopPropagation();
    row = Math.min(Math.max(1, Math.round(Number(event.target.value)) || 1), facts?.rows || 1);
    load();
  });

  const waiting = (text) => `<p class="help">${text}</p><div class="prog vague"><i></i></div>`;
  const all_answers = () => JSON.stringify([facts.key, state]);

  async function ask(name, key, part, text, sent) {
    if (asked[name] === key) return;
    asked[name] = key;
    // What stands there stays until something newer comes, unless nothing does.
    if (text && !root.querySelector(`[data-part="${part}"] .tok, [data-part="${part}"] .bars`)) patch({ [part]: waiting(text) });
    const reply = await call(server, name === "doctor" ? "examine" : name === "sees" ? "tokens" : name, sent);
    if (asked[name] !== key) return;
    if (!reply?.parts) { asked[name] = ""; patch({ [part]: "" }); return; }
    patch(reply.parts);
  }

  function load() {
    if (!facts) return;
    if (tab === "sees" && facts.usable) ask("sees", `${all_answers()} ${row} ${together}`, "sees", "The tokens come from the worker that would train. The first time it needs some seconds to get ready …", { ...state, row, together });
    if (tab === "lengths" && facts.usable) ask("lengths", all_answers(), "lengths", "Counting tokens …", state);
    if (tab === "doctor" || !facts.large) ask("doctor", facts.key, "doctor", tab === "doctor" ? "Looking at every row …" : "", state);
  }

  actions.repair = async (button) => {
    button.setAttribute("aria-disabled", "true");
    const reply = await call(server, "repair", { ...state, code: button.dataset.code ?? "" });
    button.setAttribute("aria-disabled", "false");
    if (!reply?.sources) return;
    use(reply.sources);
    root.querySelector(`#tab-data-${tab}`).focus();
  };

  function follow(told) {
    const before = facts?.key;
    facts = told;
    inside.hidden = !told;
    if (!told) return;
    if (before !== told.key) { patch({ "doctor-count": "", "doctor-brief": "" }); row = Math.min(row, told.rows || 1); }
    // Data that cannot be used shows at once what helps: the doctor, or the form for its columns.
    if (before !== told.key) {
      const saying = !map.hidden; // Whoever is just saying how rows are read is left there.
      if (told.opens === "map") fold(true);
      if (!told.usable && !saying) actions.tab(root.querySelector(`#tab-data-${told.opens === "doctor" ? "doctor" : "rows"}`));
    }
    for (const name of ["sees", "lengths"]) if (!told.usable) patch({ [name]: '<p class="help">This appears once the rows can be read.</p>' });
    load();
  }

  // A large file takes its time to be read; its first rows are shown meanwhile.
  let glimpsed = "";
  async function glimpse(isWanted) {
    const key = JSON.stringify([state.mine.dataset, state.mine[SOURCES]]);
    if (!state.mine.dataset || key === glimpsed) return;
    glimpsed = key;
    const reply = await call(server, "glimpse", state);
    if (!reply?.parts || !isWanted()) return;
    patch(reply.parts);
    inside.hidden = false;
  }

  return { only, follow, glimpse };
};
