"""What stands beside the form: memory, time, disk, findings, and whether training may start."""

from __future__ import annotations

from collections.abc import Sequence

from modelforge.config.fields import specs_by_name
from modelforge.data.checks.summary import DatasetSummary
from modelforge.errors import Finding, Problem
from modelforge.preflight.report import Report
from modelforge.services.preflight import Checked
from ui.html import format as words
from ui.html.markup import Safe, el, join
from ui.pages.train import fit_panel, speed_panel, trial_run
from ui.pages.train.form import shown

# Five colours for all parts: what a person can change together is one, and the rest is the last.
PARTS = (
    ("c1", "weights", ("weights", "reference", "judge")),
    ("c2", "adapter", ("adapter", "gradients")),
    ("c3", "optimizer", ("optimizer",)),
    ("c4", "activations, logits", ("activations", "logits", "generation", "evaluation")),
)
REST = ("c5", "the rest")
LEVELS = {"blocker": "bad", "caution": "warn", "note": ""}


def skeleton() -> Safe:
    """Return the side panel: a part that follows the answers, and the button to start."""
    return el(
        "aside.plan",
        el(
            "div.card",
            el(
                "div.body",
                el("h2.quiet", "The plan"),
                el("div", data_part="plan"),
                el("p.fine.before", "As it was before: a setting is wrong.", hidden=True),
                el("div", data_part="problems"),
                el(
                    "div.foot",
                    fit_panel.undo(),
                    el("p.reason#why", data_part="why", aria_live="polite"),
                    el("div", data_part="rehearsal", role="status"),
                    el("div.starts", trial_run.start(), _start(), _enqueue()),
                ),
            ),
        ),
        aria_label="The plan",
    )


def _start() -> Safe:
    return el(
        "button.btn.go.wide#start",
        "Start training",
        type="button",
        data_do="start",
        aria_describedby="why",
        aria_disabled="true",
    )


def _enqueue() -> Safe:
    return el(
        "button.btn.wide#enqueue",
        "Add to queue",
        type="button",
        data_do="enqueue",
        aria_disabled="true",
    )


def parts(checked: Checked, wanted: Sequence[str], others: Sequence[Problem]) -> dict[str, Safe]:
    """Return the parts of the panel that follow the answers."""
    return {
        "plan": plan(checked),
        "problems": problems(others) if others else Safe(""),
        "why": join([why_not(checked, wanted, others)]),
    }


def plan(checked: Checked) -> Safe:
    """Return memory, time, disk and findings of a check; a hint where there is no plan yet."""
    report = checked.report
    if report is None:
        return el("p.help", "Memory, time and disk appear here once the answers fit together.")
    told = [
        finding
        for finding in report.findings
        if not is_of_data(finding, checked.look) and finding.code not in fit_panel.SAID_HERE
    ]
    quantized = checked.plan.quantization if checked.plan else "none"
    return join(
        [
            memory(report, "" if quantized == "none" else f", {quantized}"),
            fit_panel.block(report),
            el("hr"),
            row("Time", time(report)),
            row("Updates", words.number(report.updates)),
            fit_panel.measured(report),
            row("Disk", disk(report)),
            el("p.fine", fit_panel.basis(report), data_basis=report.memory_basis),
            # One thing after the other: first it is to fit.
            [el("hr"), speed_panel.panel(report)]
            if report.levers and not fit_panel.is_red(report)
            else None,
            [el("hr"), findings(told)] if told else None,
        ]
    )


def memory(report: Report, weights: str = "") -> Safe:
    """Return the bar and the parts of the memory estimate."""
    if report.memory_total_gib is None:
        return row("Memory", "not known for this model")
    grouped = _grouped(report)
    whole = max(report.memory_available_gib or 0.0, report.memory_total_gib) or 1.0
    total = f"{report.memory_total_gib:.1f}"
    told = f"{total} / {words.gib(report.memory_available_gib)}"
    bar = el(
        "div.bar",
        [el(f"i.{tone}", style=f"width:{100 * gib / whole:.1f}%") for tone, _, gib in grouped],
        role="img",
        aria_label=f"Memory: about {total} of {words.gib(report.memory_available_gib)} free",
    )
    rows = [
        row([el(f"i.dot.{tone}"), name + (weights if name == "weights" else "")], f"{gib:.1f}")
        for tone, name, gib in grouped
    ]
    return join([bar, row([el("b", "Memory "), fits(report)], told), el("div.parts", rows)])


def _grouped(report: Report) -> list[tuple[str, str, float]]:
    """Return the parts as they are shown: tone, name and GiB; they add up to the whole.

    Where the whole was measured, its parts are taken to share it as they were worked out.
    """
    sizes = {part.name: part.gib for part in report.memory}
    whole = sum(sizes.values())
    scale = (report.memory_total_gib or 0.0) / whole if whole else 1.0
    grouped = [
        (tone, name, scale * sum(sizes.pop(part, 0.0) for part in parts))
        for tone, name, parts in PARTS
    ]
    return [*grouped, (*REST, scale * sum(sizes.values()))]


def time(report: Report) -> str:
    """Return how long the run takes: measured where a rehearsal has, else about."""
    known = report.seconds_basis == "trial_run"
    return words.duration(report.seconds) if known else words.roughly(report.seconds)


def fits(report: Report) -> Safe:
    """Return the word for whether the run fits into the memory that is free."""
    return fit_panel.chip(report.memory_total_gib, report.memory_available_gib)


def disk(report: Report) -> str:
    """Return what the run needs of the disk: 1.1 of 80 GiB."""
    if report.disk_needed_gib is None:
        return words.gib(report.disk_free_gib)
    return f"{report.disk_needed_gib:.1f} of {words.number(report.disk_free_gib)} GiB"


def findings(listed: Sequence[Finding]) -> Safe:
    """Return findings as lines: a word for the level, the sentence, a fix where there is one."""
    return el("div.finds", [_finding(one) for one in listed])


def problems(listed: Sequence[Problem]) -> Safe:
    """Return problems that belong to no field."""
    return el(
        "div.finds",
        [
            el(
                "div.find",
                el("span.chip.bad", "problem"),
                el("div", one.sentence, el("small", one.remedy) if one.remedy else None),
            )
            for one in listed
        ],
    )


def why_not(checked: Checked, wanted: Sequence[str], others: Sequence[Problem]) -> str:
    """Return why training cannot start, in a sentence; empty when it can."""
    if "dataset" in wanted:
        return "Choose your data first."
    if "model_name" in wanted:
        return "Choose a model first."
    if checked.errors:
        first = (others or checked.problems)[0]
        named = specs_by_name().get(first.where)
        more = len(checked.problems) - 1
        rest = f" And {words.plural(more, 'more problem')}." if more else ""
        told = f"{named.label}: {first.what}" if named else first.sentence
        return f"{told}{rest}"
    if checked.report is not None and checked.report.blocked:
        return next(one.what for one in checked.report.findings if one.level == "blocker")
    return ""


def row(name: object, value: object) -> Safe:
    """Return one line of the panel: a name and a number."""
    return el("div.row", el("span", name), el("span.num", value))


def is_of_data(finding: Finding, look: DatasetSummary | None) -> bool:
    """Say whether a finding is the data's own, which the card of the data shows."""
    return look is not None and any(one.code == finding.code for one in look.findings)


def _finding(one: Finding) -> Safe:
    fix = None
    if one.suggested is not None and one.where:
        fix = el(
            "button.btn.s",
            f"Use {shown(one.suggested)}",
            type="button",
            data_do="fix",
            data_field=one.where,
            data_value=shown(one.suggested),
            id=f"fix-{one.code}",
            aria_label=f"Set {one.where} to {shown(one.suggested)}",
        )
    return el(
        "div.find",
        el(f"span.chip.{LEVELS[one.level] or 'plain'}", one.level),
        el("div", f"{_of(one)}{one.what}", el("small", one.remedy) if one.remedy else None),
        fix,
    )


def _of(one: Finding) -> str:
    """Return the label of the setting whose value is told, which the sentence leaves out."""
    return f"{specs_by_name()[one.where].label}: " if one.code == "plan-changed" else ""
