"""The page of a training from nothing: bits per byte, what it writes, and the next step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from modelforge.config.plan.make import Plan
from modelforge.runs.samples import SampleTime, sample_times
from modelforge.runs.timeline import Stage, Timeline
from modelforge.runs.view import RunView
from ui.html import format as fmt
from ui.html.components import card
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render

METHOD = "pretraining"
# What the card shows; the tab of the samples has all.
MOST_PROMPTS, MOST_TIMES = 3, 3
MAX_CHARS = 160
# The settings of the fine-tuning that teaches a new model to chat, beside its name.
TO_CHAT = {
    "task": "text-generation",
    "strategy": "sft",
    "adapter.enabled": "false",
    "dataset": "sample:general",
}


def is_from_nothing(plan: Plan) -> bool:
    """Return whether a run trains a new model."""
    return str(plan.method) == METHOD


def headline(timeline: Timeline) -> list[tuple[str, str, str]]:
    """Return the most important numbers: name, value and unit."""
    now = timeline.stage
    measured = now.last_eval("bits_per_byte")
    bits = now.last("bits_per_byte") if measured is None else measured
    loss = fmt.number(now.last_eval("loss"), 2)
    numbers = [("Bits per byte", fmt.number(bits, 3), ""), ("Evaluation loss", loss, "")]
    return numbers + utilization(now)


def utilization(stage: Stage) -> list[tuple[str, str, str]]:
    """Return the share of the peak of the GPU (MFU); nothing where it is unknown."""
    share = stage.last("mfu")
    return [] if share is None else [("MFU", fmt.number(100 * share), "%")]


def writes(timeline: Timeline, plan: Plan) -> Markup:
    """Return what the model writes after some prompts, at up to three steps; empty without any."""
    times = [time for time in sample_times(timeline) if time.step] or sample_times(timeline)
    if not is_from_nothing(plan) or not times:
        return EMPTY
    shown = _thinned(times)
    prompts = [answer.prompt for answer in shown[-1].answers]
    rows = [(prompt, [_text_of(time, prompt) for time in shown]) for prompt in prompts]
    steps = [f"step {time.step:,}" for time in shown]
    table = render("pretrain", "writes", steps, rows[:MOST_PROMPTS])
    count = f"{min(MOST_PROMPTS, len(rows))} of {fmt.plural(len(rows), 'prompt')}"
    return card("What it writes", table, count if len(rows) > MOST_PROMPTS else None)


def _thinned(times: Sequence[SampleTime]) -> list[SampleTime]:
    """Return the first time, one in the middle and the last."""
    if len(times) <= MOST_TIMES:
        return list(times)
    return [times[0], times[len(times) // 2], times[-1]]


def _text_of(time: SampleTime, prompt: str) -> str:
    text = next((answer.text for answer in time.answers if answer.prompt == prompt), "")
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} …"


def next_step(run: RunView, folder: Path) -> Markup:
    """Return the card that prepares the fine-tuning of a new model; empty for other runs."""
    if not is_from_nothing(run.plan) or not run.state.is_over:
        return EMPTY
    settings = json.dumps({**TO_CHAT, "model_name": str(folder)})
    return render("pretrain", "teach", run.id, settings)
