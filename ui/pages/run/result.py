"""How a run ended: the verdict with its numbers, or the cause with a fix."""

from __future__ import annotations

from modelforge.diagnosis.verdict import Verdict
from modelforge.services.diagnosis import Change
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, el
from ui.html.templates import render
from ui.pages.run import state
from ui.pages.run.side_panel import RunSnapshot

# Notes with these codes explain the verdict.
NOTE_CODES = (
    *("early-stop", "loss-guard", "phase-", "tracker-failed", "not-scored"),
    *("not-merged", "privacy"),
)
MAX_NOTES = 6


def ending(snapshot: RunSnapshot) -> Markup:
    """Return how a run ended; nothing while it is active."""
    if not snapshot.run.state.is_over:
        return EMPTY
    if snapshot.cause is not None:
        cause, changes = snapshot.cause, _listed(snapshot.changes)
        action, kept = cause.action or {}, _kept(snapshot)
        return render("run", "failure", snapshot.run.id, cause, action, changes, kept)
    return _verdict(snapshot, state.judged(snapshot.timeline))


def ending_text(snapshot: RunSnapshot) -> str:
    """Return how a run ended, for screen readers; empty while it is active."""
    if not snapshot.run.state.is_over:
        return ""
    if snapshot.cause is not None:
        return f"{snapshot.cause.what} {snapshot.cause.remedy} {_kept(snapshot)}".strip()
    return state.verdict_text(snapshot.timeline, snapshot.run.duration, _kept(snapshot))


def _kept(snapshot: RunSnapshot) -> str:
    return snapshot.offers.resume.kept if snapshot.offers else ""


def _verdict(snapshot: RunSnapshot, verdict: Verdict) -> Markup:
    timeline = snapshot.timeline
    is_stopped = str(snapshot.run.state) == "stopped"
    label, tone = fmt.VERDICTS[verdict.kind]
    first = state.duration_text(timeline, snapshot.run.duration)
    if is_stopped:
        first = state.stopped_text(timeline, _kept(snapshot))
    # A discarded model gets no verdict.
    is_kept = not is_stopped or bool(getattr(timeline.ending, "kept", False))
    if not is_kept:
        return el("div.ending", el("p.verdict.warn", first))
    border = "warn" if is_stopped or not tone else tone
    text = f"{first} {verdict.text}"
    numbers = [(_title(name), _number(value)) for name, value in verdict.numbers.items()]
    notes = [note for note in timeline.notes if note.code.startswith(NOTE_CODES)][-MAX_NOTES:]
    border = "" if border == "good" else border
    return render("run", "verdict", text, border, label, tone, numbers, notes)


def _title(name: str) -> str:
    """Return the name of a number of the verdict as a heading: Loss at the end."""
    words = name.replace(" at first", " at the start").replace(" at last", " at the end")
    return words[:1].upper() + words[1:]


def _number(value: float | None) -> str:
    return fmt.number(value) if isinstance(value, int) else fmt.number(value, 3)


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
