"""How a run ended: the verdict with its numbers, or what happened, what helps and the button."""

from __future__ import annotations

from modelforge.diagnosis.classify import Cause
from modelforge.diagnosis.verdict import Verdict
from modelforge.services.diagnosis import Change
from ui.html import format as words
from ui.html.markup import Safe, el, join
from ui.pages.run import summary
from ui.pages.run.side_panel import Seen

# Kind → what stands on the chip, and its tone.
KINDS = {
    "better": ("it learned", "good"),
    "overfit": ("by heart", "warn"),
    "no-effect": ("no effect", "warn"),
    "broken": ("broken", "bad"),
    "unclear": ("too little to tell", ""),
}
# What the monitors said on the way is part of how it went.
TOLD = ("early-stop", "loss-guard", "phase-", "tracker-failed", "not-scored")
MOST_NOTES = 6


def ending(seen: Seen) -> Safe:
    """Return what stands at the head of a run that is over; nothing while it goes on."""
    if not seen.run.state.is_over:
        return Safe("")
    if seen.cause is not None:
        return _trouble(seen, seen.cause)
    return _verdict(seen, summary.judged(seen.picture))


def in_a_sentence(seen: Seen) -> str:
    """Return how a run ended, to be read aloud; empty while it goes on."""
    if not seen.run.state.is_over:
        return ""
    if seen.cause is not None:
        return f"{seen.cause.what} {seen.cause.remedy}"
    return summary.verdict(seen.picture)


def _verdict(seen: Seen, verdict: Verdict) -> Safe:
    stopped = str(seen.run.state) == "stopped"
    word, tone = KINDS[verdict.kind]
    first = summary.stopped(seen.picture) if stopped else summary.took(seen.picture)
    # What was thrown away is not judged.
    kept = not stopped or (seen.picture.ending and seen.picture.ending.data.get("kept"))
    told = join([first, " ", verdict.text]) if kept else join([first])
    return el(
        "div.ending",
        el("p.verdict", told, class_="warn" if stopped or not tone else _tone(tone)),
        el("div.row.start", el("span.chip", word, class_=tone or None), _numbers(seen, verdict))
        if kept
        else None,
    )


def _numbers(seen: Seen, verdict: Verdict) -> Safe:
    rows = [
        el(
            "tr",
            el("th", f"{name[:1].upper()}{name[1:]}", scope="row"),
            el("td.num", _figure(value)),
        )
        for name, value in verdict.numbers.items()
    ]
    notes = [
        el("li", str(note.get("text", "")))
        for note in seen.picture.notes
        if str(note.get("code", "")).startswith(TOLD)
    ][-MOST_NOTES:]
    return el(
        "details.behind",
        el("summary", "The numbers behind it"),
        el("div.table.scores", el("table", el("tbody", rows))),
        el("ul.help", notes) if notes else None,
    )


def _trouble(seen: Seen, cause: Cause) -> Safe:
    return el(
        "div.ending",
        el(
            "div.verdict.bad",
            el("h2.quiet", "What happened"),
            el("p", cause.what),
            el("h2.quiet", "What helps"),
            el("p", cause.remedy),
        ),
        el("div.row.start", _button(seen, cause), _bundle(seen)),
        el(
            "p.help",
            f"The button changes {_listed(seen.changes)}. " if seen.changes else None,
            f"Cause: {cause.code}. ",
            "It is inferred from how the worker ended; it said nothing itself. "
            if not cause.certain
            else None,
            "The bundle holds settings, versions, events and the end of the log, and no data rows, "
            "tokens, names or home folders.",
        ),
    )


def _button(seen: Seen, cause: Cause) -> Safe | None:
    action = cause.action or {}
    label = str(action.get("label", ""))
    if action.get("kind") == "link":
        return el("a.btn", label, href=action["href"], id="aid-link")
    if "settings" not in action:
        return None
    return el(
        "button.btn.go#aid-apply",
        label,
        type="button",
        data_do="aid-apply",
        data_run=seen.run.id,
        data_changes=_changes(seen.changes),
    )


def _changes(changes: list[Change]) -> str:
    if not changes:
        return "The same settings, once more. This run stays as it is."
    return (
        "A new run starts with the settings of this one, but for these: "
        f"{_listed(changes)}. This run stays as it is."
    )


def _listed(changes: list[Change]) -> str:
    return ", ".join(f"{one.label} {_said(one.before)} → {_said(one.after)}" for one in changes)


def _bundle(seen: Seen) -> Safe:
    address = f"/api/runs/{seen.run.id}/bundle"
    return el("a.btn", "Download support bundle", href=address, download=True, id="bundle")


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "auto"
    return words.small(value) if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return words.number(value) if isinstance(value, int) else words.number(value, 3)


def _tone(tone: str) -> str:
    return "" if tone == "good" else tone
