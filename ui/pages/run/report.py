"""The report of an evaluation as cards; a part that the report lacks is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ui.html import format as fmt
from ui.html.markup import Markup, join
from ui.html.templates import render
from ui.pages.run import report_metrics as metrics

# Verdict → its chip.
VERDICTS = {
    "better": ("better", "good"),
    "worse": ("worse", "bad"),
    "no-difference": ("no difference", ""),
    "too-few-rows": ("too few rows", "warn"),
}
CHANGES = {
    "dropped": ("dropped", "bad"),
    "no-clear-change": ("no clear change", ""),
    "better": ("better", "good"),
    "too-few-rows": ("too few prompts", "warn"),
}
ROW_KINDS = {
    "never-learned": "never learned",
    "contradicting": "contradicting",
    "dominating": "dominating",
    "highest-loss": "highest loss",
}
OUTCOMES = {"better": ("better", "good"), "worse": ("worse", "bad"), "equal": ("equal", "")}
LOSSES = {"right": "Loss on right answers", "exchanged": "with exchanged answers"}
TOOL_PARTS = {"name": "Name of the tool", "arguments": "Arguments", "no_call": "No call"}
NUMBER_WORDS = ("", "One contestant", "Two contestants", "Three contestants")
# Above this share of all rows too few are left to train on.
MOST_HELD_OUT = 0.5
HALF = "Adding {} to the next run ({} of its data) should win back about half of the drop."
Report = Mapping[str, Any]
# The names that the parts may have.
NEED: Report = {"kind": "unknown", "sentence": "", "examples": 0, "prompt": ""}
FORGETTING: Report = {
    "sentence": "", "base": "–", "tuned": "–", "groups": (), "lost": (), "mix": None
}  # fmt: skip
GROUP: Report = {"name": "", "label": "", "help": "", "prompts": 1, "base": 0, "tuned": 0}
LOST: Report = {"group": "", "prompt": "", "base": "", "tuned": "", "rule": ""}
MIX: Report = {"rows": 0, "share": 0.0}
ROW: Report = {"kind": "", "text": "", "detail": ""}
TASK: Report = {"task": "", "metric": ""}


def cards(report: Report, run: str, all_rows: int) -> Markup:
    """Return the cards of a report; `all_rows` is the number of rows of the run's data."""
    made = (
        _verdict(report, run, all_rows),
        *_contestants(report),
        *_forgetting(report),
        *_tool_calls(report),
        *_tasks(report),
        *_rows(report, all_rows),
        *_examples(report),
        *_notes(report),
    )
    return join(made)


def _filled(usual: Report, found: Report | None) -> dict[str, Any] | None:
    """Return a part with every name it may have; None where the report lacks the part."""
    return {**usual, **found} if found else None


def _verdict(report: Report, run: str, all_rows: int) -> Markup:
    verdict = report.get("verdict") or {}
    kind = str(verdict.get("kind", ""))
    label, tone = VERDICTS.get(kind, ("unknown", ""))
    title = str(verdict.get("sentence") or "This report has no verdict.")
    is_open = kind in ("too-few-rows", "no-difference")
    needed = verdict.get("rows_needed")
    return render(
        "evaluation",
        "verdict",
        title,
        label,
        tone,
        _under_verdict(report),
        _filled(NEED, report.get("need")),
        _learned(report.get("learned")),
        metrics.difference(report) if is_open else None,
        hold_out(needed, all_rows) if kind == "too-few-rows" else None,
        run,
    )


def hold_out(needed: int | None, all_rows: int) -> int | None:
    """Return how many evaluation rows the next run can have; None if the data is too small."""
    possible = needed is not None and 0 < needed <= all_rows * MOST_HELD_OUT
    return needed if possible else None


def _under_verdict(report: Report) -> str:
    facts, against = report.get("facts") or {}, report.get("against_prompt")
    used = facts.get("rows_used")
    texts = [f"{fmt.plural(used, 'evaluation row')}."] if used is not None else []
    needed = (report.get("verdict") or {}).get("rows_needed")
    if needed:
        texts.append(f"With a difference of this size, about {needed:,} rows would settle it.")
    if against:
        counts = ", ".join(
            f"{against.get(name) or 0:,} {name}" for name in ("better", "worse", "equal")
        )
        texts.append(f"Against the prompt: {counts}{_by_chance(against.get('p'))}.")
    return " ".join(texts)


def _by_chance(p: float | None) -> str:
    """Return how often chance alone gives such a difference: by chance, about once in 200."""
    if p is None:
        return ""
    if p < 0.001:
        return "; by chance, less than once in 1,000"
    if p > 0.5:
        return "; by chance, more often than not"
    return f"; by chance, about once in {round(1 / p):,}"


def _learned(found: Report | None) -> dict[str, str] | None:
    if not found:
        return None
    texts, sentence = [], str(found.get("sentence", ""))
    for name, title in LOSSES.items():
        losses = found.get(name)
        if losses and None not in (losses.get("base"), losses.get("tuned")):
            # The sentence may name the losses itself.
            if _two(losses["tuned"]) in sentence:
                continue
            texts.append(f"{title} {fmt.number(losses['base'], 2)} → {_two(losses['tuned'])}")
    rows = found.get("rows")
    if texts and rows:
        texts.append(fmt.plural(rows, "row"))
    return {"sentence": sentence, "text": ", ".join(texts)}


def _two(value: float) -> str:
    return fmt.number(value, 2)


def _contestants(report: Report) -> Iterator[Markup]:
    plots = metrics.plots(report)
    if not plots:
        return
    used = (report.get("facts") or {}).get("rows_used")
    count = NUMBER_WORDS[min(max(len(plot.rows) for plot in plots), 3)]
    title = f"{count}, the same {fmt.plural(used, 'row')}" if used else count
    help_text = "Lines that do not overlap differ by more than chance."
    names, examples = metrics.contestant_names(report), (report.get("facts") or {}).get("examples")
    if examples and count == NUMBER_WORDS[3]:
        rows = fmt.plural(examples, "training row")
        help_text += f" “{names['prompted']}” has {rows} in its prompt."
    yield render("evaluation", "contestants", title, plots, help_text)


def _forgetting(report: Report) -> Iterator[Markup]:
    found = _filled(FORGETTING, report.get("forgetting"))
    if not found:
        return
    groups = []
    for stated in found["groups"] or ():
        group = {**GROUP, **stated}
        prompts = max(1, group.get("prompts") or 1)
        shares = [f"{100 * (group.get(name) or 0) / prompts:.0f}" for name in ("base", "tuned")]
        label, tone = CHANGES.get(str(group.get("kind")), ("unknown", ""))
        groups.append((group, shares, label, tone))
    sizes = {group["prompts"] for group, *_ in groups}
    each = f", {sizes.pop()} in each group" if len(sizes) == 1 else ""
    summary = f"{fmt.plural(found.get('prompts') or 0, 'general prompt')}{each}"
    found["mix"] = _filled(MIX, found["mix"])
    found["lost"] = [{**LOST, **lost} for lost in found["lost"] or ()]
    yield render("evaluation", "forgetting", found, groups, summary, _mix_text(found["mix"]))


def _mix_text(mix: Report | None) -> str:
    if not mix:
        return ""
    rows = fmt.plural(mix["rows"], "general row")
    return HALF.format(rows, fmt.percent(100 * mix["share"]))


def row_place(lines: Sequence[int]) -> str:
    """Return rows by their numbers: row 233; rows 88 and 341."""
    texts = [f"{line:,}" for line in lines]
    if len(texts) == 1:
        return f"row {texts[0]}"
    return f"rows {', '.join(texts[:-1])} and {texts[-1]}"


def _rows(report: Report, all_rows: int) -> Iterator[Markup]:
    found = [{**ROW, **row} for row in report.get("rows") or () if row.get("lines")]
    if not found:
        return
    listed = [
        (row, ROW_KINDS.get(row["kind"], row["kind"]), row_place(row["lines"]), row["lines"][0])
        for row in found
    ]
    numbers = list(dict.fromkeys(line for row in found for line in row["lines"]))
    of = f" of {fmt.plural(all_rows, 'row')}" if all_rows else ""
    yield render("evaluation", "rows", listed, f"{len(numbers):,}{of}", numbers)


def _tool_calls(report: Report) -> Iterator[Markup]:
    found = report.get("tool_calls")
    if not found:
        return
    names = metrics.contestant_names(report)
    parts = []
    for key, title in TOOL_PARTS.items():
        results = found.get(key) or {}
        cells = [_share_cell(results.get(name)) for name in names]
        parts.append((title, cells))
    yield render("evaluation", "tool_calls", parts, list(names.values()))


def _share_cell(result: Report | None) -> str:
    if not result or result.get("value") is None:
        return fmt.UNKNOWN
    ends = metrics.interval_text(result.get("interval"), "share")
    return f"{metrics.value_text(result['value'], 'share')}{f' ({ends})' if ends else ''}"


def _tasks(report: Report) -> Iterator[Markup]:
    listed = [
        (
            {**TASK, **task},
            *(fmt.number(task.get(name), 3) for name in ("base", "tuned")),
            metrics.interval_text(task.get("interval"), "score") or fmt.UNKNOWN,
        )
        for task in report.get("tasks") or ()
    ]
    if listed:
        yield render("evaluation", "tasks", listed)


def _examples(report: Report) -> Iterator[Markup]:
    names = metrics.contestant_names(report)
    listed = [
        {"expected": "", "outcome": "", "prompt": "", **dict.fromkeys(names), **example}
        for example in report.get("examples") or ()
    ]
    if listed:
        yield render("evaluation", "examples", listed, names, OUTCOMES)


def _notes(report: Report) -> Iterator[Markup]:
    notes = [str(note) for note in report.get("notes") or () if note]
    if notes:
        yield render("evaluation", "notes", notes)
