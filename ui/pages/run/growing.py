"""The page of a growing model: its stack of layers, its stages, and what growing gave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from modelforge.config.plan.growing import GrowthPlan
from modelforge.config.plan.make import Plan
from modelforge.runs.progress.growth import Growth, GrowthStage, growth_of
from modelforge.runs.timeline import Timeline
from ui.html import format as fmt
from ui.html.components import card
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.train.new_model.cards import count

# Kinds of layers in the picture, with what is said beside them.
TEXTS = {
    "frozen": ("frozen", "no gradients, no optimizer state"),
    "adapter": ("adapter", "frozen; a LoRA adapter learns"),
    "now": ("training now", "all weights"),
    "done": ("trained last", "all weights"),
    "later": ("to come", "added in a later stage"),
}
STATES = {"done": ("done", "good"), "now": ("now", "acc"), "to-come": ("to come", "")}
# A row of the picture draws at most so many layers.
MOST_DRAWN = 24


def parts(timeline: Timeline, plan: Plan) -> Markup:
    """Return the cards of a growing model; empty for other runs."""
    growth = growth_of(plan, timeline)
    if growth is None:
        return EMPTY
    picture = card("The model", render("growing", "stack", *_stack(growth)), _layers(growth))
    table = render("growing", "stages", _rows(growth))
    both = render("growing", "two", picture, card("Stages", table))
    return join([_gave(growth), both])


def headline(timeline: Timeline, plan: Plan) -> list[tuple[str, str, str]]:
    """Return the most important numbers: name, value and unit."""
    growth, now = growth_of(plan, timeline), timeline.stage
    numbers = [
        ("Loss", fmt.number(now.last("loss"), 2), ""),
        ("Evaluation loss", fmt.number(now.last_eval("loss"), 3), ""),
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
    if not plan.total_steps or not timeline.stage_count:
        return None
    before = sum(stage.total_steps or 0 for stage in timeline.stages[:-1])
    return min(1.0, (before + timeline.stage.step) / plan.total_steps)


def _newest(growth: Growth) -> GrowthStage:
    """Return the stage that trains, or was trained last; the first before the start."""
    begun = [stage for stage in growth.stages if stage.state != "to-come"]
    return begun[-1] if begun else growth.stages[0]


def _layers(growth: Growth) -> str:
    first, last = growth.stages[0], growth.stages[-1].layers
    base = first.layers - len(first.new)
    return f"{fmt.plural(base, 'layer')}, {last} at the end" if base else fmt.plural(last, "layer")


def _gave(growth: Growth) -> Markup:
    """Return the card with what growing gave; empty before it is measured."""
    if growth.gain is None:
        return EMPTY
    after = f"after stage {growth.gain_stage} of {len(growth.stages)}"
    return card("What growing gave", render("growing", "gave", *_sentence(growth)), after)


def _sentence(growth: Growth) -> tuple[str, str, str]:
    """Return how much lower the evaluation loss is, its interval, and what that means."""
    gain, low, high = growth.gain or 0.0, growth.gain_low, growth.gain_high
    number = fmt.number(abs(gain), 3)
    changed = f"{'lowered' if gain >= 0 else 'raised'} the evaluation loss by {number}"
    if low is None or high is None:
        return changed, "", "Too few evaluation rows for an interval."
    ends = f"95 % interval {_signed(low)} to {_signed(high)}"
    if low > 0:
        return changed, ends, ""
    if high < 0:
        return changed, ends, "The model was better before."
    return changed, ends, "The difference may be chance."


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


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
        return "now" if stage.state != "done" else "done"
    adapted = any(layer in layers for layers in stage.adapters.values())
    return "adapter" if adapted else "frozen"


def _group(kind: str, numbers: Sequence[int], stage: GrowthStage) -> tuple[str, int, str, str]:
    low, high = min(numbers), max(numbers)
    span = f"{low}" if low == high else f"{low}, {high}" if high - low == 1 else f"{low} to {high}"
    title, text = TEXTS[kind]
    if kind in ("now", "done") and stage.trained_parameters:
        text = f"{text}, {count(stage.trained_parameters)} parameters with adapters"
    return kind, min(len(numbers), MOST_DRAWN), f"{span} · {title}", text


def _rows(growth: Growth) -> list[tuple[str, str, str, str, str, str]]:
    """Return the rows of the table: title, text, loss, state, its tone, and the row's tone."""
    first = growth.stages[0]
    base = first.layers - len(first.new)
    rows = []
    if base:
        loss = fmt.number(growth.base_loss, 3)
        rows.append(("Before", fmt.plural(base, "layer"), loss, "", "", ""))
    for stage in growth.stages:
        state, tone = STATES[stage.state]
        steps = fmt.plural(stage.steps, "step") if stage.steps else ""
        if stage.state == "now" and stage.steps:
            steps = f"{stage.step:,} of {stage.steps:,} steps"
        title = f"{stage.number} · {_added(stage)}"
        row = {"now": "on", "to-come": "off"}.get(stage.state, "")
        rows.append((title, steps, fmt.number(stage.eval_loss, 3), state, tone, row))
    return rows


def _added(stage: GrowthStage) -> str:
    if not stage.new:
        return "all layers together"
    low, high = stage.new[0] + 1, stage.new[-1] + 1
    if low == high:
        return f"layer {low}"
    return f"layers {low}{',' if high - low == 1 else ' to'} {high}"
