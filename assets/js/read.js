// Reads a chart out: the value of every curve at one update, by pointer or by the arrow keys.
(() => {
  const points = (path) => path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number));
  const said = (value) => (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5) || value === 0 ? String(Number(value.toPrecision(4))) : value.toExponential(2);

  function tell(chart, at) {
    const [left, right, low, high] = chart.dataset.range.split(" ").map(Number);
    const told = [];
    let place = 0;
    for (const path of chart.querySelectorAll("path[data-name]")) {
      const all = points(path).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
      if (!path.dataset.name || !all.length) continue;
      // What was measured last by then: a check every twenty updates says nothing of the third.
      const near = all.findLast(([x]) => x <= at + 0.5);
      if (!near) continue;
      place = told.length ? Math.max(place, near[0]) : near[0];
      told.push(`${path.dataset.name} ${said(low + ((1000 - near[1]) / 1000) * (high - low))}`);
    }
    const out = chart.querySelector(".read");
    if (!told.length) return quiet(chart);
    out.textContent = `${chart.dataset.unit ?? "update"} ${Math.round(left + (place / 1000) * (right - left)).toLocaleString("en")} · ${told.join(" · ")}`;
    chart.style.setProperty("--at", `${place / 10}%`);
    chart.dataset.at = place;
  }
  const quiet = (chart) => { chart.querySelector(".read").textContent = ""; delete chart.dataset.at; };

  document.addEventListener("pointermove", (event) => {
    const chart = event.target.closest?.(".chart[data-range]");
    for (const other of document.querySelectorAll(".chart[data-at]")) if (other !== chart && other !== document.activeElement) quiet(other);
    if (!chart) return;
    const box = chart.querySelector(".plot").getBoundingClientRect();
    tell(chart, Math.min(1000, Math.max(0, (1000 * (event.clientX - box.left)) / box.width)));
  });
  document.addEventListener("keydown", (event) => {
    const chart = event.target.matches?.(".chart[data-range]") && event.target;
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!chart || !way) return;
    event.preventDefault();
    const places = [...new Set([...chart.querySelectorAll("path[data-name]")].flatMap((path) => points(path).map(([x]) => x)))].sort((a, b) => a - b);
    const at = Number(chart.dataset.at ?? (way > 0 ? -1 : 1001));
    tell(chart, (way > 0 ? places.find((x) => x > at + 0.05) : places.findLast((x) => x < at - 0.05)) ?? (way > 0 ? places.at(-1) : places[0]));
  });
  document.addEventListener("focusout", (event) => { if (event.target.matches?.(".chart[data-at]")) quiet(event.target); });
})();
