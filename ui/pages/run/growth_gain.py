"""What growing a model gave: against the model before, LoRA, and all new layers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelforge.config.plan.growth_comparison import Way
from modelforge.runs.progress.growth import Growth
from modelforge.services.evaluations.growth_comparisons import GrowthComparison, range_text, signed
from ui.html import format as fmt
from ui.html.components import card
from ui.html.intervals import Dot, scale_of
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render

TITLES = {Way.LORA: "than LoRA, same FLOPs", Way.AT_ONCE: "than all {} at once, same FLOPs"}


@dataclass(frozen=True)
class Row:
    """A line of the table: how much lower the evaluation loss is than another one.

    `dot` is the difference with its interval. Without one there is a text, a link to the run that
    is compared, or the button that starts it.
    """

    title: str
    dot: Dot | None = None
    value: str = "–"
    text: str = ""
    run: str = ""
    way: str = ""


def gain_card(growth: Growth, comparisons: Sequence[GrowthComparison], run: str) -> Markup:
    """Return the card with what growing gave; empty before it is measured."""
    if growth.gain is None:
        return EMPTY
    layers = sum(len(stage.new) for stage in growth.stages)
    after = f"after stage {growth.gain_stage} of {len(growth.stages)}"
    sentences = [each.sentence for each in comparisons if each.sentence]
    rows = [_against_before(growth), *(_against(each, layers) for each in comparisons)]
    dots = [row.dot for row in rows if row.dot is not None]
    scale = scale_of([*dots, Dot("No difference", "base", 0.0)])
    content = render(
        "growing", "gave", _sentence(growth), sentences, rows, scale, scale.place(0.0), run
    )
    return card("What growing gave", content, after)


def _sentence(growth: Growth) -> tuple[str, str, str, str]:
    """Return how much lower the evaluation loss is: text, number, interval and meaning."""
    gain, low, high = growth.gain or 0.0, growth.gain_low, growth.gain_high
    changed = f"{'lowered' if gain >= 0 else 'raised'} the evaluation loss by"
    number = fmt.number(abs(gain), 3)
    if low is None or high is None:
        meaning = "Too few evaluation rows for an interval."
        return f"The new layers {changed}", number, "", meaning
    # Of a loss that has risen, the interval is that of the rise.
    ends = range_text(low, high) if gain >= 0 else range_text(-high, -low)
    if low > 0:
        meaning = ""
    else:
        meaning = "The model was better before." if high < 0 else "The difference may be chance."
    return f"The new layers {changed}", number, f"95 % interval {ends}", meaning


def _against_before(growth: Growth) -> Row:
    interval = _pair(growth.gain_low, growth.gain_high)
    dot = Dot("than before growing", "tuned", growth.gain or 0.0, interval)
    return Row(dot.label, dot, signed(dot.value))


def _against(each: GrowthComparison, layers: int) -> Row:
    title = TITLES[each.way].format(fmt.plural(layers, "layer"))
    if each.lower_by is not None:
        dot = Dot(title, "tuned", each.lower_by, _pair(each.low, each.high))
        return Row(title, dot, signed(each.lower_by), run=each.run or "")
    if each.why_not:
        return Row(title, text=each.why_not, run=each.run or "")
    if each.state is not None:
        return Row(title, text=fmt.STATES[str(each.state)][0], run=each.run or "")
    return Row(title, way=str(each.way))


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)
