// Chat: sends what was asked, and writes the answers as they come, as text and never as HTML.
face.chat = (root, server) => {
  const { actions, call, patch, toast } = face;
  const page = root.querySelector(".face");
  const talk = root.querySelector(".talk"), box = root.querySelector("#say");
  const pick = () => root.querySelector("#who");
  const both = root.querySelector("#both");
  let told = { tuned: [], base: [] }, stop = null;

  async function open() {
    const wanted = new URLSearchParams(location.search).get("run") ?? pick()?.value ?? "";
    const reply = await call(server, "open", { chosen: wanted });
    if (!reply) return;
    patch(reply.parts);
    page.dataset.empty = String(!reply.any);
    side();
    root.dataset.usable = "true";
  }

  const facts = () => pick()?.selectedOptions[0]?.dataset ?? {};
  const passage = root.querySelector("#passage");
  // How each kind of model is asked: in turns, about a passage, or with a document of its own.
  const MANNERS = {
    turns: { hint: "Ask something", messages: (told, asked) => [...told, { role: "user", content: asked }] },
    passage: { hint: "Ask something that the text answers", messages: (_told, asked) => [{ role: "system", content: passage.value.trim() }, { role: "user", content: asked }] },
    document: { hint: "Paste a document to be summarised", messages: (_told, asked) => [{ role: "user", content: asked }] },
  };
  const manner = () => MANNERS[facts().manner] ?? MANNERS.turns;

  function side() {
    const tunable = facts().tuned === "yes" && facts().beside === "yes";
    both.disabled = !tunable;
    both.parentElement.hidden = !tunable;
    page.classList.toggle("both", tunable && both.checked);
    passage.parentElement.hidden = manner() !== MANNERS.passage;
    box.placeholder = manner().hint;
    box.rows = manner() === MANNERS.document ? 6 : 1;
  }
  both.addEventListener("change", side);
  root.addEventListener("change", (event) => {
    if (event.target !== pick()) return;
    history.replaceState({}, "", `/chat?run=${encodeURIComponent(pick().value)}`);
    clear();
    open();
  });

  function clear() { stop?.abort(); told = { tuned: [], base: [] }; talk.replaceChildren(); }
  actions["chat-clear"] = () => { clear(); box.focus(); };
  actions["chat-try"] = (button) => { box.value = button.textContent; send(); };
  actions["chat-send"] = () => (stop ? stop.abort() : send());
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!stop) send(); }
  });

  const node = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

  async function send() {
    await ready;
    const asked = box.value.trim();
    if (stop || !asked || !pick()?.value) return;
    if (manner() === MANNERS.passage && !passage.value.trim()) { toast("Paste the text first that is to be asked."); passage.focus(); return; }
    box.value = "";
    const turn = node("div", "turn"), answers = node("div", "answers");
    turn.append(node("div", "asked", asked), answers);
    talk.append(turn);
    const tuned = facts().tuned === "yes";
    const sides = tuned && !both.disabled && both.checked ? ["base", "tuned"] : [tuned ? "tuned" : "base"];
    const says = sides.map((name) => {
      const say = node("div", `say wait ${name === "tuned" ? "new" : ""}`);
      say.append(node("small", "", name === "tuned" ? "tuned" : "base model"), node("div", ""));
      answers.append(say);
      return say;
    });
    stop = new AbortController();
    busy(true);
    turn.scrollIntoView({ block: "end" });
    for (const [place, name] of sides.entries()) await reply(name, asked, says[place]);
    stop = null;
    busy(false);
    box.focus({ preventScroll: true });
  }

  function busy(on) {
    const button = root.querySelector('[data-do="chat-send"]');
    button.textContent = on ? "Stop" : "Send";
    button.classList.toggle("go", !on);
  }

  async function reply(name, asked, say) {
    const line = say.lastChild, about = say.firstChild, title = about.textContent;
    const messages = manner().messages(told[name], asked);
    told[name].push({ role: "user", content: asked });
    let text = "";
    try {
      const answer = await fetch("/face/chat", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ target: pick().value, messages, tuned: name === "tuned", temperature: Number(root.querySelector("#heat").value) }),
        signal: stop.signal,
      });
      if (!answer.ok) throw new Error("refused");
      for await (const said of face.lines(answer.body)) {
        if (said.phase) about.textContent = `${title} · ${said.text ?? "loading"} …`;
        else if (said.error) throw Object.assign(new Error(), { said: said.error });
        else if (said.text) { text += said.text; line.textContent = text; say.classList.remove("wait"); about.textContent = title; }
        else if (said.done) {
          about.textContent = `${title} · ${said.done.tokens} token${said.done.tokens === 1 ? "" : "s"} in ${said.done.seconds.toFixed(1)} s`;
          if (!text) line.textContent = "It said nothing.";
        }
      }
    } catch (error) {
      if (error.name === "AbortError") about.textContent = `${title} · stopped`;
      else {
        const sentence = error.said ? `${error.said.what} ${error.said.remedy ?? ""}` : "The server does not answer.";
        about.textContent = `${title} · no answer`;
        line.textContent = text || sentence;
        if (text) toast(sentence, true);
      }
    }
    say.classList.remove("wait");
    if (text) told[name].push({ role: "assistant", content: text });
    else told[name].pop();
  }

  const ready = open();
};
