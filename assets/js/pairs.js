// Make pairs: two sampled answers for each prompt, one ahead of the person who picks.
face.pairs = (root, server, use) => {
  const { actions, call, toast } = face;
  const KEPT = "modelforge-pairs";
  const prompts = root.querySelector("#prompts"), choosing = root.querySelector("#choosing");
  const answers = [1, 2].map((place) => root.querySelector(`#answer-${place}`));
  const asked = choosing.querySelector(".asked-now"), count = root.querySelector("#pairs-count");
  // A turn is one prompt with its two answers: queue → now → done.
  let queue = [], now = null, done = [], stop = null, working = false, total = 0;

  try { const kept = JSON.parse(localStorage.getItem(KEPT)); done = kept?.done ?? []; prompts.value = kept?.prompts ?? ""; } catch { /* none */ }

  function remember() {
    try { localStorage.setItem(KEPT, JSON.stringify({ done, prompts: prompts.value })); } catch { /* private window */ }
    const left = queue.length + (now ? 1 : 0);
    count.textContent = `${done.length} picked${left ? `, ${left} to go` : ""}`;
  }
  prompts.addEventListener("input", remember);

  root.querySelector("#prompt-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    if (file.size > 1048576) { toast("A list of prompts has 1.0 MiB at most.", true); return; }
    prompts.value = [prompts.value.trimEnd(), (await file.text()).trim()].filter(Boolean).join("\n");
    remember();
  });

  actions["pairs-sample"] = () => {
    if (stop) { stop.abort(); return; }
    const had = new Set(done.map((one) => one.prompt));
    const lines = [...new Set(prompts.value.split("\n").map((one) => one.trim()).filter(Boolean))].filter((one) => !had.has(one));
    if (!lines.length) { toast(had.size ? "Every prompt has its pair already." : "Write a prompt first.", true); prompts.focus(); return; }
    if (!root.querySelector("#voice")?.value) { toast("There is no model to ask yet.", true); return; }
    queue = lines.map((prompt) => ({ prompt, texts: ["", ""], ready: false }));
    total = done.length + queue.length;
    now = null;
    choosing.hidden = false;
    advance();
    work();
  };

  // Answers are sampled in order; the person picks meanwhile.
  async function work() {
    if (working) return;
    working = true;
    stop = new AbortController();
    root.querySelector("#sample").textContent = "Stop";
    try {
      for (let turn; (turn = [now, ...queue].find((one) => one && !one.ready)); ) await answerTwice(turn);
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message || "The server does not answer.", true);
      queue = queue.filter((one) => one.ready);
      if (now && !now.ready) { now = null; advance(); }
    }
    working = false;
    stop = null;
    root.querySelector("#sample").textContent = "Sample answers";
    remember();
  }

  async function answerTwice(turn) {
    turn.texts = ["", ""];
    for (const place of [0, 1]) {
      // Two equal answers say nothing; a second try may differ.
      for (let tries = 0; tries < 3; tries += 1) {
        turn.texts[place] = "";
        await sample(turn, place);
        if (place === 0 || turn.texts[0].trim() !== turn.texts[1].trim()) break;
      }
    }
    turn.ready = true;
    if (turn === now) show();
  }

  async function sample(turn, place) {
    const pick = root.querySelector("#voice");
    const answer = await fetch("/face/chat", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ target: pick.value, messages: [{ role: "user", content: turn.prompt }], tuned: pick.selectedOptions[0]?.dataset.tuned === "yes", temperature: 0.8 }),
      signal: stop.signal,
    });
    if (!answer.ok) throw new Error("The model could not be asked.");
    for await (const said of face.lines(answer.body)) {
      if (said.error) throw new Error(`${said.error.what} ${said.error.remedy ?? ""}`);
      if (said.phase) { if (turn === now) answers[place].lastChild.textContent = `${said.text ?? "Loading"} …`; }
      else if (said.text) { turn.texts[place] += said.text; if (turn === now) show(); }
    }
  }

  function advance() {
    now = queue.shift() ?? null;
    show();
    remember();
  }

  function show() {
    const same = now?.ready && now.texts[0].trim() === now.texts[1].trim();
    const can = Boolean(now?.ready && !same && now.texts.every((text) => text.trim()));
    asked.textContent = now
      ? `${done.length + 1} of ${total}: ${now.prompt}${same ? " (both answers are the same: answer again, or go on)" : ""}`
      : `${done.length} picked. Save them, or add prompts.`;
    answers.forEach((button, place) => {
      button.lastChild.textContent = now ? now.texts[place] || "…" : "";
      button.setAttribute("aria-disabled", String(!can));
      button.hidden = !now;
    });
  }

  function pick(place) {
    if (!now?.ready || answers[place].getAttribute("aria-disabled") === "true") return;
    done.push({ prompt: now.prompt, chosen: now.texts[place], rejected: now.texts[1 - place] });
    advance();
  }
  actions["pairs-pick"] = (button) => pick(Number(button.dataset.pick) - 1);
  actions["pairs-skip"] = () => { if (now) { total -= 1; advance(); } };
  actions["pairs-again"] = () => { if (now?.ready) { now.ready = false; show(); work(); } };
  actions["pairs-back"] = () => {
    const last = done.pop();
    if (!last) return;
    if (now) queue.unshift(now);
    else total = Math.max(total, done.length + 1);
    now = { prompt: last.prompt, texts: [last.chosen, last.rejected], ready: true };
    show();
    remember();
  };
  document.addEventListener("keydown", (event) => {
    if (choosing.hidden || !choosing.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("input, textarea, select")) return;
    if (event.key === "1" || event.key === "2") { event.preventDefault(); pick(Number(event.key) - 1); }
  });

  actions["pairs-save"] = async (button) => {
    button.setAttribute("aria-disabled", "true");
    const reply = await call(server, "keep", { name: root.querySelector("#pairs-name").value, pairs: done });
    button.setAttribute("aria-disabled", "false");
    if (!reply?.dataset) return;
    try { localStorage.removeItem(KEPT); } catch { /* private window */ }
    use(reply.dataset);
  };

  remember();
  if (done.length) { choosing.hidden = false; show(); }
};
