"""The preflight report as one self-contained HTML page: findings, fit, time, data and settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from modelforge import __version__
from modelforge.config.fields import specs_by_name
from modelforge.config.resolve import flatten
from modelforge.data.sources.load import LoadedSource
from modelforge.pages import render_page
from modelforge.preflight.report import Report
from modelforge.preflight.suggest.fit import is_tight
from modelforge.services.preflight import PreflightResult
from modelforge.units import human_bytes, human_duration, human_gib, human_number, planned_duration

Pairs = list[tuple[str, str]]
LEVELS = {"blocker": "bad", "caution": "warn", "note": ""}
BASES = {
    "formula": "Estimated from the shape of the model.",
    "traced": "Traced through the code of the model.",
    "trial_run": "Measured in a trial run.",
}
TIME_BASES = {
    "estimated": "estimated",
    "earlier_runs": "estimated, corrected by earlier runs on this computer",
    "trial_run": "measured in a trial run",
    "last_run": "measured in the last run with these settings",
}
# Longer values are cut.
MAX_VALUE = 400
# Parts of the plan that the page shows in another place.
_SHOWN_ELSEWHERE = frozenset({"changes", "model_path", "model_revision"})


def preflight_page(checked: PreflightResult, created: float) -> str:
    """Return a check as one HTML file without scripts and external resources.

    `created` is in Unix seconds. It has no rows of the data.
    """
    report = checked.report or Report()
    state, tone = _state(checked)
    return render_page(
        "preflight_report.html",
        title=_title(checked),
        state=state,
        state_tone=tone,
        version=__version__,
        date=datetime.fromtimestamp(created).astimezone().strftime("%Y-%m-%d %H:%M"),
        findings=list(_findings(checked)),
        memory=_memory(report),
        fits=[
            (way.words, human_gib(way.gib) + ("" if way.fits else ", does not fit"), way.costs)
            for way in report.ways
        ],
        time=_time(report),
        changes=_changes(checked),
        plan=_plan(checked),
        data=list(_data(checked)),
        model=_model(checked),
        chosen=_chosen(checked),
        defaults=_defaults(checked),
        machine=_machine(checked),
    )


def _title(checked: PreflightResult) -> str:
    if checked.resolved is None:
        return "Preflight report"
    config = checked.resolved.config
    name = config.logging.run_name
    sources = ", ".join(Path(source.path).name or source.path for source in config.sources())
    about = f"{config.strategy} of {config.model_name} on {sources}"
    return f"Preflight report: {f'{name}, ' if name else ''}{_cut(about)}"


def _state(checked: PreflightResult) -> tuple[str, str]:
    if checked.ready:
        return "Ready to train.", "good"
    return "Not ready: see the findings.", "bad"


def _findings(checked: PreflightResult) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield level, tone, setting, text and remedy: problems first, then the findings."""
    for problem in checked.problems:
        yield "error", "bad", problem.where, problem.sentence, problem.remedy
    order = list(LEVELS)
    found = checked.report.findings if checked.report else []
    for one in sorted(found, key=lambda finding: order.index(finding.level)):
        yield one.level, LEVELS[one.level], one.where, one.what, one.remedy


def _memory(report: Report) -> dict[str, Any] | None:
    """Return the parts of the memory with their share of the bar in percent."""
    total, free = report.memory_total_gib, report.memory_available_gib
    estimate = sum(part.gib for part in report.memory)
    if total is None or not estimate:
        return None
    whole, scale = max(total, free or 0.0), total / estimate
    parts = [
        (part.name, f"{part.gib * scale:.2f} GiB", 100 * part.gib * scale / whole)
        for part in report.memory
        if part.gib > 0
    ]
    if free is None:
        return {"parts": parts, "text": human_gib(total), "tone": "", "basis": _basis(report)}
    text, tone = "fits", "good"
    if total > free:
        text, tone = "does not fit", "bad"
    elif is_tight(total, free):
        text, tone = "fits, with little to spare", "warn"
    text = f"{human_gib(total)} of {human_gib(free)} free: {text}"
    return {"parts": parts, "text": text, "tone": tone, "basis": _basis(report)}


def _basis(report: Report) -> str:
    return BASES.get(report.memory_basis or "", "Estimated.")


def _time(report: Report) -> Pairs:
    rows: Pairs = []
    if report.seconds is not None:
        times = report.seconds, report.seconds_basis, report.seconds_longest
        how = TIME_BASES.get(report.seconds_basis or "", "estimated")
        rows.append(("Time", f"{planned_duration(*times, report.evaluation_seconds)} ({how})"))
    if report.updates is not None:
        rows.append(("Steps", f"{report.updates:,}"))
    if report.reward_updates:
        rows.append(("Steps of the reward model before", f"{report.reward_updates:,}"))
    if report.tokens_per_s:
        rows.append(("Tokens per second", human_number(report.tokens_per_s)))
    if report.last_run:
        took = human_duration(report.last_run["run_seconds"])
        rows.append(("Last run", f"{took} for {report.last_run['run_steps']:,} steps"))
    if report.disk_needed_gib is not None:
        free = "" if report.disk_free_gib is None else f" of {human_gib(report.disk_free_gib)} free"
        rows.append(("Disk space", f"{human_gib(report.disk_needed_gib)}{free}"))
    return rows


def _changes(checked: PreflightResult) -> list[tuple[str, str, str, str]]:
    changes = checked.plan.changes if checked.plan else []
    return [
        (_label(one.where), _text(one.configured), _text(one.used), one.reason) for one in changes
    ]


def _plan(checked: PreflightResult) -> Pairs:
    if checked.plan is None:
        return []
    values = checked.plan.as_dict()
    shown = {name: value for name, value in values.items() if name not in _SHOWN_ELSEWHERE}
    if checked.report and checked.report.quantized_bits is not None:
        bits = checked.report.quantized_bits, checked.report.weight_bits or 0.0
        shown["bits per weight"] = f"{bits[0]:.3g} where quantized, {bits[1]:.3g} on average"
    return [
        (name.replace("_", " "), _text(value)) for name, value in shown.items() if value is not None
    ]


def _data(checked: PreflightResult) -> Iterator[tuple[str, ...]]:
    if checked.data is None:
        return
    for use, sources in (
        ("training", checked.data.sources),
        ("evaluation", checked.data.validation),
    ):
        for source in sources:
            yield _source(source, use)


def _source(source: LoadedSource, use: str) -> tuple[str, ...]:
    summary = source.summary
    rows = f"{source.rows:,}"
    if source.rows != summary.rows:
        rows += f" of {summary.rows:,}"
    if summary.skipped:
        rows += f", {summary.skipped:,} not usable"
    size = human_bytes(summary.size_bytes)
    return _cut(source.source.path), use, rows, summary.mapping.reason, size, summary.sha256


def _model(checked: PreflightResult) -> Pairs:
    facts = checked.facts
    if facts is None:
        return []
    rows: list[tuple[str, Any]] = [
        ("Name", facts.name),
        ("Folder or name on the Hub", facts.path),
        ("Revision", facts.revision),
        ("Architecture", facts.architecture),
        ("Parameters", f"{facts.parameters:,}" if facts.parameters else None),
        ("Layers", facts.layers),
        ("Context length", f"{facts.context:,} tokens" if facts.context else None),
        ("Weight files", human_gib(facts.weights_gib) if facts.weights_gib else None),
        ("Stored as", facts.quantization),
        ("Licence", facts.licence),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _values(checked: PreflightResult) -> dict[str, Any]:
    if checked.resolved is None:
        return {}
    return flatten(checked.resolved.config.model_dump(mode="json"))


def _chosen(checked: PreflightResult) -> list[tuple[str, str, str]]:
    """Return the settings that differ from their default, with the layer that they came from."""
    specs = specs_by_name()
    origins = checked.resolved.origins if checked.resolved else {}
    return [
        (_label(name), _text(value), origins.get(name, ""))
        for name, value in _values(checked).items()
        if name in specs and value != specs[name].default
    ]


def _defaults(checked: PreflightResult) -> Pairs:
    specs = specs_by_name()
    return [
        (_label(name), _text(value))
        for name, value in _values(checked).items()
        if name in specs and value == specs[name].default
    ]


def _machine(checked: PreflightResult) -> Pairs:
    machine = checked.machine
    if machine is None:
        return []
    gpus = [
        f"{gpu.name}, {human_gib(gpu.total_gib)}" if gpu.total_gib else gpu.name
        for gpu in machine.gpus
    ]
    memory = human_gib(machine.ram_total_gib) if machine.ram_total_gib else ""
    rows = [
        ("System", machine.system),
        ("Python", machine.python),
        ("Processor", f"{machine.cpu}, {machine.cores} cores" if machine.cores else machine.cpu),
        ("Memory", memory),
        ("GPU", "; ".join(gpus) or machine.gpu_note),
    ]
    return [(name, value) for name, value in rows if value]


def _label(name: str) -> str:
    spec = specs_by_name().get(name)
    return f"{spec.label} ({name})" if spec else name


def _text(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return human_number(value)
    return _cut(value if isinstance(value, str) else _json(value))


def _json(value: Any) -> str:
    is_empty = isinstance(value, Sequence | dict) and not value
    return "–" if is_empty else json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str) -> str:
    more = len(text) - MAX_VALUE
    return text if more <= 0 else f"{text[:MAX_VALUE]}… ({more:,} more characters)"
