"""Actions for a run that is over: resume it, train it longer, or start from its adapter."""

from __future__ import annotations

from modelforge.runs.view import RunView
from modelforge.services.resume import ResumeOption, ResumeOptions
from ui.html.markup import EMPTY, Markup, el, join


def resume_actions(run: RunView, offers: ResumeOptions | None) -> Markup:
    """Return the available actions; nothing if there are none."""
    if offers is None:
        return EMPTY
    resume = offers.resume
    buttons = [
        _button("resume-run", resume, run, resume_label(resume), "go" if resume.step else None),
        _button("continue-run", offers.continue_, run, "Train longer"),
        _button("start-from-run", offers.start_from, run, "New run from its adapter"),
    ]
    if not any(buttons):
        return EMPTY
    skipped = [
        el("p.help.warn", f"{damage.name} is skipped: {damage.why}.") for damage in offers.damaged
    ]
    return join(
        [
            el("h2.quiet", "Continue"),
            el("hr"),
            el("p.help", resume.text) if not (resume.why_not or resume.step) else None,
            skipped,
            el("div.buttons", buttons),
            el("hr"),
        ]
    )


def resume_label(offer: ResumeOption) -> str:
    """Return the label of the button that resumes a run."""
    return f"Resume from step {offer.step:,}" if offer.step else "Start again"


def _button(
    action: str, offer: ResumeOption, run: RunView, label: str, class_: str | None = None
) -> Markup | None:
    if offer.why_not:
        return None
    max_steps = int(run.config.get("max_steps", -1))
    return el(
        "button.btn",
        label,
        type="button",
        class_=class_,
        id=action,
        data_action=action,
        data_run=run.id,
        data_text=offer.text,
        data_unit="steps" if max_steps > 0 else "epochs",
        data_amount=max(1, max_steps),
    )
