"""Checks of training from nothing: whether the text suffices for context, vocabulary and length."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.plan.pretraining import MAX_EPOCHS
from modelforge.config.schema.pretraining import MIN_VOCABULARY
from modelforge.errors import Finding, blocker, caution
from modelforge.preflight.context import RunContext

# UTF-8 bytes of a character at most, each of which may be a token.
MAX_BYTES = 4
# Below so many characters for each token of the vocabulary, many tokens are hardly ever trained.
CHARS_PER_TOKEN = 40
# A shorter context teaches hardly anything.
LEAST_CONTEXT = 16


def text_too_short(context: RunContext) -> Iterator[Finding]:
    """Refuse a text with fewer tokens than one window, and warn where that is likely."""
    planned, characters = context.plan.pretraining, _characters(context)
    if planned is None or characters is None:
        return
    needed, estimate = planned.shape.context + 1, round(planned.text_tokens or 0.0)
    if estimate >= needed:
        return
    is_certain = MAX_BYTES * characters < needed
    better = 2 ** max(0, estimate.bit_length() - 2)
    is_usable = LEAST_CONTEXT <= better < planned.shape.context
    yield (blocker if is_certain else caution)(
        "text-too-short",
        f"The text has about {estimate:,} tokens; one context of {planned.shape.context:,} needs "
        f"{needed:,}.",
        f"Add text, or set max_seq_length to {better:,}." if is_usable else "Add text.",
        "max_seq_length",
        better if is_usable else None,
    )


def vocabulary_too_large(context: RunContext) -> Iterator[Finding]:
    """Refuse a vocabulary that the text cannot fill, and warn of one that it hardly trains."""
    planned, characters = context.plan.pretraining, _characters(context)
    group = context.config.pretraining
    if planned is None or characters is None or not group.trains_tokenizer:
        return
    size = group.vocab_size
    # Each merge joins at least two bytes of the text.
    most = MIN_VOCABULARY + MAX_BYTES * characters // 2
    better = max(512, 2 ** (max(1, int(characters // CHARS_PER_TOKEN)).bit_length() - 1))
    if better > most:
        better = MIN_VOCABULARY
    if size <= characters / CHARS_PER_TOKEN or size <= better:
        return
    is_impossible = size > most
    each = characters / size
    what = f"The text has {characters:,.0f} characters, {each:,.1f} for each of {size:,} tokens"
    yield (blocker if is_impossible else caution)(
        "vocabulary-too-large",
        f"{what}; it can fill at most {most:,.0f}."
        if is_impossible
        else f"{what}; with fewer than {CHARS_PER_TOKEN} many are hardly ever trained.",
        f"Set the vocabulary to {better:,}, or add text.",
        "pretraining.vocab_size",
        better,
    )


def batch_not_whole(context: RunContext) -> Iterator[Finding]:
    """Refuse tokens of a step that are not a whole number of windows."""
    planned, config = context.plan.pretraining, context.config
    tokens = config.pretraining.total_batch_tokens
    if planned is None or tokens <= 0:
        return
    rows, length = config.per_device_train_batch_size, context.plan.max_length
    unit = rows * length
    if tokens % unit == 0:
        return
    lower, upper = tokens // unit * unit, (tokens // unit + 1) * unit
    near = f"{upper:,}" if lower == 0 else f"{lower:,} or {upper:,}"
    yield blocker(
        "batch-not-whole",
        f"{tokens:,} tokens are not a multiple of {unit:,}: {rows} windows of {length:,} tokens "
        "are computed at once.",
        f"Take {near}, or -1, which chooses them.",
        "pretraining.total_batch_tokens",
        upper,
    )


def text_repeated(context: RunContext) -> Iterator[Finding]:
    """Warn of a text that is repeated more often than helps."""
    planned = context.plan.pretraining
    if planned is None or planned.epochs is None or planned.epochs <= MAX_EPOCHS:
        return
    better = max(1, int(planned.steps * MAX_EPOCHS / planned.epochs))
    yield caution(
        "text-repeated",
        f"The text has about {planned.text_tokens:,.0f} tokens and is read "
        f"{planned.epochs:,.{int(planned.epochs < 10)}f} times; beyond {MAX_EPOCHS:g} times "
        "repetitions help little.",
        f"Add text, choose a smaller depth, or set max_steps to {better:,}.",
        "max_steps",
        better,
    )


def head_frozen(context: RunContext) -> Iterator[Finding]:
    """Warn of borrowed embeddings that are the head too, which then is not trained."""
    group = context.config.pretraining
    if group.enabled and group.freeze_embeddings and group.tie_embeddings:
        yield caution(
            "head-frozen",
            "The borrowed embeddings are the output head too, which is then not trained; where "
            "they were no head in the other model the loss stays high.",
            "Set pretraining.tie_embeddings to false.",
            "pretraining.tie_embeddings",
            False,
        )


def _characters(context: RunContext) -> float | None:
    summary = context.summary
    return summary.mean_chars * summary.rows if summary else None
