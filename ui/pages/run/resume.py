"""Going on with a run that is over: the buttons for it, with what would happen said first."""

from __future__ import annotations

from modelforge.runs.listing import Row
from modelforge.runs.view import RunView
from modelforge.services.resume import Offer, Offers
from ui.html import format as words
from ui.html.markup import Safe, el, join

# Runs that did not come to their end by themselves.
CUT_SHORT = ("stopped", "failed", "lost")


def ways(run: RunView, offers: Offers | None) -> Safe:
    """Return every way to go on with a run, or nothing where there is none."""
    if offers is None:
        return Safe("")
    resume, longer, adapter = offers.resume, offers.continue_, offers.start_from
    buttons = [
        _button(resume, run, resume_label(resume), "go" if resume.step else ""),
        _button(longer, run, "Train it for longer"),
        _button(adapter, run, "New run from its adapter"),
    ]
    shown = [button for button in buttons if button]
    if not shown:
        return Safe("")
    return join(
        [
            el("h2.quiet", "Go on with it"),
            el("hr"),
            el("p.help", resume.text) if not (resume.why_not or resume.step) else None,
            [
                el("p.help.warn", f"{damage.name} is passed over: {damage.why}.")
                for damage in offers.damaged
            ],
            el("div.buttons", shown),
            el("hr"),
        ]
    )


def resume_label(offer: Offer) -> str:
    """Return what stands on the button that resumes."""
    return f"Resume from update {offer.step:,}" if offer.step else "Begin again"


def row_action(run: Row | RunView) -> Safe:
    """Return the button that resumes a run from a list of runs; nothing for one that finished."""
    if str(run.state) not in CUT_SHORT:
        return Safe("")
    return el(
        "button.btn.s",
        "Resume",
        type="button",
        data_do="again-resume",
        data_run=run.id,
        id=f"resume-{run.id}",
        aria_label=f"Resume {run.name}",
    )


def _button(offer: Offer, run: RunView, label: str, tone: str = "") -> Safe | None:
    if offer.why_not:
        return None
    by_updates = int(run.config.get("max_steps", -1)) > 0
    return el(
        "button.btn",
        label,
        type="button",
        class_=tone or None,
        id=f"again-{offer.kind}",
        data_do=f"again-{offer.kind}",
        data_run=run.id,
        data_text=offer.text,
        data_unit="updates" if by_updates else "epochs",
        data_most=words.number(run.config.get("max_steps")) if by_updates else "1",
    )
