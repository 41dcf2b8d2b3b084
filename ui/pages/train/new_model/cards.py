"""Cards of a new model on the Train page: its tokenizer, the length of the training, its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from modelforge.config.fields import specs_by_name
from modelforge.config.plan.pretraining import PretrainingPlan, token_characters
from modelforge.config.pretraining.shape import Architecture, ModelShape
from modelforge.config.schema.pretraining import TRAIN
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.units import human_number
from ui.html import format as fmt
from ui.html.markup import Markup, el, join
from ui.html.templates import render

STEPS, FLOPS = "max_steps", "pretraining.target_flops"
RATIO = "pretraining.target_param_data_ratio"
TOKENIZER, VOCABULARY = "pretraining.tokenizer", "pretraining.vocab_size"
# The measures of a length, in the order in which they rule, with the ends of their parts' names.
MEASURES = {STEPS: "steps", FLOPS: "flops", RATIO: "ratio"}
VOCABULARIES = (4096, 8192, 16384, 32768)
USUAL_VOCABULARY = 8192
STARTER = "starter"
SHAPES = (
    (Architecture.NANOCHAT, "nanochat", "As in nanochat. Export to GGUF is not possible."),
    (Architecture.LLAMA, "Llama", "Runs everywhere: Ollama, llama.cpp, vLLM."),
    (Architecture.QWEN3, "Qwen3", "Like Llama, with normed queries; sliding windows possible."),
)


def count(value: float) -> str:
    """Return a count in words of its scale: 70.1 M."""
    return " ".join(scaled(value)).strip()


def scaled(value: float | None) -> tuple[str, str]:
    """Return a count in thousands, millions or billions, with its unit: 70.1 and M."""
    if value is None:
        return fmt.UNKNOWN, ""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            amount = value / scale
            return (f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"), unit
    return fmt.number(value), ""


def tokenizer_text(values: Mapping[str, str]) -> str:
    """Return the summary of the tokenizer."""
    source = values.get(TOKENIZER, "")
    if source != TRAIN:
        return f"borrowed from {fmt.model_name(source)}"
    return f"trained on your text · {_entries(values.get(VOCABULARY, ''))}"


def chosen_vocabulary(values: Mapping[str, str]) -> str:
    """Return the value of the choice among the vocabularies: a size, or a model."""
    source = values.get(TOKENIZER, "")
    return values.get(VOCABULARY, "") if source == TRAIN else source


def tokenizers(
    shape: ModelShape | None, values: Mapping[str, str], borrowed: Mapping[str, int]
) -> Markup:
    """Return the vocabularies to choose from, with their part of the model.

    `borrowed` are the sizes of the vocabularies of models on this computer, by name.
    """
    chosen, size = chosen_vocabulary(values), values.get(VOCABULARY, "")
    sizes = sorted({*VOCABULARIES, *([int(size)] if size.isdigit() and int(size) > 1 else [])})
    own = [
        _vocabulary(shape, str(each), f"{_entries(str(each))} tokens", each, chosen,
                    {VOCABULARY: str(each), TOKENIZER: TRAIN})
        for each in sizes
    ]  # fmt: skip
    others = [
        _vocabulary(shape, name, f"{fmt.model_name(name)}, {_entries(str(each))}", each, chosen,
                    {TOKENIZER: name})
        for name, each in borrowed.items()
    ]  # fmt: skip
    return render("pretrain", "tokenizers", own, others, str(USUAL_VOCABULARY))


def _vocabulary(
    shape: ModelShape | None,
    value: str,
    title: str,
    size: int,
    chosen: str,
    settings: Mapping[str, str],
) -> tuple[str, str, str, str, str, str, bool]:
    """Return value, title, bytes per token, weights, share, settings and whether it is chosen."""
    weights, share = _embedding(shape, size)
    each = f"{token_characters(size):.1f}"
    return value, title, each, weights, share, json.dumps(settings), value == chosen


def _entries(text: str) -> str:
    """Return the size of a vocabulary: 8k."""
    return f"{round(int(text) / 1024)}k" if text.isdigit() and int(text) >= 1024 else text


def _embedding(shape: ModelShape | None, size: int) -> tuple[str, str]:
    """Return the weights of embedding and head for a vocabulary, and their share of the model."""
    if shape is None:
        return fmt.UNKNOWN, fmt.UNKNOWN
    weights = size * shape.width * (1 if shape.is_tied else 2)
    layers = shape.block_parameters + shape.norm_parameters
    return count(weights), fmt.percent(100 * weights / (weights + layers))


def borrowed(
    forge: Forge, values: Mapping[str, str], shape: ModelShape | None = None
) -> dict[str, int]:
    """Return the sizes of the vocabularies of the starter and of the model that is chosen."""
    chosen = values.get(TOKENIZER, "")
    sizes = {chosen: shape.vocab_size} if shape and chosen not in (TRAIN, "") else {}
    with suppress(ForgeError):
        if size := forge.preflight.model(STARTER).vocab:
            sizes.setdefault(STARTER, size)
    return sizes


def horizon_text(planned: PretrainingPlan | None) -> str:
    """Return the measure that rules, with its value."""
    if planned is None:
        return ""
    values = {
        STEPS: fmt.plural(planned.steps, "step"),
        FLOPS: f"{human_number(planned.flops)} FLOPs",
        RATIO: f"{planned.ratio:.3g} tokens per parameter",
    }
    return values[planned.measure]


def horizon(
    planned: PretrainingPlan | None, shape: ModelShape | None, *, has_text: bool
) -> dict[str, Markup]:
    """Return what each measure follows from, and which one rules."""
    parts = {"horizon-others": join([_others_text(planned)])}
    texts = _measure_texts(planned, shape, has_text=has_text)
    for name, end in MEASURES.items():
        value, text = texts[name]
        parts[f"horizon-{end}"] = el("span", text, data_follows=value or None)
        parts[f"rules-{end}"] = _rule(planned, name)
    return parts


def _rule(planned: PretrainingPlan | None, name: str) -> Markup:
    if planned is None:
        return join([])
    if name == planned.measure:
        return el("span.rules", "this one rules")
    return join(["overruled" if name in planned.other_steps else "follows"])


def _measure_texts(
    planned: PretrainingPlan | None, shape: ModelShape | None, *, has_text: bool
) -> dict[str, tuple[str, str]]:
    """Return the value that each measure comes to, and a line below it."""
    if planned is None or shape is None:
        return {STEPS: ("", ""), FLOPS: ("", ""), RATIO: ("", "Usual: 10 to 20.")}
    each = f"{planned.batch_tokens:,} tokens each."
    counted = count(shape.scaling_parameters)
    # The tokens of a step depend on the text.
    steps = (fmt.number(planned.steps), each) if has_text else ("", "")
    return {
        STEPS: steps,
        FLOPS: (human_number(planned.flops), f"{count(shape.flops_per_token)} per token."),
        RATIO: (f"{planned.ratio:.3g}", f"Usual: 10 to 20, of the {counted} of layers and head."),
    }


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


def shape_text(shape: ModelShape | None) -> str:
    """Return the shape in a line: Llama · 10 layers, 640 wide, 5 heads."""
    if shape is None:
        return ""
    heads = fmt.plural(shape.heads, "head")
    layers = fmt.plural(shape.layers, "layer")
    return f"{shape_title(shape.architecture)} · {layers}, {shape.width:,} wide, {heads}"


def shape_title(architecture: str) -> str:
    """Return the title of an architecture."""
    return next((title for name, title, _ in SHAPES if name == architecture), architecture)
