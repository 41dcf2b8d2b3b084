// The queue: what waits is put in order on the Runs page, and added to from the Train page.
(() => {
  const { actions, ask, call, patch } = face;

  // A dialog with a time and, for a new run, a hold. Resolves to what was said, or to nothing.
  function when({ title, text, yes, at = null, hold = false }) {
    const box = document.createElement("dialog");
    box.className = "ask timed";
    box.setAttribute("aria-labelledby", "when-title");
    box.innerHTML = `<form method="dialog"><b id="when-title"></b><p></p>
      <div class="f"><div class="lab"><label for="when-at">Start no sooner than</label></div>
      <div class="in"><input type="datetime-local" id="when-at"></div>
      <small class="hint">Left empty, it starts when its turn comes.</small></div>
      <label class="tick"><input type="checkbox" id="when-held"> Hold it until I release it</label>
      <div class="buttons"><button class="btn" type="button">Cancel</button><button class="btn go" type="submit"></button></div></form>`;
    const find = (query) => box.querySelector(query);
    find("b").textContent = title;
    find("p").textContent = text;
    find(".go").textContent = yes;
    find(".tick").hidden = !hold;
    const field = find("#when-at"), local = (moment) => new Date(moment - new Date(moment).getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    field.min = local(Date.now());
    if (at && at * 1000 > Date.now()) field.value = local(at * 1000);
    document.querySelector(".face").append(box);
    return new Promise((resolve) => {
      let said;
      find('.btn[type="button"]').onclick = () => box.close();
      find("form").onsubmit = () => {
        said = { start_after: field.value ? new Date(field.value).getTime() / 1000 : null, held: find("#when-held").checked };
      };
      box.onclose = () => { box.remove(); resolve(said); };
      box.showModal();
      find(".go").focus();
    });
  }

  face.queue = (root, server) => {
    async function change(what, more = {}) {
      patch((await call(server, "queue", { do: what, ...more }))?.parts);
    }

    actions.queue = async (button) => {
      const { what, run, name, at } = button.dataset, row = button.closest(".wait");
      if (what === "up" || what === "down") {
        const place = [...row.parentElement.children].indexOf(row) + 1;
        await change("move", { run, position: place + (what === "up" ? -1 : 1) });
      } else if (what === "remove") {
        if (!(await ask(`Remove “${name}”?`, "It has not started, so nothing that was learned is lost.", "Remove"))) return;
        const next = row.nextElementSibling ?? row.previousElementSibling;
        const held = next?.querySelector('[data-what="remove"]')?.id;
        await change("remove", { run });
        document.getElementById(held)?.focus();
      } else if (what === "when") {
        const said = await when({ title: `When may “${name}” start?`, text: "It waits for its turn as well.", yes: "Save", at: Number(at) });
        if (said) await change("when", { run, start_after: said.start_after });
        document.getElementById(button.id)?.focus();
      } else await change(what, { run });
    };
    root.addEventListener("change", (event) => {
      if (event.target.id === "queue-failure") change("go-on", { on: event.target.checked });
    });
  };

  // The Train page: `send` gives what was entered, with an id that makes one run of two clicks.
  face.queueing = (root, server, send, added) => {
    let adding = false;
    async function add(title, text) {
      const said = await when({ title, text, yes: "Add to the queue", hold: true });
      if (!said || adding) return;
      adding = true;
      const reply = await call(server, "enqueue", { ...send(), ...said });
      adding = false;
      if (reply) added();
    }
    actions.enqueue = () => add("Add to the queue", "It starts by itself when the machine is free and its turn comes.");
    return (busy) => add("The machine is busy", `${busy} This run can wait for its turn in the queue.`);
  };
})();
