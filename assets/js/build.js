// The Build page: a sheet of examples that is kept while it is written, and pairs (pairs.js).
face.build = (root, server) => {
  const { actions, call, patch, toast } = face;
  const KEPT = "modelforge-examples", MOST = 2000;
  const sheet = root.querySelector("#sheet"), system = root.querySelector("#with-system");
  const PARTS = ["system", "question", "answer"];

  // Rows are made of elements, so that nothing pasted is ever HTML.
  function line(values = {}) {
    const row = document.createElement("tr");
    const cell = (tag, ...inside) => { const made = document.createElement(tag); made.append(...inside); row.append(made); return made; };
    cell("td").className = "place";
    for (const part of PARTS) {
      const box = document.createElement("textarea");
      box.rows = 1;
      box.value = values[part] ?? "";
      box.dataset.part_of = part;
      cell("td", box).className = part === "system" ? "sys" : "";
    }
    const out = Object.assign(document.createElement("button"), { type: "button", className: "btn s", textContent: "Remove" });
    out.dataset.do = "remove-row";
    cell("td", out);
    sheet.append(row);
    return row;
  }

  const boxes = (row) => [...row.querySelectorAll("textarea")];
  const values = () => [...sheet.rows].map((row) => Object.fromEntries(boxes(row).map((box) => [box.dataset.part_of, box.value])));
  const isFull = (row) => row.question.trim() && row.answer.trim();

  function number() {
    [...sheet.rows].forEach((row, place) => {
      row.cells[0].textContent = place + 1;
      for (const box of boxes(row)) {
        box.setAttribute("aria-label", `${box.dataset.part_of[0].toUpperCase()}${box.dataset.part_of.slice(1)} of row ${place + 1}`);
        box.id = `cell-${place + 1}-${box.dataset.part_of}`;
        fit(box);
      }
      row.lastChild.firstChild.setAttribute("aria-label", `Remove row ${place + 1}`);
    });
    const full = values().filter(isFull).length;
    root.querySelector("#written").textContent = `${full} complete ${full === 1 ? "example" : "examples"}`;
    try { localStorage.setItem(KEPT, JSON.stringify({ system: system.checked, rows: values() })); } catch { /* private window */ }
  }
  function fit(box) { box.style.height = "auto"; box.style.height = `${Math.min(box.scrollHeight + 2, 220)}px`; }

  function withSystem() { root.querySelector(".sheet").classList.toggle("with-system", system.checked); number(); }
  system.addEventListener("change", withSystem);
  sheet.addEventListener("input", number);

  actions["add-row"] = () => { const row = line(); number(); boxes(row)[system.checked ? 0 : 1].focus(); };
  actions["remove-row"] = (button) => {
    const row = button.closest("tr"), next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    if (!sheet.rows.length) line();
    number();
    (next ?? sheet.rows[0]).lastChild.firstChild.focus();
  };

  // Cells from a spreadsheet: tabs part columns, line ends part rows, quotes hold both.
  function cells(text) {
    const rows = [[""]];
    let quoted = false;
    for (let place = 0; place < text.length; place += 1) {
      const letter = text[place], row = rows.at(-1);
      if (quoted) {
        if (letter === '"' && text[place + 1] === '"') { row[row.length - 1] += '"'; place += 1; }
        else if (letter === '"') quoted = false;
        else row[row.length - 1] += letter;
      } else if (letter === '"' && row.at(-1) === "") quoted = true;
      else if (letter === "\t") row.push("");
      else if (letter === "\n") rows.push([""]);
      else if (letter !== "\r") row[row.length - 1] += letter;
    }
    while (rows.length > 1 && rows.at(-1).every((one) => !one)) rows.pop();
    return rows;
  }

  sheet.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text/plain");
    if (!text.includes("\t")) return;
    event.preventDefault();
    const from = PARTS.indexOf(event.target.dataset.part_of), shown = PARTS.filter((part) => part !== "system" || system.checked);
    const first = shown.indexOf(PARTS[from]);
    let row = event.target.closest("tr");
    for (const given of cells(text).slice(0, MOST)) {
      row ??= line();
      given.forEach((value, place) => {
        const box = row.querySelector(`[data-part_of="${shown[first + place]}"]`);
        if (box) box.value = value;
      });
      row = row.nextElementSibling;
    }
    number();
    toast(`${cells(text).length} rows pasted.`);
  });

  root.querySelector("#csv").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    if (file.size > 2 * 1048576) { toast("A table here has 2.0 MiB at most. Drop larger files on the Train page.", true); return; }
    const reply = await call(server, "take", { name: file.name, text: await file.text() });
    if (!reply?.rows) return;
    for (const row of [...sheet.rows]) if (boxes(row).every((box) => !box.value.trim())) row.remove();
    for (const values of reply.rows) line(values);
    if (reply.rows.some((one) => one.system)) system.checked = true;
    withSystem();
    toast(`${reply.rows.length} rows from ${file.name}.`);
  });

  actions["write-save"] = async (button) => {
    button.setAttribute("aria-disabled", "true");
    const rows = values().map((row) => (system.checked ? row : { ...row, system: "" }));
    const reply = await call(server, "save", { name: root.querySelector("#write-name").value, rows });
    button.setAttribute("aria-disabled", "false");
    if (!reply?.dataset) return;
    try { localStorage.removeItem(KEPT); } catch { /* private window */ }
    use(reply.dataset);
  };

  // The Train page finds what was made among its answers.
  function use(dataset, more = {}) {
    let answers = {};
    try { answers = JSON.parse(sessionStorage.getItem("modelforge-answers")) ?? {}; } catch { /* none yet */ }
    const mine = { ...answers.mine, ...more, dataset };
    if (answers.recipe?.data?.sources || answers.recipe?.["data.sources"]) mine["data.sources"] = [];
    else delete mine["data.sources"];
    try { sessionStorage.setItem("modelforge-answers", JSON.stringify({ ...answers, mine })); } catch { /* private window */ }
    location.href = "/?new=1";
  }

  async function open() {
    let kept = {};
    try { kept = JSON.parse(localStorage.getItem(KEPT)) ?? {}; } catch { /* none */ }
    system.checked = Boolean(kept.system);
    for (const values of kept.rows?.length ? kept.rows : [{}, {}, {}]) line(values);
    withSystem();
    if (new URLSearchParams(location.search).get("make") === "pairs") actions.tab(root.querySelector("#tab-build-pairs"));
    const reply = await call(server, "open");
    patch(reply?.parts);
    root.dataset.usable = "true";
  }
  face.pairs(root, server, use);
  open();
};
