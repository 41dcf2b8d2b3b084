// Charts of the Run and Compare pages, drawn by uPlot from the series that the server sends.
// Drag to zoom, double click or Escape to reset. Arrow keys read the values; a table holds all of them.
import uPlot from "../vendor/uPlot.esm.js";
import { all, create } from "./page.js";

/** @typedef {import("./types").ChartData} ChartData */
/** @typedef {import("./types").ChartSeries} ChartSeries */

const HEIGHT = 186;
const FONT = "11px ui-monospace, monospace";
const MAX_DOTS = 12;
/** Distances of the ticks of the x axis: steps and tokens are whole numbers. */
const X_INCREMENTS = Array.from({ length: 15 }, (_item, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();

/** @param {string} name */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Format a number like the server does: 2,310, 0.84 or 2e-4. @param {number} value */
function format(value) {
  const size = Math.abs(value);
  if (size >= 1000 && size < 1e7) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  if (size >= 1e-3 && size < 1e7 || value === 0) return String(Number(value.toPrecision(4)));
  return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
}

/** @type {Map<string, ChartData>} */
const latest = new Map();
/** @type {Map<Element, Chart>} */
const charts = new Map();

/** Draw new data into the elements with `data-chart`. @param {Record<string, ChartData> | undefined} data */
export function showCharts(data) {
  for (const [key, chart] of Object.entries(data ?? {})) latest.set(key, chart);
  for (const [holder, chart] of charts) if (!holder.isConnected) { chart.destroy(); charts.delete(holder); }
  for (const holder of all("[data-chart]")) {
    const next = latest.get(holder.dataset.chart ?? "");
    if (!next?.series.length) continue;
    const chart = charts.get(holder);
    if (chart) chart.update(next);
    else charts.set(holder, new Chart(holder, next));
  }
}

/** Remove all charts and their data. */
export function clearCharts() {
  latest.clear();
  for (const chart of charts.values()) chart.destroy();
  charts.clear();
}

new MutationObserver(() => { for (const chart of charts.values()) chart.plot.redraw(); })
  .observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });

class Chart {
  /** @param {HTMLElement} holder @param {ChartData} data */
  constructor(holder, data) {
    this.holder = holder;
    this.data = data;
    /** @type {Set<string>} */
    this.hidden = new Set();
    this.isZoomed = false;
    this.legend = create("div", "", { className: "chart-legend" });
    this.reset = create("button", "Reset zoom", { className: "btn s", type: "button", hidden: true, onclick: () => this.resetZoom() });
    this.area = create("div", "", { className: "chart-area", tabIndex: 0, onkeydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event), onblur: () => this.clearValues() });
    this.area.setAttribute("role", "img");
    this.values = create("output", "", { className: "chart-values" });
    this.values.setAttribute("aria-live", "polite");
    this.table = create("details", "", { className: "chart-table", ontoggle: () => this.fillTable() });
    this.table.append(create("summary", "Values as a table"), create("div", "", { className: "table", tabIndex: 0 }));
    holder.replaceChildren(this.legend, this.area, this.values, this.reset, this.table);
    this.plot = this.draw();
    this.resizing = new ResizeObserver(() => this.plot.setSize(this.size()));
    this.resizing.observe(this.area);
  }

  destroy() {
    this.resizing.disconnect();
    this.plot.destroy();
  }

  size() { return { width: Math.max(120, this.area.clientWidth), height: HEIGHT }; }

  /** @returns {uPlot.AlignedData} */
  aligned() {
    return uPlot.join(this.data.series.map((series) => [series.x, series.y]));
  }

  draw() {
    const plot = new uPlot({ ...this.size(), ...this.options() }, this.aligned(), this.area);
    this.describe();
    return plot;
  }

  /** @param {ChartData} data */
  update(data) {
    if (data === this.data) return;
    const shape = (/** @type {ChartData} */ chart) => JSON.stringify([chart.x_unit, chart.unit, chart.bands.length > 0, chart.series.map(({ x, y, ...style }) => style)]);
    const isSameShape = shape(data) === shape(this.data);
    this.data = data;
    if (!isSameShape) {
      this.plot.destroy();
      this.isZoomed = false;
      this.plot = this.draw();
    } else {
      this.plot.setData(this.aligned(), !this.isZoomed);
      if (this.isZoomed) this.plot.redraw();
      this.describe();
    }
    this.fillTable();
  }

  /** @returns {Omit<uPlot.Options, "width" | "height">} */
  options() {
    const axis = { font: FONT, stroke: () => color("ink-3"), grid: { stroke: () => color("line"), width: 1 }, ticks: { show: false } };
    const values = (/** @type {uPlot} */ _plot, /** @type {number[]} */ splits) => splits.map(format);
    return {
      padding: [this.data.bands.length ? 20 : 8, 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
      scales: {
        // uPlot also asks for the range of a zoom, which is narrower than the data.
        x: { time: false, range: (plot, low, high) => (high < plot.data[0][plot.data[0].length - 1] || low > plot.data[0][0] ? [low, high] : this.xRange(low, high)) },
        y: { range: (_plot, low, high) => this.yRange(low, high) },
      },
      axes: [
        { ...axis, values, incrs: X_INCREMENTS, label: this.data.x_unit, labelFont: FONT, labelSize: 16, size: 24, space: 70, grid: { show: false } },
        { ...axis, values, size: 52, space: 34 },
      ],
      series: [{}, ...this.data.series.map((series) => this.seriesOptions(series))],
      hooks: {
        drawAxes: [(plot) => this.drawBands(plot)],
        setCursor: [(plot) => this.showValues(plot.cursor.idx ?? null)],
        setScale: [(plot, key) => { if (key === "x") this.afterScale(plot); }],
      },
    };
  }

  /** Draw a dashed line between the named parts of the x axis, and their names above. @param {uPlot} plot */
  drawBands(plot) {
    const { ctx, bbox } = plot, right = bbox.left + bbox.width, scale = devicePixelRatio;
    const place = (/** @type {number} */ x) => Math.min(right, Math.max(bbox.left, plot.valToPos(x, "x", true)));
    ctx.save();
    Object.assign(ctx, { font: `${11 * scale}px ui-monospace, monospace`, fillStyle: color("ink-3"), strokeStyle: color("ink-3"), lineWidth: scale, textAlign: "center" });
    ctx.setLineDash([4 * scale, 4 * scale]);
    let start = bbox.left;
    for (const { name, end } of this.data.bands) {
      const stop = place(end);
      // In a narrow part its number says enough; in a narrower one there is nothing.
      const text = [name, name.split(" ").at(-1) ?? ""].find((each) => ctx.measureText(each).width + 6 * scale <= stop - start);
      if (text) ctx.fillText(text, (start + stop) / 2, bbox.top - 7 * scale);
      if (stop > bbox.left && stop < right) { ctx.beginPath(); ctx.moveTo(stop, bbox.top); ctx.lineTo(stop, bbox.top + bbox.height); ctx.stroke(); }
      start = stop;
    }
    ctx.restore();
  }

  /** @param {ChartSeries} series @returns {uPlot.Series} */
  seriesOptions(series) {
    return {
      label: series.name,
      show: !this.hidden.has(series.name),
      stroke: () => color(series.tone),
      width: series.is_faint ? 1.2 : 2.2,
      alpha: series.is_faint ? 0.35 : 1,
      dash: series.is_dashed ? [5, 4] : undefined,
      spanGaps: true,
      points: {
        show: series.has_dots || series.x.length === 1,
        size: 7,
        fill: () => color(series.tone),
        // Many dots would hide the curve, so only the newest is drawn then.
        filter: (plot, index, show) => {
          if (!show) return null;
          const column = plot.data[index];
          const filled = [...column.keys()].filter((place) => column[place] != null);
          return filled.length > MAX_DOTS ? filled.slice(-1) : filled;
        },
      },
    };
  }

  /** @param {number} low @param {number} high @returns {[number, number]} */
  xRange(low, high) {
    const end = Math.max(high, this.data.x_end ?? high);
    return [low, end > low ? end : low + 1];
  }

  /** @param {number | null} low @param {number | null} high @returns {[number, number]} */
  yRange(low, high) {
    const top = high ?? 1, bottom = this.data.from_zero ? Math.min(0, low ?? 0) : low ?? 0;
    const pad = 0.08 * (top - bottom) || 0.1 * Math.abs(top) || 1;
    return [this.data.from_zero && bottom === 0 ? 0 : bottom - pad, top + pad];
  }

  /** @param {uPlot} plot */
  afterScale(plot) {
    const xs = plot.data[0], [low, high] = this.xRange(xs[0], xs[xs.length - 1]);
    this.isZoomed = (plot.scales.x.min ?? low) > low || (plot.scales.x.max ?? high) < high;
    this.reset.hidden = !this.isZoomed;
  }

  resetZoom() {
    const xs = this.plot.data[0], [min, max] = this.xRange(xs[0], xs[xs.length - 1]);
    this.plot.setScale("x", { min, max });
    if (this.reset === document.activeElement) this.area.focus();
  }

  /** Series that have an entry of their own in the legend. */
  named() { return this.data.series.filter((series) => !series.is_faint); }

  /** Write the description and the legend; a single series needs no legend. */
  describe() {
    this.area.setAttribute("aria-label", `${this.data.description} Use the arrow keys to read the values.`);
    const named = this.named();
    const key = JSON.stringify(named.map((series) => series.name));
    if (this.legend.dataset.key === key) return;
    this.legend.dataset.key = key;
    this.legend.replaceChildren(...(named.length < 2 ? [] : named.map((series) => this.legendEntry(series))));
  }

  /** @param {ChartSeries} series */
  legendEntry(series) {
    const button = create("button", "", { type: "button", className: "key", title: "Show or hide this curve" });
    button.append(create("i", "", { className: `${series.tone}${series.is_dashed ? " dashed" : ""}` }), series.name);
    const mark = () => button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)));
    button.onclick = () => {
      const isShown = this.hidden.has(series.name);
      if (isShown) this.hidden.delete(series.name);
      else this.hidden.add(series.name);
      this.data.series.forEach((other, place) => { if (other.name === series.name) this.plot.setSeries(place + 1, { show: isShown }); });
      mark();
    };
    mark();
    return button;
  }

  /** The newest value of a series at an index; evaluations are rarer than steps. @param {number} series @param {number} index */
  valueAt(series, index) {
    const column = this.plot.data[series + 1];
    for (let place = index; place >= 0; place -= 1) if (column[place] != null) return /** @type {number} */ (column[place]);
    return null;
  }

  /** @param {number | null} index */
  showValues(index) {
    if (!this.plot) return;
    if (index === null) { this.clearValues(); return; }
    const unit = this.data.unit && ` ${this.data.unit}`;
    const texts = this.data.series.flatMap((series, place) => {
      const value = series.is_faint || this.hidden.has(series.name) ? null : this.valueAt(place, index);
      return value === null ? [] : [`${series.name} ${format(value)}${unit}`];
    });
    this.values.textContent = `${this.data.x_unit} ${format(this.plot.data[0][index])} · ${texts.join(" · ")}`;
  }

  clearValues() { this.values.textContent = ""; }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const xs = this.plot.data[0], last = xs.length - 1, index = this.plot.cursor.idx;
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => this.moveTo(Math.max(0, (index ?? last + 1) - 1)),
      ArrowRight: () => this.moveTo(Math.min(last, (index ?? -1) + 1)),
      Home: () => this.moveTo(0),
      End: () => this.moveTo(last),
      Escape: () => this.resetZoom(),
      "+": () => this.zoom(0.5),
      "-": () => this.zoom(2),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** @param {number} index */
  moveTo(index) {
    const left = this.plot.valToPos(this.plot.data[0][index], "x");
    this.plot.setCursor({ left: Math.min(this.plot.over.clientWidth, Math.max(0, left)), top: this.plot.over.clientHeight / 2 });
  }

  /** Zoom around the cursor. @param {number} factor */
  zoom(factor) {
    const xs = this.plot.data[0], [low, high] = this.xRange(xs[0], xs[xs.length - 1]);
    const { min = low, max = high } = /** @type {{ min: number, max: number }} */ (this.plot.scales.x);
    const middle = this.plot.cursor.idx != null ? xs[this.plot.cursor.idx] : (min + max) / 2;
    const width = ((max - min) * factor) / 2;
    this.plot.setScale("x", { min: Math.max(low, middle - width), max: Math.min(high, middle + width) });
  }

  /** Fill the table while it is open. */
  fillTable() {
    if (!this.table.open) return;
    const named = this.named(), columns = named.map((series) => this.data.series.indexOf(series) + 1);
    const unit = this.data.unit && ` (${this.data.unit})`;
    const row = (/** @type {string} */ tag, /** @type {string[]} */ cells) => {
      const line = document.createElement("tr");
      line.append(...cells.map((text) => create(tag, text)));
      return line;
    };
    const table = document.createElement("table"), head = table.createTHead(), body = table.createTBody();
    head.append(row("th", [this.data.x_unit, ...named.map((series) => `${series.name}${unit}`)]));
    const { data } = this.plot;
    data[0].forEach((x, place) => {
      const cells = columns.map((column) => data[column][place]);
      if (cells.some((value) => value != null)) body.append(row("td", [format(x), ...cells.map((value) => (value == null ? "" : format(value)))]));
    });
    this.table.lastChild.setAttribute("role", "region");
    this.table.lastChild.setAttribute("aria-label", `${this.data.title}: values`);
    this.table.lastChild.replaceChildren(table);
  }
}
