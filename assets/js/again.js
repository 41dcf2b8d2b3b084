// Going on with a run that is over: resume it, train it for longer, or start from its adapter.
(() => {
  const { actions, ask, toast } = face;

  // `whenBusy` is asked, with the sentence of the server, where something holds the machine.
  async function send(path, body, whenBusy) {
    try {
      const reply = await fetch(`/api/${path}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
      const told = await reply.json();
      if (reply.ok) return told;
      const [first] = told.problems ?? [];
      if (reply.status === 409 && whenBusy && first) return await whenBusy(first.what);
      toast(first ? `${first.what} ${first.remedy}`.trim() : "It was refused.", true);
    } catch {
      toast("The server does not answer. Is it still running?", true);
    }
    return undefined;
  }

  // A second click while the first is under way does nothing.
  async function once(button, work) {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    await work();
    button.setAttribute("aria-disabled", "false");
  }
  const show = (run) => { location.href = `/?run=${encodeURIComponent(run)}`; };

  actions["again-resume"] = (button) => once(button, async () => {
    const run = encodeURIComponent(button.dataset.run);
    const told = await send(`runs/${run}/resume`, {}, async (busy) => {
      const wait = await ask("The machine is busy", `${busy} This run can wait in the queue and goes on when its turn comes.`, "Add to the queue", false);
      if (wait && await send(`queue/${run}`, {})) location.href = "/runs";
    });
    if (told) show(told.id);
  });

  actions["again-continue"] = (button) => once(button, async () => {
    const { unit, text, run, most } = button.dataset;
    const many = await howMany("Train it for longer?", text, unit, most.replace(/\D/g, "") || "1");
    if (many === undefined) return;
    const request = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    const body = { [unit === "updates" ? "steps" : "epochs"]: many, request_id: request };
    const told = await send(`runs/${encodeURIComponent(run)}/continue`, body);
    if (told) show(told.id);
  });

  // The Train page opens with this run's answers; nothing starts by itself.
  actions["again-start-from"] = (button) => once(button, async () => {
    const { run } = button.dataset;
    try {
      const { config } = await (await fetch(`/api/runs/${encodeURIComponent(run)}`)).json();
      const adapter = { ...config.adapter, start_from: run };
      delete adapter.init;
      const answers = { profile: null, mine: {}, recipe: { ...config, adapter } };
      sessionStorage.setItem("modelforge-answers", JSON.stringify(answers));
      location.href = "/?new=1";
    } catch {
      toast("Its answers cannot be read.", true);
    }
  });

  // Resolves to a number, or undefined when it is called off.
  function howMany(title, text, unit, start) {
    const add = (tag, content, attributes = {}) => {
      const node = Object.assign(document.createElement(tag), attributes);
      node.textContent = content;
      return node;
    };
    const box = document.createElement("dialog");
    box.className = "ask";
    const form = Object.assign(document.createElement("form"), { method: "dialog" });
    const label = add("label", `How many ${unit} more `, { className: "amount" });
    const field = Object.assign(document.createElement("input"), { type: "number", min: 1, max: 1e6, step: 1, value: start, required: true, id: "how-many" });
    label.append(field);
    const buttons = document.createElement("div");
    buttons.className = "buttons";
    const no = add("button", "Cancel", { className: "btn", type: "button" });
    buttons.append(no, add("button", "Start", { className: "btn go", type: "submit", value: "go" }));
    form.append(add("b", title, { id: "more-title" }), add("p", text), label, buttons);
    box.append(form);
    box.setAttribute("aria-labelledby", "more-title");
    document.querySelector(".face").append(box);
    return new Promise((resolve) => {
      no.onclick = () => box.close();
      box.onclose = () => { box.remove(); resolve(box.returnValue === "go" ? Number(field.value) : undefined); };
      box.showModal();
      field.select();
    });
  }
})();
