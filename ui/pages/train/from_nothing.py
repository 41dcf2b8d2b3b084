"""Start from nothing on the Train page: the dial, its curve, and the cards of the new model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.config.fields import specs_by_name
from modelforge.config.plan.pretraining import PretrainingPlan
from modelforge.config.pretraining.settings import shape_of
from modelforge.config.pretraining.shape import Architecture, ModelShape
from modelforge.forge import Forge
from modelforge.preflight.report import Report
from modelforge.services.preflight import PreflightResult
from modelforge.services.pretraining.dial import DEPTHS, Dial, DialPoint
from modelforge.units import human_number
from ui.contract import Reply
from ui.html import format as fmt
from ui.html.gradio_page import ServerFunction
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages.train.form import Entered
from ui.pages.train.plan_panel import time_text

ENABLED, DEPTH = "pretraining.enabled", "pretraining.depth"
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
VOCABULARIES = (4096, 8192, 16384, 32768)
SHAPES = (
    (Architecture.NANOCHAT, "nanochat", "As in nanochat. Export to GGUF is not possible."),
    (Architecture.LLAMA, "Llama", "Runs everywhere: Ollama, llama.cpp, vLLM."),
    (Architecture.QWEN3, "Qwen3", "Like Llama, with normed queries; sliding windows possible."),
)
BASES = {
    "estimated": "Times are estimates; a trial run measures them.",
    "earlier_runs": "Times are estimates, corrected by earlier runs on this computer.",
    "trial_run": "Times come from a trial run.",
    "last_run": "Times come from the last run with these settings.",
}


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the function that draws the curve of the dial."""

    def show_dial(request: Any) -> Reply:
        found = forge.layers.stack(Entered.read(request))
        checked = forge.preflight.check(*found.layers)
        dial = forge.dial.read(*found.layers)
        return Reply(parts={"dial-curve": curve(dial, checked), "dial-help": _help(dial, checked)})

    return [show_dial]


def parts(checked: PreflightResult, values: Mapping[str, str]) -> dict[str, Markup]:
    """Return the parts of the cards; none unless the form starts from nothing."""
    if values.get(ENABLED) != "true":
        return {}
    shape, planned = _shape(checked), checked.plan.pretraining if checked.plan else None
    text = {"sum-data": join([_text_summary(checked, planned)])} if planned else {}
    return text | {
        "dial-depth": join([values.get(DEPTH, "")]),
        "dial-numbers": _numbers(checked),
        "sum-tokenizer": join([_tokenizer_text(values)]),
        "tokenizer": _tokenizers(shape, values),
        "sum-horizon": join([_horizon_text(planned)]),
        "horizon-others": join([_others_text(planned)]),
        "horizon-steps": join([_steps_text(checked.report)]),
        "horizon-flops": join([_flops_text(checked.report, shape)]),
        "horizon-ratio": join([_ratio_text(checked.report, shape)]),
        "sum-shape": join([_shape_text(shape)]),
        "nothing-next": render("pretrain", "next", _first_step_text(checked.report)),
    }


def card_states(errors: Mapping[str, str]) -> dict[str, str]:
    """Return the states of the cards of the new model, by the settings that are wrong."""
    cards = {
        "tokenizer": {"pretraining.vocab_size", "pretraining.tokenizer"},
        "horizon": {
            "max_steps", "pretraining.target_flops", "pretraining.target_param_data_ratio",
        },
        "shape": {"pretraining.arch", DEPTH},
    }  # fmt: skip
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
            ("Parameters", *_scaled(parameters)),
            ("Training tokens", *_scaled(report.tokens)),
            ("Compute, FLOPs", "–" if report.flops is None else human_number(report.flops), ""),
            ("Memory", fmt.number(report.memory_total_gib, 1), "GiB"),
            ("Time", length, unit),
        ],
    )


def _scaled(value: float | None) -> tuple[str, str]:
    """Return a count in thousands, millions or billions, with its unit: 70.1 and M."""
    if value is None:
        return fmt.UNKNOWN, ""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            amount = value / scale
            return (f"{amount:.0f}" if amount >= 100 else f"{amount:.3g}"), unit
    return fmt.number(value), ""


def _count(value: float) -> str:
    """Return a count in words of its scale: 70.1 M."""
    return " ".join(_scaled(value)).strip()


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
    return join([f"With enough text, a model of this size writes {ability}.{more} {basis}".strip()])


def _tokenizer_text(values: Mapping[str, str]) -> str:
    source = values.get("pretraining.tokenizer", "")
    if source != "train":
        return f"borrowed from {fmt.model_name(source)}"
    return f"trained on your text · {_entries(values.get('pretraining.vocab_size', ''))}"


def _entries(text: str) -> str:
    """Return the size of a vocabulary: 8k."""
    return f"{round(int(text) / 1024)}k" if text.isdigit() and int(text) >= 1024 else text


def _tokenizers(shape: ModelShape | None, values: Mapping[str, str]) -> Markup:
    """Return the vocabularies to choose from, with their part of the model."""
    chosen = values.get("pretraining.vocab_size", "")
    is_trained = values.get("pretraining.tokenizer") == "train"
    sizes = sorted({*VOCABULARIES, *([int(chosen)] if chosen.isdigit() else [])})
    rows = [
        (size, _entries(str(size)), *_embedding(shape, size), is_trained and str(size) == chosen)
        for size in sizes
    ]
    return render("pretrain", "tokenizers", rows)


def _embedding(shape: ModelShape | None, size: int) -> tuple[str, str]:
    """Return the weights of embedding and head for a vocabulary, and their share of the model."""
    if shape is None:
        return fmt.UNKNOWN, fmt.UNKNOWN
    weights = size * shape.width * (1 if shape.is_tied else 2)
    layers = shape.block_parameters + shape.norm_parameters
    return _count(weights), fmt.percent(100 * weights / (weights + layers))


def _text_summary(checked: PreflightResult, planned: PretrainingPlan) -> str:
    """Return the name of the text, and whether it has enough tokens."""
    name = checked.summary.name if checked.summary else ""
    if planned.text_tokens is None:
        return name
    has, needed = _count(planned.text_tokens), _count(planned.tokens)
    if planned.tokens <= planned.text_tokens:
        return f"{name} · enough: about {has} tokens, {needed} needed"
    times = planned.tokens / planned.text_tokens
    return f"{name} · about {has} tokens, {needed} needed: read {times:,.1f} times"


def _horizon_text(planned: PretrainingPlan | None) -> str:
    """Return the measure that rules, with its value."""
    if planned is None:
        return ""
    values = {
        "max_steps": fmt.plural(planned.steps, "step"),
        "pretraining.target_flops": f"{human_number(planned.flops)} FLOPs",
        "pretraining.target_param_data_ratio": f"{planned.ratio:.3g} tokens per parameter",
    }
    return f"ruled by {values[planned.measure]}"


def _others_text(planned: PretrainingPlan | None) -> str:
    """Return the steps that the measures which do not rule would give."""
    if planned is None or not planned.other_steps:
        return ""
    specs = specs_by_name()
    texts = [
        f"{specs[name].label.lower().replace('flops', 'FLOPs')} alone would give "
        f"{fmt.plural(steps, 'step')}"
        for name, steps in planned.other_steps.items()
    ]
    text = ", ".join(texts)
    return f"{text[0].upper()}{text[1:]}."


def _steps_text(report: Report | None) -> str:
    if report is None or not report.updates or report.tokens is None:
        return ""
    each = round(report.tokens / report.updates)
    return f"Here {fmt.number(report.updates)}, of {fmt.plural(each, 'token')} each."


def _flops_text(report: Report | None, shape: ModelShape | None) -> str:
    if report is None or report.flops is None or shape is None:
        return ""
    return f"Here {human_number(report.flops)}, {_count(shape.flops_per_token)} per token."


def _ratio_text(report: Report | None, shape: ModelShape | None) -> str:
    if report is None or report.tokens is None or shape is None:
        return "Usual: 10 to 20."
    ratio = report.tokens / shape.scaling_parameters
    counted = _count(shape.scaling_parameters)
    return f"Here {ratio:.3g}, of the {counted} in layers and head. Usual: 10 to 20."


def _shape_text(shape: ModelShape | None) -> str:
    if shape is None:
        return ""
    title = next(title for name, title, _ in SHAPES if name is shape.architecture)
    heads = fmt.plural(shape.heads, "head")
    return f"{title} · {fmt.plural(shape.layers, 'layer')}, {shape.width:,} wide, {heads}"


def _first_step_text(report: Report | None) -> str:
    return time_text(report) if report and report.seconds else ""
