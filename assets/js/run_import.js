// A run from a notebook or another computer: its zip is sent to the server, and the run opens.
import { findInput, openRun, problemText, toast } from "./page.js";

/** @param {HTMLElement} root */
export function openRunImport(root) {
  const control = findInput("#run-file", root);
  control.addEventListener("change", async () => {
    const file = control.files?.[0];
    control.value = "";
    if (!file) return;
    control.disabled = true;
    toast(`${file.name} is sent …`);
    try {
      const answer = await fetch("/api/runs/import", { method: "POST", headers: { "Content-Type": "application/zip" }, body: file });
      const reply = await answer.json();
      if (answer.ok) openRun(reply.id);
      else toast(problemText(reply) || "The server refused the file.", true);
    } catch {
      toast("The server does not respond. Check that it is still running.", true);
    } finally {
      control.disabled = false;
    }
  });
}
