"""Start from nothing on the Train page: the dial, its curve, and the cards of the new model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.config.pretraining.peak_flops import peak_flops, share_of_peak
from modelforge.config.pretraining.settings import shape_of
from modelforge.config.pretraining.shape import ModelShape
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.preflight.report import Report
from modelforge.services.layers import FORM, LayerStack
from modelforge.services.preflight import PreflightResult
from modelforge.services.pretraining.dial import DEPTHS, MEASURED, Dial, DialPoint
from modelforge.units import human_number
from ui.contract import Reply
from ui.html import format as fmt
from ui.html.gradio_page import ServerFunction
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages.train.form import Entered
from ui.pages.train.guide import SAMPLE
from ui.pages.train.new_model import cards as model_cards
from ui.pages.train.new_model import text as text_card
from ui.pages.train.new_model.cards import scaled
from ui.pages.train.plan_panel import time_text

ENABLED, DEPTH = "pretraining.enabled", "pretraining.depth"
# The settings that the cards of the new model ask for.
ON_CARDS = frozenset(
    {ENABLED, DEPTH, "pretraining.arch", *model_cards.MEASURES}
    | {model_cards.TOKENIZER, model_cards.VOCABULARY}
)
# Settings of other trainings: the length and the batch of this one are in tokens.
OF_ROWS = frozenset({"num_train_epochs", "gradient_accumulation_steps"})
MINUTE, HOUR, DAY = 60, 3600, 86_400
# Seconds → their name on the axis of the curve.
TICKS = {
    1: "1 s", 10: "10 s", MINUTE: "1 min", 10 * MINUTE: "10 min", HOUR: "1 h", 8 * HOUR: "8 h",
    2 * DAY: "2 days", 14 * DAY: "2 weeks", 90 * DAY: "3 months", 730 * DAY: "2 years",
    7300 * DAY: "20 years",
}  # fmt: skip
# Largest depth → what a model of this size writes, by what nanochat's users report.
ABILITIES = (
    (3, "words and short phrases of your text. It has little grammar"),
    (7, "sentences, but loses their subject after a few words. It knows almost no facts"),
    (13, "whole sentences that stay on their subject. It knows few facts and cannot calculate"),
    (21, "paragraphs that hang together. It knows common facts and is often wrong"),
    (99, "longer texts and knows many facts, with errors"),
)
# The context before it is planned, which decides on no size that is shown.
USUAL_CONTEXT = 2048
BASES = {
    "estimated": "Times are estimates; a trial run measures them.",
    "earlier_runs": "Times are estimates, corrected by earlier runs on this computer.",
    "trial_run": "Times come from a trial run.",
    "last_run": "Times come from the last run with these settings.",
}


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions that draw the curve of the dial and take text that is at hand."""

    def show_dial(request: Any) -> Reply:
        stack = forge.layers.stack(Entered.read(request))
        layers = _with_some_text(stack)
        checked = forge.preflight.check(*layers)
        dial = forge.dial.read(*layers)
        return Reply(parts={"dial-curve": curve(dial, checked), "dial-help": _help(dial, checked)})

    return [show_dial, *text_card.functions(forge)]


def is_on(values: Mapping[str, str]) -> bool:
    """Return whether a form starts from nothing."""
    return values.get(ENABLED) == "true"


def parts(
    forge: Forge, found: LayerStack, checked: PreflightResult, values: Mapping[str, str]
) -> dict[str, Markup]:
    """Return the parts of the cards; none unless the form starts from nothing."""
    if not is_on(values):
        return {}
    has_text = bool(values["dataset"].strip())
    if not has_text:
        checked = forge.preflight.check(*_with_some_text(found))
    shape, planned = _shape(checked), checked.plan.pretraining if checked.plan else None
    text = text_card.parts(checked, planned, has_text=has_text)
    length = model_cards.horizon(planned, shape, has_text=has_text)
    borrowed = model_cards.borrowed(forge, values, shape)
    return text | length | {
        "dial-depth": join([values.get(DEPTH, "")]),
        "dial-numbers": _numbers(checked),
        "sum-tokenizer": join([model_cards.tokenizer_text(values)]),
        "tokenizer": model_cards.tokenizers(shape, values, borrowed),
        "sum-horizon": join([model_cards.horizon_text(planned)]),
        "sum-shape": join([model_cards.shape_text(shape)]),
        "nothing-next": render("pretrain", "next", _first_step_text(checked.report)),
    }  # fmt: skip


def choices(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values of choices of the cards that stand for several settings, by their names."""
    return {"vocabulary": model_cards.chosen_vocabulary(values)} if is_on(values) else {}


def _with_some_text(found: LayerStack) -> Sequence[Layer]:
    """Return the layers of a form; where it has no text, with that of a sample.

    Size, FLOPs, memory and time hardly depend on the text.
    """
    if found.texts["dataset"].strip():
        return found.layers
    return [*found.layers, Layer(FORM, {"dataset": SAMPLE})]


def card_states(errors: Mapping[str, str]) -> dict[str, str]:
    """Return the states of the cards of the new model, by the settings that are wrong."""
    cards = {
        "tokenizer": {model_cards.VOCABULARY, model_cards.TOKENIZER},
        "horizon": set(model_cards.MEASURES),
        "shape": {"pretraining.arch"},
    }
    return {name: "wrong" if names & errors.keys() else "done" for name, names in cards.items()}


def _shape(checked: PreflightResult) -> ModelShape | None:
    """Return the sizes of the model that is made; None while the settings are not valid."""
    if checked.resolved is None:
        return None
    config, plan = checked.resolved.config, checked.plan
    if plan is not None and plan.pretraining is not None:
        return plan.pretraining.shape
    context = (plan.max_length if plan else None) or config.max_seq_length
    return shape_of(config.pretraining, context=context or USUAL_CONTEXT)


def _numbers(checked: PreflightResult) -> Markup:
    report = checked.report or Report()
    parameters = checked.facts.parameters if checked.facts else None
    length, unit = _split_duration(report.seconds)
    return render(
        "run",
        "numbers",
        [
            ("Parameters", *scaled(parameters)),
            ("Training tokens", *scaled(report.tokens)),
            ("Compute, FLOPs", "–" if report.flops is None else human_number(report.flops), ""),
            ("Memory", fmt.number(report.memory_total_gib, 1), "GiB"),
            ("Time", length, unit),
        ],
    )


def _split_duration(seconds: float | None) -> tuple[str, str]:
    if seconds is None:
        return fmt.UNKNOWN, ""
    for unit, scale in (("days", 2 * DAY), ("h", HOUR), ("min", MINUTE)):
        if seconds >= scale:
            amount = seconds / (DAY if unit == "days" else scale)
            return (f"{amount:,.0f}" if amount >= 10 else f"{amount:.1f}"), unit
    return f"{seconds:.0f}", "s"


def curve(dial: Dial, checked: PreflightResult) -> Markup:
    """Return the curve of time against depth, with the chosen depth; a hint without times."""
    known = [(each.depth, each.seconds) for each in dial.points if each.seconds]
    if len(known) < 2:
        return el("p.no-chart", "The curve appears once there is text and all settings are valid.")
    seconds = [value for _, value in known]
    low, high = min(seconds), max(seconds)
    low, high = (low / 1.2, high * 1.2)
    line = [(_left(depth), _top(value, low, high)) for depth, value in known]
    ticks = [(_top(tick, low, high), name) for tick, name in TICKS.items() if low <= tick <= high]
    depths = [(_left(depth), depth) for depth in DEPTHS]
    return render("pretrain", "curve", line, ticks, depths, *_marks(dial, checked, low, high))


def _marks(
    dial: Dial, checked: PreflightResult, low: float, high: float
) -> tuple[tuple[float, float, str] | None, float | None, str]:
    """Return the point of the chosen depth, where depths do not fit, and the curve in words."""
    report, config = checked.report, checked.resolved.config if checked.resolved else None
    point = None
    depth = config.pretraining.depth if config else 0
    if report and report.seconds and DEPTHS[0] <= depth <= DEPTHS[-1]:
        top = min(max(_top(report.seconds, low, high), 0.0), 100.0)
        point = (_left(depth), top, fmt.duration(report.seconds))
    too_large = [each.depth for each in dial.points if each.fits is False]
    shade = None
    if too_large:
        shade = _left(max(DEPTHS[0], min(too_large) - 1))
    return point, shade, _spoken(dial.points, too_large)


def _spoken(points: Sequence[DialPoint], too_large: Sequence[int]) -> str:
    times = [
        f"depth {each.depth} takes {fmt.estimated_duration(each.seconds)}"
        for each in points
        if each.seconds
    ]
    end = f"; from depth {min(too_large)} on it does not fit into memory" if too_large else ""
    return f"Time against depth: {', '.join(times)}{end}."


def _left(depth: float) -> float:
    """Return where a depth is, in percent from the left."""
    return round(100 * (depth - DEPTHS[0]) / (DEPTHS[-1] - DEPTHS[0]), 2)


def _top(seconds: float, low: float, high: float) -> float:
    """Return where a duration is on a logarithmic axis, in percent from the top."""
    return round(100 * (1 - math.log(seconds / low) / math.log(high / low)), 2)


def _help(dial: Dial, checked: PreflightResult) -> Markup:
    """Return what a model of this depth can do, and how long larger ones take."""
    config, report = checked.resolved.config if checked.resolved else None, checked.report
    if config is None:
        return EMPTY
    depth = config.pretraining.depth
    ability = next((text for most, text in ABILITIES if depth <= most), ABILITIES[-1][1])
    deeper = [each for each in dial.points if each.depth > depth and each.seconds][:2]
    more = ", ".join(
        f"depth {each.depth} takes {fmt.estimated_duration(each.seconds)}" for each in deeper
    )
    more = f" {more[0].upper()}{more[1:]}." if more else ""
    basis = BASES.get(str(report.seconds_basis), "") if report else ""
    if share := _share_of_peak(checked):
        basis = f"{basis.removesuffix('.')}: {100 * share:.0f} % of the GPU's peak (MFU)."
    return join([f"With enough text, a model of this size writes {ability}.{more} {basis}".strip()])


def _share_of_peak(checked: PreflightResult) -> float | None:
    """Return the share of the peak of the GPU that was measured; None where it is unknown."""
    report, plan, machine = checked.report, checked.plan, checked.machine
    if report is None or plan is None or machine is None or plan.device != "cuda":
        return None
    if report.seconds_basis not in MEASURED or not report.flops or not report.seconds:
        return None
    name = next((gpu.name for gpu in machine.gpus), "")
    return share_of_peak(report.flops, report.seconds, peak_flops(name))


def _first_step_text(report: Report | None) -> str:
    return time_text(report) if report and report.seconds else ""
