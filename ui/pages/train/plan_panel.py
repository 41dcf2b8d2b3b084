"""The plan panel: memory, time, disk space, findings, and the buttons to start."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from modelforge.config.fields import source_specs, specs_by_name
from modelforge.config.plan.make import Plan
from modelforge.data.checks.summary import DatasetSummary
from modelforge.errors import Finding, Problem
from modelforge.preflight.report import Report, length_text
from modelforge.services.preflight import PreflightResult
from ui.html import components
from ui.html import format as fmt
from ui.html.components import row
from ui.html.markup import Markup, el, join
from ui.html.templates import render
from ui.pages.train import fit_panel, trial_run
from ui.pages.train.column_mapping import LABELS, with_labels
from ui.pages.train.form import ON_CARDS, value_text
from ui.pages.train.new_model.cards import count

# Color, label and parts of the memory bar; all other parts are one more.
MEMORY_PARTS = (
    ("c1", "weights", ("weights", "reference", "judge")),
    ("c2", "adapter", ("adapter", "gradients")),
    ("c3", "optimizer", ("optimizer",)),
    ("c4", "activations, logits", ("activations", "logits", "generation", "evaluation")),
)
OTHER_PARTS = ("c5", "other")
# Longer values are not repeated on a button.
MAX_VALUE_CHARS = 16
# More notes than these are folded.
MOST_NOTES = 4
LEVELS = {"blocker": "bad", "caution": "warn", "note": "plain"}


def plan(checked: PreflightResult) -> Markup:
    """Return memory, time, disk space and findings; a hint while a plan is missing."""
    report = checked.report
    if report is None:
        return el("p.help", "Memory, time and disk space appear here once the settings are valid.")
    notes = [finding for finding in _findings(checked) if finding.level == "note"]
    quantization = checked.plan.quantization if checked.plan else "none"
    gpus = checked.plan.ranks if checked.plan else 1
    # Suggest a faster run only once it fits.
    has_speedups = report.levers and not fit_panel.exceeds_memory(report)
    return join(
        [
            memory(report, _stored_as(report, quantization)),
            several_gpus(checked.plan),
            fit_panel.suggestions(report),
            el("hr"),
            row("Time", time_text(report)),
            fit_panel.last_run(report),
            *_length(report, checked.plan),
            fit_panel.measured(report),
            row("Disk", disk_text(report)),
            stages(report),
            el("p.fine", fit_panel.basis_text(report, gpus), data_basis=report.memory_basis),
            trial_run.reward_trial(report),
            [el("hr"), fit_panel.speedups(report)] if has_speedups else None,
            [el("hr"), _notes(notes)] if notes else None,
            _core_tip(checked),
        ]
    )


def several_gpus(plan: Plan | None) -> Markup | None:
    """Return how many GPUs train together, each with the memory that is shown; None for one."""
    if plan is None or plan.ranks == 1:
        return None
    name = "GPUs" if plan.device == "cuda" else "Processes"
    return row(name, f"{plan.ranks}, the memory is that of each")


def stages(report: Report) -> Markup | None:
    """Return what each stage of a growing model trains, with memory and time; None for others."""
    if not report.stages:
        return None
    rows = [
        (
            stage.name,
            fmt.plural(len(stage.new_layers), "new layer") if stage.new_layers else "all layers",
            f"{count(stage.trained)} trained" if stage.trained else "",
            fmt.gib(stage.memory_gib),
            fmt.duration(stage.seconds),
        )
        for stage in report.stages
    ]
    at_once = report.at_once_gib
    text = f"All new layers at once would need {fmt.gib(at_once)}." if at_once else ""
    return render("growing", "planned", rows, fmt.plural(len(rows), "stage"), text)


def _stored_as(report: Report, quantization: str) -> str:
    """Return how the weights are stored: `, 4-bit: 4.5 bits each`; nothing if not quantized."""
    if quantization == "none":
        return ""
    bits = report.quantized_bits
    return f", {quantization}" if bits is None else f", {quantization}: {bits:.3g} bits each"


def cautions(
    checked: PreflightResult, values: Mapping[str, str], kept: Collection[str] = ()
) -> list[Finding]:
    """Return the blockers of the plan, and the cautions that the user has not kept."""
    shown = [finding for finding in _findings(checked) if finding.level == "blocker"]
    return shown + [one for one in _all_cautions(checked) if caution_key(one, values) not in kept]


def kept_count(checked: PreflightResult, values: Mapping[str, str], kept: Collection[str]) -> int:
    """Return how many cautions of the plan the user has kept."""
    return sum(caution_key(finding, values) in kept for finding in _all_cautions(checked))


def caution_key(finding: Finding, values: Mapping[str, str]) -> str:
    """Return an id of a caution about one value: with another value it is a new caution."""
    about = f"{finding.where}={values[finding.where]}" if finding.where in values else finding.what
    return f"{finding.code} {about}"


def caution_box(cautions: Sequence[Finding], values: Mapping[str, str], kept: int = 0) -> Markup:
    """Return the cautions, with buttons to change or keep the value, and how many are kept."""
    items = [_finding(finding, _keep(finding, values)) for finding in cautions]
    box = el("div.box", el("div.finds", items)) if items else None
    show = el("button.btn.s", "Show", type="button", data_action="unkeep", id="unkeep")
    line = el("p.fine.kept", f"{fmt.plural(kept, 'caution')} kept.", show) if kept else None
    return join([box, line])


def _all_cautions(checked: PreflightResult) -> list[Finding]:
    return [finding for finding in _findings(checked) if finding.level == "caution"]


def _keep(finding: Finding, values: Mapping[str, str]) -> Markup | None:
    """Return a button that hides a caution as long as the value stays."""
    if finding.level != "caution":
        return None
    value = "" if finding.where in ON_CARDS else values.get(finding.where, "")
    # -1 switches a setting off.
    value = "" if value == "-1" else value
    label = f"Keep {value}" if value and len(value) <= MAX_VALUE_CHARS else "Keep"
    return el(
        "button.btn.s",
        label,
        type="button",
        data_action="keep",
        data_key=caution_key(finding, values),
        id=f"keep-{finding.code}-{finding.where}",
        aria_label=f"{label}: {finding.what}",
    )


def _findings(checked: PreflightResult) -> list[Finding]:
    """Return the findings that neither the data card nor a suggestion shows."""
    return [
        finding
        for finding in (checked.report.findings if checked.report else ())
        if not is_of_data(finding, checked.summary) and finding.code not in fit_panel.COVERED
    ]


def memory(report: Report, weights_suffix: str = "") -> Markup:
    """Return the bar and the parts of the memory estimate."""
    if report.memory_total_gib is None:
        return row("Memory", "unknown for this model")
    parts = _memory_parts(report)
    total, free = f"{report.memory_total_gib:.1f}", fmt.gib(report.memory_available_gib)
    whole = max(report.memory_available_gib or 0.0, report.memory_total_gib) or 1.0
    fit = fit_panel.fit_chip(report.memory_total_gib, report.memory_available_gib)
    return render("plan", "memory", parts, whole, total, free, fit, weights_suffix)


def _memory_parts(report: Report) -> list[tuple[str, str, float]]:
    """Return color, name and GiB of each part; they add up to the total.

    A measured total is distributed over the parts in proportion to their estimates.
    """
    sizes = {part.name: part.gib for part in report.memory}
    estimate = sum(sizes.values())
    scale = (report.memory_total_gib or 0.0) / estimate if estimate else 1.0
    return [(tone, name, scale * gib) for tone, name, gib in memory_groups(sizes)]


def memory_groups(sizes: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Return color, name and GiB of the parts of the bar, from the GiB of all parts by name."""
    # Without an adapter its part of the bar is the gradients of all weights.
    other = {} if sizes.get("adapter") else {"adapter": "gradients"}
    grouped = [
        (tone, other.get(name, name), sum(sizes.get(part, 0.0) for part in parts))
        for tone, name, parts in MEMORY_PARTS
    ]
    return [*grouped, (*OTHER_PARTS, sum(sizes.values()) - sum(gib for _, _, gib in grouped))]


def time_text(report: Report) -> str:
    """Return the planned duration of the run; a range on a CPU that no run has measured."""
    times = report.seconds, report.seconds_basis, report.seconds_longest
    return fmt.planned_duration(*times, report.evaluation_seconds)


def _steps(report: Report) -> Markup:
    """Return the steps of the run: 18 + 6 with a stage before that trains a reward model."""
    steps = fmt.number(report.updates)
    if not report.reward_updates:
        return row("Steps", steps)
    return row("Steps (reward model + RLHF)", f"{fmt.number(report.reward_updates)} + {steps}")


def _notes(notes: Sequence[Finding]) -> Markup:
    """Return the notes; many are folded."""
    if len(notes) <= MOST_NOTES:
        return finding_list(notes)
    summary = el("summary", fmt.plural(len(notes), "note"))
    return el("details.others", summary, finding_list(notes), id="plan-notes")


def _length(report: Report, plan: Plan | None) -> list[Markup | None]:
    """Return the rows about the length: in epochs, or of a training from nothing in tokens."""
    planned = plan.pretraining if plan else None
    if planned is None:
        return [_steps(report), _epochs(report)]
    ends = "" if report.seconds is None else fmt.date(time.time() + report.seconds)
    passes = planned.epochs
    return [
        row("Done", f"about {ends.removeprefix('today ')}") if ends else None,
        row("Steps", fmt.number(planned.steps)),
        row("Passes over the text", fmt.number(passes, 1 if passes < 10 else 0))
        if passes
        else None,
        row("Tokens per second", fmt.number(report.tokens_per_s)) if report.tokens_per_s else None,
    ]


def _core_tip(checked: PreflightResult) -> Markup | None:
    """Return how to score a new model on known tasks, until their folder is given."""
    config = checked.resolved.config if checked.resolved else None
    if config is None or not config.pretraining.enabled or config.evaluation.core_bundle:
        return None
    return join([el("hr"), render("pretrain", "core_tip")])


def _epochs(report: Report) -> Markup | None:
    """Return the length in epochs and tokens; None while it is unknown."""
    text = length_text(report.epochs, report.tokens, report.flops)
    return row("Epochs", text) if text else None


def disk_text(report: Report) -> str:
    """Return the disk space of the run: 1.1 of 80.3 GiB."""
    return fmt.of_gib(report.disk_needed_gib, report.disk_free_gib)


def finding_list(findings: Sequence[Finding]) -> Markup:
    """Return findings with their level and a button for the suggested value."""
    return el("div.finds", [_finding(finding) for finding in findings])


def _finding(finding: Finding, keep: Markup | None = None) -> Markup:
    # The text of a changed setting does not repeat its label.
    label = f"{specs_by_name()[finding.where].label}: " if finding.code == "plan-changed" else ""
    text, tone = f"{label}{finding.what}", LEVELS[finding.level]
    fix = _fix(finding)
    button = el("span.does", fix, keep) if keep else fix
    return components.finding(finding.level, tone, text, finding.remedy, button=button)


def _fix(finding: Finding) -> Markup | None:
    if finding.suggested is None or not finding.where:
        return None
    value = value_text(finding.suggested)
    return el(
        "button.btn.s",
        f"Use {value}",
        type="button",
        data_action="fix",
        data_setting=finding.where,
        data_value=value,
        id=f"fix-{finding.code}",
        aria_label=f"Use {value} for {finding.where}",
    )


def problem_list(problems: Sequence[Problem]) -> Markup:
    """Return problems that do not belong to one setting."""
    items = [
        components.finding("error", "bad", _sentence(problem), with_labels(problem.remedy))
        for problem in problems
    ]
    return el("div.finds", items)


def _sentence(problem: Problem) -> str:
    """Return what is wrong; a setting of a source is named by its label."""
    name = problem.where.rpartition(".")[2]
    is_of_source = problem.where.startswith("data.") and name in source_specs()
    label = LABELS.get(name, source_specs()[name].label) if is_of_source else ""
    return f"{label}: {with_labels(problem.what)}" if label else with_labels(problem.sentence)


def why_not(checked: PreflightResult, missing: Sequence[str], others: Sequence[Problem]) -> str:
    """Return why training cannot start; empty if it can."""
    if "dataset" in missing:
        return "Choose your data first."
    if "model_name" in missing:
        return "Choose a model first."
    if checked.errors:
        first = (others or checked.problems)[0]
        setting = specs_by_name().get(first.where)
        count = len(checked.problems) - 1
        more = f" And {fmt.plural(count, 'more error')}." if count else ""
        text = f"{setting.label}: {first.what}" if setting else _sentence(first)
        return f"{text}{more}"
    if checked.report is not None and checked.report.blocked:
        findings = checked.report.findings
        return next(finding.what for finding in findings if finding.level == "blocker")
    return ""


def is_of_data(finding: Finding, summary: DatasetSummary | None) -> bool:
    """Return whether a finding is about the data, and so is shown in the data card."""
    return summary is not None and any(other.code == finding.code for other in summary.findings)
