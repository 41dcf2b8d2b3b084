"""Actions for a run that is over: resume it, train it longer, or start from its adapter."""

from __future__ import annotations

from modelforge.runs.view import RunView
from modelforge.services.resume import ResumeOption, ResumeOptions
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render


def resume_actions(run: RunView, offers: ResumeOptions | None) -> Markup:
    """Return the available actions; nothing if there are none."""
    if offers is None:
        return EMPTY
    resume, max_steps = offers.resume, int(run.config.get("max_steps", -1))
    more = {
        "data_run": run.id,
        "data_unit": "steps" if max_steps > 0 else "epochs",
        "data_amount": max(1, max_steps),
    }
    main = "btn go" if resume.step else "btn"
    buttons = [
        ("resume-run", resume, resume_label(resume), main, more),
        ("continue-run", offers.continue_, "Train longer", "btn", more),
        ("start-from-run", offers.start_from, "New run from its adapter", "btn", more),
    ]
    possible = [button for button in buttons if not button[1].why_not]
    return render("run", "resume", offers, possible) if possible else EMPTY


def resume_label(offer: ResumeOption) -> str:
    """Return the label of the button that resumes a run."""
    return f"Resume from step {offer.step:,}" if offer.step else "Start again"
