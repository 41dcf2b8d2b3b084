"""The page of a training from nothing: bits per byte, what it writes, CORE, and the next step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.plan.pretraining import PretrainingPlan
from modelforge.preflight.report import Report
from modelforge.runs.event_types import StepEvent
from modelforge.runs.samples import SampleTime, sample_times
from modelforge.runs.timeline import Stage, Timeline
from modelforge.runs.view import RunView
from modelforge.units import human_number
from ui.html import format as fmt
from ui.html.components import card
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages.train.new_model.cards import count, shape_title

METHOD = "pretraining"
# What the cards show before the tab of the samples and the list of all tasks.
MOST_PROMPTS, MOST_TIMES, MOST_TASKS = 3, 3, 8
MAX_CHARS = 160
# Passes over the text that differ from one by less are one.
ONCE = 0.05
# The settings of the fine-tuning that teaches a new model to chat, beside its name.
TO_CHAT = {
    "task": "text-generation",
    "strategy": "sft",
    "adapter.enabled": "false",
    "dataset": "sample:general",
    # A new model is far from what it shall say: usual rates and one pass hardly change it.
    "learning_rate": "0.001",
    "num_train_epochs": "10",
}


def is_from_nothing(plan: Plan) -> bool:
    """Return whether a run trains a new model."""
    return str(plan.method) == METHOD


def headline(timeline: Timeline) -> list[tuple[str, str, str]]:
    """Return the most important numbers: name, value and unit."""
    now = timeline.stage
    measured = now.last_eval("bits_per_byte")
    bits = now.last("bits_per_byte") if measured is None else measured
    numbers = [("Bits per byte", fmt.number(bits, 3))]
    if timeline.core_scores:
        numbers.append(("CORE score", fmt.number(timeline.core_scores[-1].score, 3)))
    else:
        numbers.append(("Evaluation loss", fmt.number(now.last_eval("loss"), 2)))
    return [(name, value, "") for name, value in numbers] + utilization(now)


def utilization(stage: Stage) -> list[tuple[str, str, str]]:
    """Return the share of the peak of the GPU (MFU); nothing where it is unknown."""
    share = stage.last("mfu")
    return [] if share is None else [("MFU", fmt.number(100 * share), "%")]


def head_texts(planned: PretrainingPlan) -> list[str]:
    """Return shape, size and length of a new model."""
    shape = planned.shape
    return [
        f"{shape_title(shape.architecture)} shape, {fmt.plural(shape.layers, 'layer')}",
        f"{count(shape.parameters)} parameters",
        f"{count(planned.tokens)} tokens",
    ]


def progress_rows(timeline: Timeline, planned: PretrainingPlan) -> list[tuple[str, str]]:
    """Return what has been computed and read so far against the plan: names and texts."""
    newest, plan = timeline.newest(StepEvent), timeline.stage.plan
    flops, tokens = (newest.flops_so_far, newest.tokens_so_far) if newest else (None, None)
    whole = human_number(planned.flops)
    is_whole = tokens is None or tokens >= planned.tokens
    computed = whole if is_whole or not flops else f"{human_number(flops)} of {whole}"
    rows = [("Compute", f"{computed} FLOPs")]
    if tokens:
        of = "" if is_whole else f" of {count(planned.tokens)}"
        rows.append(("Tokens", f"{count(tokens)}{of}"))
    if tokens and plan and plan.all_tokens and plan.bytes_per_token:
        size = fmt.size(plan.all_tokens * plan.bytes_per_token)
        passes = tokens / plan.all_tokens
        often = "once" if abs(passes - 1) < ONCE else f"{passes:,.2g} times"
        rows.append(("Text read", f"{size}, {often}"))
    return rows


def writes(timeline: Timeline, plan: Plan, *, samples: str = "") -> Markup:
    """Return what the model writes after some prompts, at up to three steps; empty without any.

    `samples` is the address of all prompts and steps.
    """
    times = [time for time in sample_times(timeline) if time.step] or sample_times(timeline)
    if not is_from_nothing(plan) or not times:
        return EMPTY
    columns = _thinned(times)
    prompts = [answer.prompt for answer in columns[-1].answers]
    rows = [(prompt, [_text_of(time, prompt) for time in columns]) for prompt in prompts]
    steps = [f"step {time.step:,}" if time.step else "before training" for time in columns]
    table = render("pretrain", "writes", steps, rows[:MOST_PROMPTS])
    shown = f"{min(MOST_PROMPTS, len(rows))} of {fmt.plural(len(rows), 'prompt')}"
    link = join([" · ", el("a", "all", href=samples, id="all-samples")]) if samples else None
    summary = join([shown, link]) if len(rows) > MOST_PROMPTS or link else None
    return card("What it writes", table, summary)


def _thinned(times: Sequence[SampleTime]) -> list[SampleTime]:
    """Return the first time, one in the middle and the last."""
    if len(times) <= MOST_TIMES:
        return list(times)
    return [times[0], times[len(times) // 2], times[-1]]


def _text_of(time: SampleTime, prompt: str) -> str:
    text = next((answer.text for answer in time.answers if answer.prompt == prompt), "")
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} …"


def core(timeline: Timeline) -> Markup:
    """Return the newest score on CORE with its tasks, the best first; empty without one."""
    if not timeline.core_scores:
        return EMPTY
    event = timeline.core_scores[-1]
    tasks = sorted(event.tasks, key=lambda task: -float(task.get("score") or 0.0))
    rows = [_task(task) for task in tasks]
    interval = ""
    if event.low is not None and event.high is not None:
        interval = f", 95 % interval {event.low:.3f} to {event.high:.3f}"
    text = (
        f"0 is guessing, 1 is all correct. The mean of {fmt.plural(len(rows), 'task')} at step "
        f"{event.step:,} is {event.score:.3f}{interval}."
    )
    body = render("pretrain", "core", text, rows[:MOST_TASKS], rows[MOST_TASKS:])
    return card("CORE", body, fmt.plural(len(rows), "task"))


def _task(task: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Return name, score, start and width of the bar in percent, and the tone of a task."""
    score = float(task.get("score") or 0.0)
    # The axis goes from -1/3 to 1, so that zero is at a quarter.
    length = 75 * min(1.0, abs(score))
    start = 25.0 if score >= 0 else max(0.0, 25.0 - length)
    width = min(length, 75.0 if score >= 0 else 25.0)
    tone = "c1" if score >= 0 else "c5"
    number = f"{score:.3f}".replace("-", "−")
    return str(task.get("name", "")), number, f"{start:.1f}", f"{width:.1f}", tone


def chat_settings(folder: Path) -> dict[str, str]:
    """Return the settings of the run that teaches the new model in a folder to chat."""
    return {**TO_CHAT, "model_name": str(folder)}


def next_step(run: RunView, folder: Path, report: Report | None = None) -> Markup:
    """Return the card that prepares the fine-tuning of a new model; empty for other runs.

    `report` is that of the fine-tuning.
    """
    if not is_from_nothing(run.plan) or not run.state.is_over:
        return EMPTY
    settings = json.dumps(chat_settings(folder))
    # A run that was stopped can be resumed first.
    is_main = str(run.state) == "finished"
    return render("pretrain", "teach", run.id, settings, is_main, _costs(report))


def _costs(report: Report | None) -> list[tuple[str, str]]:
    """Return time, memory and data of the fine-tuning."""
    if report is None:
        return []
    memory = fmt.of_gib(report.memory_total_gib, report.memory_available_gib)
    times = report.seconds, report.seconds_basis, report.seconds_longest
    return [
        ("Time", fmt.planned_duration(*times)),
        ("Memory", memory),
        ("Data", f"{fmt.dataset(TO_CHAT['dataset'])}, {fmt.plural(report.updates or 0, 'step')}"),
    ]
