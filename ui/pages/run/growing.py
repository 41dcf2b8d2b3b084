"""The page of a growing model: its stack of layers, its stages, and what growing gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from modelforge.config.plan.growing import GrowthPlan
from modelforge.config.plan.make import Plan
from modelforge.runs.event_types import FinishedEvent
from modelforge.runs.progress.growth import Growth, GrowthStage, growth_of
from modelforge.runs.progress.whole_run import run_steps, whole_run
from modelforge.runs.timeline import Timeline
from modelforge.services.evaluations.growth_comparisons import GrowthComparison
from ui.contract import ChartBand, ChartData
from ui.html import format as fmt
from ui.html.charts import Line, chart
from ui.html.components import card, chart_card
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.run.growth_gain import gain_card
from ui.pages.train.new_model.cards import count
from ui.pages.train.plan_panel import memory_groups

# Kinds of layers in the picture, with what is said beside them.
TEXTS = {
    "frozen": ("frozen", "no gradients, no optimizer state"),
    "adapter": ("adapter", "frozen; a LoRA adapter learns"),
    "now": ("training now", "all weights"),
    "done": ("trained last", "all weights"),
    "later": ("to come", "added in a later stage"),
}
STATES = {
    "done": ("done", "good"),
    "now": ("now", "acc"),
    "stopped": ("stopped", "warn"),
    "to-come": ("to come", ""),
}
# The key of the chart over all stages, and its title.
BY_STAGE, EVAL_TITLE = "by-stage", "Evaluation loss by stage"
EVAL_NOTE = (
    "The loss on the evaluation rows over the steps of all stages; lower is better. New layers "
    "change nothing at first, so each stage begins where the one before has ended. Warning sign: "
    "it does not fall in a stage (the model needs no more layers, or the learning rate of new "
    "layers is too low)."
)
# A row of the picture draws at most so many layers.
MOST_DRAWN = 24


@dataclass(frozen=True)
class StageRow:
    """A row of the table of stages; `parts` are colors and percents of the bar of its memory."""

    title: str
    text: str
    loss: str
    memory: str = ""
    measured: str = ""
    parts: Sequence[tuple[str, float]] = ()
    state: str = ""
    tone: str = ""
    row: str = ""


def parts(
    timeline: Timeline,
    plan: Plan,
    report: Mapping[str, Any] | None = None,
    *,
    is_over: bool = False,
    comparisons: Sequence[GrowthComparison] = (),
    run: str = "",
) -> Markup:
    """Return the cards of a growing model; empty for other runs.

    `report` is the stored preflight report, `run` the id of the run.
    """
    growth = growth_of(plan, timeline, report, is_over=is_over)
    if growth is None:
        return EMPTY
    picture = card("The model", render("growing", "stack", *_stack(growth)), _layers(growth))
    table = render("growing", "stages", _rows(growth), _legend(growth), _at_once(growth))
    both = render("growing", "two", picture, card("Stages", table))
    return join([gain_card(growth, comparisons, run), both])


def bands(timeline: Timeline, plan: Plan) -> list[ChartBand]:
    """Return the stages as parts of the steps of the whole run; empty for other runs.

    Stages to come have their planned steps; those of a run that has ended are left out.
    """
    growth = growth_of(plan, timeline)
    found: list[ChartBand] = []
    for stage in growth.stages if growth else ():
        is_ended = stage.state in ("done", "stopped")
        steps = stage.step if is_ended else stage.steps
        if not steps or (stage.state == "to-come" and timeline.ending is not None):
            break
        name = f"stage {stage.number}" if stage.new else "joint"
        found.append(ChartBand(name, (found[-1].end if found else 0) + steps))
    return found


def eval_card(timeline: Timeline) -> Markup:
    """Return the card of the evaluation losses of all stages; empty where there are none."""
    whole = whole_run(timeline)
    if whole is timeline.stage or not whole.eval["loss"]:
        return EMPTY
    return chart_card(BY_STAGE, EVAL_TITLE, EVAL_NOTE)


def eval_chart(timeline: Timeline, bands: Sequence[ChartBand]) -> ChartData:
    """Return the evaluation losses over the steps of all stages, the current one in a color."""
    points = list(whole_run(timeline).eval["loss"])
    number = timeline.stage.number
    begin = bands[number - 2].end if 1 < number <= len(bands) + 1 else 0
    place = sum(step <= begin for step, _ in points) if begin else 0
    if timeline.ending is not None:
        place = len(points)
    # The newest stage begins at the last evaluation of the one before.
    lines = [
        Line("finished stages", points[:place], dots=True),
        Line(f"stage {number}", points[max(0, place - 1) :], "ember", dots=True),
    ]
    if place == len(points):
        lines = [Line("evaluation", points, dots=True)]
    return chart(EVAL_TITLE, lines, x_end=bands[-1].end, bands=bands)


def headline(timeline: Timeline, plan: Plan) -> list[tuple[str, str, str]]:
    """Return the most important numbers: name, value and unit."""
    growth, now = growth_of(plan, timeline), timeline.stage
    numbers = [
        ("Loss", fmt.number(now.last("loss"), 2), ""),
        ("Evaluation loss", fmt.number(whole_run(timeline).last_eval("loss"), 3), ""),
    ]
    if growth is None:
        return numbers
    stage = _newest(growth)
    last = growth.stages[-1].layers
    of = "" if stage.layers == last else f"of {last}"
    numbers.append(("Layers", f"{stage.layers}", of))
    if stage.trained_parameters:
        numbers.append(("Trained parameters", count(stage.trained_parameters), ""))
    return numbers


def head_texts(planned: GrowthPlan) -> list[str]:
    """Return how many layers there are before and after, and the stages."""
    stages = planned.stages
    texts = [fmt.plural(len(stages), "stage")] if stages else []
    if stages and planned.base_layers:
        texts.insert(0, f"{planned.base_layers} layers → {stages[-1].layers}")
    return texts


def line(timeline: Timeline) -> str:
    """Return the stage that is trained, such as `stage 2 of 4`; empty before the first."""
    if not timeline.stage_count:
        return ""
    return f"stage {timeline.stage.number} of {timeline.stage_count}"


def share(timeline: Timeline, plan: Plan) -> float | None:
    """Return the share of the steps of all stages that are done, from 0 to 1."""
    if isinstance(timeline.ending, FinishedEvent):
        return 1.0
    steps = run_steps(plan, timeline)
    if not steps.total or not timeline.stage_count:
        return None
    return min(1.0, steps.done / steps.total)


def _newest(growth: Growth) -> GrowthStage:
    """Return the stage that trains, or was trained last; the first before the start."""
    begun = [stage for stage in growth.stages if stage.state != "to-come"]
    return begun[-1] if begun else growth.stages[0]


def _layers(growth: Growth) -> str:
    first, last = growth.stages[0], growth.stages[-1].layers
    base = first.layers - len(first.new)
    return f"{fmt.plural(base, 'layer')}, {last} at the end" if base else fmt.plural(last, "layer")


def _stack(growth: Growth) -> tuple[list[tuple[str, int, str, str]], bool]:
    """Return the groups of layers from the top: kind, layers that are drawn, title and text.

    The second value is whether the embeddings train in the newest stage.
    """
    stage = _newest(growth)
    kinds = [_kind(layer, stage) for layer in range(stage.layers)]
    numbered = list(enumerate(kinds, 1))
    groups = [
        _group(kind, [number for number, _ in members], stage)
        for kind, members in groupby(reversed(numbered), key=lambda item: item[1])
    ]
    later = growth.stages[-1].layers - stage.layers
    to_come = [("later", min(later, MOST_DRAWN), f"{fmt.plural(later, 'layer')} to come",
                TEXTS["later"][1])] if later else []  # fmt: skip
    is_front = bool(stage.new) and stage.new[0] == 0 and len(stage.new) < stage.layers
    # Embeddings and head train with all layers alone: in a joint stage, and in the first of all.
    trains_ends = not stage.new or len(stage.new) == stage.layers
    return ([*groups, *to_come] if is_front else [*to_come, *groups]), trains_ends


def _kind(layer: int, stage: GrowthStage) -> str:
    if layer in stage.new or (not stage.new and layer in stage.trained):
        return "done" if stage.state in ("done", "stopped") else "now"
    adapted = any(layer in layers for layers in stage.adapters.values())
    return "adapter" if adapted else "frozen"


def _group(kind: str, numbers: Sequence[int], stage: GrowthStage) -> tuple[str, int, str, str]:
    low, high = min(numbers), max(numbers)
    span = f"{low}" if low == high else f"{low}, {high}" if high - low == 1 else f"{low} to {high}"
    title, text = TEXTS[kind]
    if kind in ("now", "done") and stage.trained_parameters:
        text = f"{text}, {count(stage.trained_parameters)} parameters with adapters"
    return kind, min(len(numbers), MOST_DRAWN), f"{span} · {title}", text


def _rows(growth: Growth) -> list[StageRow]:
    """Return the rows of the table: the model before growing, and the stages."""
    first = growth.stages[0]
    base = first.layers - len(first.new)
    rows = []
    if base:
        loss = fmt.number(growth.base_loss, 3)
        rows.append(StageRow("Before", fmt.plural(base, "layer"), loss))
    most = max(growth.at_once_gib or 0.0, *(stage.memory_gib or 0.0 for stage in growth.stages))
    for stage in growth.stages:
        state, tone = STATES[stage.state]
        is_over = stage.state in ("done", "stopped")
        row = StageRow(
            title=f"{stage.number} · {_added(stage)}",
            text=_length(stage),
            loss=fmt.number(stage.eval_loss, 3),
            memory=fmt.gib(stage.memory_gib) if stage.memory_gib else "",
            measured=fmt.gib(stage.peak_gib) if is_over and stage.peak_gib else "",
            parts=[(each, 100 * gib / most) for each, _, gib in memory_groups(stage.memory_parts)]
            if most and stage.memory_parts
            else [],
            state=state,
            tone=tone,
            row={"now": "on", "to-come": "off"}.get(stage.state, ""),
        )
        rows.append(row)
    return rows


def _length(stage: GrowthStage) -> str:
    """Return the steps of a stage, with the time that it takes or has taken."""
    if not stage.steps:
        return ""
    if stage.state in ("now", "stopped"):
        return f"{stage.step:,} of {fmt.plural(stage.steps, 'step')}"
    seconds = stage.seconds if stage.state == "done" else stage.planned_seconds
    steps = fmt.plural(stage.step if stage.state == "done" else stage.steps, "step")
    if not seconds:
        return steps
    return f"{steps}, {'' if stage.state == 'done' else 'about '}{fmt.duration(seconds)}"


def _legend(growth: Growth) -> list[tuple[str, str]]:
    """Return color and name of the parts of the memory; empty where none are known."""
    known = [stage.memory_parts for stage in growth.stages if stage.memory_parts]
    return [(tone, name) for tone, name, _ in memory_groups(known[0])] if known else []


def _at_once(growth: Growth) -> str:
    """Return what all new layers in one stage would take; empty where that is unknown."""
    if not growth.at_once_gib:
        return ""
    layers = fmt.plural(sum(len(stage.new) for stage in growth.stages), "layer")
    return f"All {layers} at once would need {fmt.gib(growth.at_once_gib)}."


def _added(stage: GrowthStage) -> str:
    if not stage.new:
        return "all layers together"
    low, high = stage.new[0] + 1, stage.new[-1] + 1
    if low == high:
        return f"layer {low}"
    return f"layers {low}{',' if high - low == 1 else ' to'} {high}"
