"""How a run ended: the verdict with its numbers, or the cause with a fix."""

from __future__ import annotations

from modelforge.diagnosis.classify import Cause
from modelforge.diagnosis.verdict import Verdict
from modelforge.services.diagnosis import Change
from ui.html import format as fmt
from ui.html.components import chip
from ui.html.markup import EMPTY, Markup, el
from ui.pages.run import summary
from ui.pages.run.side_panel import RunSnapshot

# Verdict → its label and tone.
VERDICTS = {
    "better": ("improved", "good"),
    "overfit": ("overfitted", "warn"),
    "no-effect": ("no effect", "warn"),
    "broken": ("broken", "bad"),
    "unclear": ("not enough evidence", ""),
}
# Notes with these codes explain the verdict.
NOTE_CODES = ("early-stop", "loss-guard", "phase-", "tracker-failed", "not-scored")
MAX_NOTES = 6


def ending(snapshot: RunSnapshot) -> Markup:
    """Return how a run ended; nothing while it is active."""
    if not snapshot.run.state.is_over:
        return EMPTY
    if snapshot.cause is not None:
        return _failure(snapshot, snapshot.cause)
    return _verdict(snapshot, summary.judged(snapshot.timeline))


def ending_text(snapshot: RunSnapshot) -> str:
    """Return how a run ended, for screen readers; empty while it is active."""
    if not snapshot.run.state.is_over:
        return ""
    if snapshot.cause is not None:
        return f"{snapshot.cause.what} {snapshot.cause.remedy}"
    return summary.verdict_text(snapshot.timeline)


def _verdict(snapshot: RunSnapshot, verdict: Verdict) -> Markup:
    timeline = snapshot.timeline
    is_stopped = str(snapshot.run.state) == "stopped"
    label, tone = VERDICTS[verdict.kind]
    first = summary.stopped_text(timeline) if is_stopped else summary.duration_text(timeline)
    # A discarded model gets no verdict.
    is_kept = not is_stopped or bool(getattr(timeline.ending, "kept", False))
    if not is_kept:
        return el("div.ending", el("p.verdict.warn", first))
    border = "warn" if is_stopped or not tone else tone
    return el(
        "div.ending",
        el("p.verdict", f"{first} {verdict.text}", class_=None if border == "good" else border),
        el("div.row.start", chip(label, tone), _numbers(snapshot, verdict)),
    )


def _numbers(snapshot: RunSnapshot, verdict: Verdict) -> Markup:
    rows = [
        el("tr", el("th", name[:1].upper() + name[1:], scope="row"), el("td.num", _number(value)))
        for name, value in verdict.numbers.items()
    ]
    notes = [
        el("li", note.text) for note in snapshot.timeline.notes if note.code.startswith(NOTE_CODES)
    ][-MAX_NOTES:]
    return el(
        "details.behind",
        el("summary", "Numbers behind this verdict"),
        el("div.table.scores", el("table", el("tbody", rows))),
        el("ul.help", notes) if notes else None,
    )


def _number(value: float | None) -> str:
    return fmt.number(value) if isinstance(value, int) else fmt.number(value, 3)


def _failure(snapshot: RunSnapshot, cause: Cause) -> Markup:
    bundle = el(
        "a.btn",
        "Download support bundle",
        href=f"/api/runs/{snapshot.run.id}/bundle",
        download=True,
        id="bundle",
    )
    contents = (
        "The bundle contains settings, versions, events and the end of the log, and no data rows, "
        "tokens, user names or home folders."
    )
    about = [
        f"The button changes {_listed(snapshot.changes)}. " if snapshot.changes else None,
        f"Cause: {cause.code}. ",
        None if cause.certain else "Inferred, because the worker reported no error. ",
        contents,
    ]
    return el(
        "div.ending",
        el(
            "div.verdict.bad",
            el("h2.quiet", "What happened"),
            el("p", cause.what),
            el("h2.quiet", "How to fix it"),
            el("p", cause.remedy),
        ),
        el("div.row.start", _fix_button(snapshot, cause), bundle),
        el("p.help", about),
    )


def _fix_button(snapshot: RunSnapshot, cause: Cause) -> Markup | None:
    action = cause.action or {}
    label = str(action.get("label", ""))
    if action.get("kind") == "link":
        return el("a.btn", label, href=action["href"], id="fix-link")
    if "settings" not in action:
        return None
    return el(
        "button.btn.go#apply-fix",
        label,
        type="button",
        data_action="apply-fix",
        data_run=snapshot.run.id,
        data_changes=_change_text(snapshot.changes),
    )


def _change_text(changes: list[Change]) -> str:
    if not changes:
        return "A new run starts with the same settings. This run stays unchanged."
    return (
        "A new run starts with the settings of this one, except for: "
        f"{_listed(changes)}. This run stays unchanged."
    )


def _listed(changes: list[Change]) -> str:
    return ", ".join(
        f"{change.label} {_value(change.before)} → {_value(change.after)}" for change in changes
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "auto"
    return fmt.compact(value) if isinstance(value, float) else str(value)
