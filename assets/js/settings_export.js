// The dialog Export settings: the form or a run as a file of another system, or as a script with its rows.
import { actions, call, create, dialog, find, problemText, saveFile, toast, whileDisabled } from "./page.js";

/** @typedef {import("./types").SettingsExportReply} SettingsExportReply */
/** What is exported: a form, or the id of a run. @typedef {{ run?: string, profile?: string | null, values?: Record<string, any>, recipe?: Record<string, any> }} Exported */

const ARCHIVE = "/api/export-settings/archive";

/** @param {import("./page.js").Server} server @param {() => Exported} exported */
export function openSettingsExport(server, exported) {
  actions["export-settings"] = (button) => whileDisabled(button, () => showSettingsExport(server, exported(), button.dataset.to));
}

/** Ask for the system, show what it cannot say, and offer the file. @param {import("./page.js").Server} server @param {Exported} exported */
export async function showSettingsExport(server, exported, to = "") {
  const body = create("div", "", { className: "export-settings" });
  /** @type {SettingsExportReply | undefined} */
  let reply;
  let hasRows = false, number = 0;
  async function load() {
    const mine = ++number;
    const next = await call(server, "export_settings", { ...exported, to });
    if (mine !== number || !next) return;
    reply = next;
    body.innerHTML = next.shown;
    // Without a choice the server offers the system that fits.
    to = /** @type {HTMLSelectElement} */ (find("#export-to", body)).value;
  }
  body.addEventListener("change", async (/** @type {Event} */ event) => {
    const control = /** @type {HTMLInputElement} */ (event.target);
    hasRows = control.id === "export-rows" ? control.checked : false;
    if (control.id !== "export-to") return;
    to = control.value;
    await load();
    find("#export-to", body).focus();
  });
  await load();
  if (!reply || !(await dialog({ id: "export-settings", title: "Export settings", body: [body], submit: "Download" }))) return;
  if (!reply.text) toast("These settings cannot be exported for this system.", true);
  else if (reply.is_archive || hasRows) await downloadArchive({ to, rows: hasRows, ...(exported.run ? { run: exported.run } : { settings: reply.settings }) });
  else saveFile(reply.file_name, reply.text);
}

/** Download the file with all that it reads. @param {object} request */
async function downloadArchive(request) {
  toast("The rows are prepared …");
  try {
    const answer = await fetch(ARCHIVE, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
    if (!answer.ok) { toast(problemText(await answer.json()) || "The server refused the request.", true); return; }
    const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "settings.zip";
    const link = create("a", "", { href: URL.createObjectURL(await answer.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch {
    toast("The server does not respond. Check that it is still running.", true);
  }
}
