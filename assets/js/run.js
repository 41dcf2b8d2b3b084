// Follow one run: the server streams the parts and charts that changed. A hidden tab closes the stream.
import { clearCharts, showCharts } from "./charts.js";
import { actions, all, ask, call, find, onVisibility, patch } from "./page.js";
import { closeEvaluation, openEvaluation } from "./evaluation.js";
import { watchHidden } from "./notify.js";
import "./run_actions.js";
import { openSamples, showSamples } from "./samples.js";

/** @typedef {import("./types").RunUpdate} RunUpdate */

const LOST = "The server does not respond; trying again. The run continues without it.";

/** @type {EventSource | null} */
let source = null;
/** The run on this page. @type {{ root: HTMLElement, server: import("./page.js").Server, run: string, isOver: boolean } | null} */
let followed = null;
let lostTimer = 0;

function open() {
  close();
  if (!followed) return;
  source = new EventSource(`/ui/runs/${encodeURIComponent(followed.run)}/live`);
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = () => {
    // The browser connects again by itself; a short gap needs no message. Each try in vain comes here.
    lostTimer ||= setTimeout(() => patch({ "run-gap": LOST }), 2500);
    if (source?.readyState === EventSource.CLOSED) setTimeout(() => { if (followed && !followed.isOver && !document.hidden) open(); }, 2000);
  };
  source.onopen = clearGap;
}

function clearGap() {
  clearTimeout(lostTimer);
  lostTimer = 0;
  patch({ "run-gap": "" });
}

function close() { source?.close(); source = null; }

/** @param {RunUpdate} update */
function show(update) {
  if (!followed) return;
  patch(update.parts);
  showSamples(followed.root);
  showCharts(update.charts);
  find(".app", followed.root).dataset.state = update.state;
  showTabs(followed.root, update.is_over && update.state !== "gone");
  if (update.title) document.title = update.title;
  if (update.is_over) { followed.isOver = true; close(); }
  if (update.is_over && update.state !== "gone") openEvaluation(followed.root, followed.server, followed.run);
  followed.root.dataset.usable = "true";
}

const SHOWN_BEFORE = ["samples", "log"];

/** Show the tabs of a run that is over; before, overview, samples and log stand below each other. @param {HTMLElement} root @param {boolean} isOver */
function showTabs(root, isOver) {
  const tabs = find("#run-tabs", root);
  if (tabs.hidden !== isOver) return;
  tabs.hidden = !isOver;
  const wanted = isOver ? new URLSearchParams(location.search).get("tab") : "";
  const tab = wanted ? document.getElementById(`tab-run-${wanted}`) : null;
  (tab ?? find("#tab-run-overview", root)).click();
  if (!isOver) for (const key of SHOWN_BEFORE) find(`#run-${key}`, root).hidden = false;
}

/** The side panel belongs to the tab, and the address names the tab. */
document.addEventListener("tabchange", (event) => {
  const key = /^tab-run-(.*)$/.exec(/** @type {HTMLElement} */ (event.target).id)?.[1];
  if (!key || !followed) return;
  find(".app", followed.root).dataset.tab = key;
  for (const panel of all(".beside", followed.root)) panel.hidden = !(panel.dataset.beside ?? "").split(" ").includes(key);
  if (!followed.isOver) return;
  const address = new URLSearchParams({ run: followed.run, ...(key !== "overview" && { tab: key }) });
  history.replaceState(history.state, "", `${location.pathname}?${address}`);
});

/** @param {HTMLElement} root @param {import("./page.js").Server} server @param {string} run */
export function follow(root, server, run) {
  if (followed?.run !== run) { clearCharts(); openSamples(run); }
  followed = { root, server, run, isOver: false };
  if (!document.hidden) open();
}

export function unfollow() { followed = null; close(); clearGap(); closeEvaluation(); }

onVisibility((isVisible) => {
  if (!followed || followed.isOver) return;
  if (isVisible) { open(); return; }
  close();
  watchHidden(followed.run);
});
addEventListener("pagehide", close);

/** @param {boolean} keep */
const stop = async (keep) => { if (followed) await call(followed.server, "stop", { run: followed.run, keep }); };
actions["stop-keep"] = () => stop(true);
actions["stop-discard"] = async () => {
  const text = "The weights trained so far are deleted. The metrics and the log are kept.";
  if (await ask("Stop and discard?", text, "Stop and discard")) await stop(false);
};
