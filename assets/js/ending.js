// After a run: start it again with what helps against its cause.
(() => {
  const { actions, ask, toast } = face;
  actions["aid-apply"] = async (button) => {
    const title = button.textContent;
    if (!(await ask(`${title}?`, button.dataset.changes, "Start", false))) return;
    button.setAttribute("aria-disabled", "true");
    // The same click never starts a second run, however often it is sent.
    const once = `aid-${button.dataset.run}-${button.dataset.once ??= Math.random().toString(36).slice(2)}`;
    try {
      const answer = await fetch(`/api/runs/${encodeURIComponent(button.dataset.run)}/retry?request_id=${once}`, { method: "POST" });
      const told = await answer.json();
      if (answer.ok) { location.assign(`/?run=${encodeURIComponent(told.id)}`); return; }
      const first = told.problems?.[0];
      toast(first ? `${first.what} ${first.remedy ?? ""}` : "It could not be started.", true);
    } catch { toast("The server does not answer. Is it still running?", true); }
    button.setAttribute("aria-disabled", "false");
  };
})();
