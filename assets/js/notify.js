// Tell the user that a run has ended while its tab is hidden. The permission is asked for at the first Start.

const POLL_MS = 15000;
const ENDINGS = { finished: "has finished", stopped: "has stopped", failed: "has failed", lost: "was lost" };

/** Ask once whether notifications may be shown; must be called in a click. */
export function askToNotify() {
  if ("Notification" in window && Notification.permission === "default") void Notification.requestPermission();
}

/** Look at a run now and then while the tab is hidden; at its end show a notification. @param {string} run */
export function watchHidden(run) {
  if (!("Notification" in window) || Notification.permission !== "granted") return;
  const timer = setInterval(async () => {
    if (!document.hidden) { clearInterval(timer); return; }
    try {
      const { name, state } = await (await fetch(`/api/runs/${encodeURIComponent(run)}`)).json();
      const ending = ENDINGS[/** @type {keyof ENDINGS} */ (state)];
      if (!ending) return;
      clearInterval(timer);
      // The tag keeps several tabs from saying it twice.
      const note = new Notification(`${name} ${ending}`, { tag: `modelforge-${run}`, icon: "/favicon.ico" });
      note.onclick = () => { window.focus(); note.close(); };
    } catch { /* the server is away: look again */ }
  }, POLL_MS);
}
