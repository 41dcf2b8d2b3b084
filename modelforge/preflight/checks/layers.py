"""Checks of the weights of the model, and of the layers that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from modelforge.config.rules.weights import split_names
from modelforge.errors import Finding, blocker, caution
from modelforge.preflight.context import RunContext

TARGETS, TRAINED_WHOLE = "adapter.target_modules", "adapter.modules_to_save"
ALL_LINEAR = "all-linear"
# Layers that training adds to the model, or that share the weights of the embeddings.
_HEADS = ("lm_head", "qa_outputs", "score", "classifier")
_SHOWN = 8
# Below this share of tokens with the same id, a tokenizer of another model is warned of.
SHARED_TOKENS = 0.9


def unknown_layers(context: RunContext) -> Iterator[Finding]:
    """Report names of layers that the model does not have."""
    adapter, model = context.config.adapter, context.model
    if context.plan.trains != "adapter" or model is None or not model.shapes:
        return
    layers = _layers(context)
    modules = {path for name in model.shapes for path in _modules(name)} | set(_HEADS)
    for where, text, known in (
        (TARGETS, adapter.target_modules.strip(), layers | {"lm_head"}),
        (TRAINED_WHOLE, adapter.modules_to_save.strip(), modules),
    ):
        names = split_names(text) if text and text != ALL_LINEAR else []
        unknown = [name for name in names if not _matches(name, known)]
        if unknown:
            yield _unknown(context, where, names, unknown, known)


def tokens_without_rows(context: RunContext) -> Iterator[Finding]:
    """Refuse a tokenizer with more tokens than the embeddings have rows."""
    model = context.model
    rows = model.embedding_rows if model else None
    if model is None or rows is None or model.tokens is None or model.tokens <= rows:
        return
    yield blocker(
        "tokens-without-rows",
        f"The tokenizer of {model.tokenizer or model.name} has {model.tokens:,} tokens, but the "
        f"embeddings have {rows:,} rows: tokens from {rows:,} on cannot be read.",
        "Enlarge the embeddings with resize_token_embeddings and save the model, or use the "
        "tokenizer that belongs to it.",
        "model.tokenizer" if model.tokenizer else "model_name",
    )


def tokenizer_borrowed(context: RunContext) -> Iterator[Finding]:
    """Warn of a tokenizer of another model whose tokens have other ids."""
    model = context.model
    if model is None or model.shared_tokens is None or model.shared_tokens >= SHARED_TOKENS:
        return
    text = (
        f"Only {100 * model.shared_tokens:.0f} % of the tokens of {model.tokenizer} have the same "
        f"id in the tokenizer of {model.name}: the model has to learn the others anew."
    )
    remedy = "Use the tokenizer of the model, or train all weights on much data."
    yield caution("tokenizer-borrowed", text, remedy, "model.tokenizer")


def weights_not_finite(context: RunContext) -> Iterator[Finding]:
    """Refuse weights that contain NaN."""
    model = context.model
    if model is not None and model.broken_tensor:
        yield blocker(
            "weights-not-finite",
            f"The weights of {model.name} contain NaN, in {model.broken_tensor}: nothing can be "
            "learned from them.",
            "Download the model again, or choose another one.",
            "model_name",
        )


def _layers(context: RunContext) -> set[str]:
    """Return the paths of the layers that can have an adapter: those with a matrix."""
    shapes = context.model.shapes if context.model else {}
    matrices = (name for name, shape in shapes.items() if len(shape) > 1)
    return {name.removesuffix(".weight") for name in matrices if name.endswith(".weight")}


def _modules(tensor: str) -> Iterator[str]:
    """Yield the paths of the modules that a tensor is in."""
    parts = tensor.split(".")
    for count in range(1, len(parts)):
        yield ".".join(parts[:count])


def _matches(name: str, paths: set[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for path in paths)


def _unknown(
    context: RunContext, where: str, names: list[str], unknown: list[str], known: set[str]
) -> Finding:
    endings = sorted({path.rsplit(".", 1)[-1] for path in known} - set(_HEADS[1:]))
    endings = [name for name in endings if not name.isdigit()]
    close = [near for name in unknown for near in get_close_matches(name, endings, n=2)]
    found = ", ".join(dict.fromkeys(close or endings[:_SHOWN]))
    kept = [name for name in names if name not in unknown]
    model = context.model.name if context.model else "The model"
    # Transformers stores the experts of a layer in another way than their files do.
    is_certain = not (context.model and context.model.experts)
    suggested = ", ".join(kept) or (ALL_LINEAR if where == TARGETS else "")
    report = blocker if not kept and is_certain else caution
    return report(
        "layers-unknown",
        f"{model} has no {'layer' if len(unknown) == 1 else 'layers'} called "
        f"{', '.join(unknown)}" + ("." if not kept else f"; only {', '.join(kept)} would be used."),
        f"{'Closest' if close else 'It has'}: {found}.",
        where,
        suggested,
    )
