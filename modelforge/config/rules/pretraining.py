"""Rules about training from nothing: the shape, the tokenizer, and what it excludes."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from modelforge.config.pretraining.shape import is_pattern
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.pretraining import MAX_WIDTH, is_model_tag
from modelforge.errors import Problem

ENABLED = "pretraining.enabled"
OFF = "or set pretraining.enabled to false."


@rule(ENABLED, "task", "strategy", "provider", "hardware.engine", "model_name")
def _model_is_made(config: TrainingConfig) -> Iterator[Problem]:
    if not config.pretraining.enabled:
        return
    wanted = {
        "task": (config.task, "text-generation"),
        "strategy": (config.strategy, "sft"),
        "provider": (config.provider, "huggingface"),
        "hardware.engine": (config.hardware.engine, "inprocess"),
    }
    for name, (value, needed) in wanted.items():
        if value != needed:
            yield Problem(
                name,
                f"Training from nothing needs {needed}; {value} is set.",
                f"Choose {needed}, {OFF}",
            )
    if not is_model_tag(config.model_name):
        yield Problem(
            "model_name",
            f"{config.model_name[:80]!r} is a model to train further; training from nothing makes "
            "its own.",
            f"Remove it, {OFF}",
        )


@rule(ENABLED, "adapter.enabled", "adapter.start_from")
def _all_weights_are_trained(config: TrainingConfig) -> Iterator[Problem]:
    if not config.pretraining.enabled:
        return
    if config.adapter.enabled:
        yield Problem(
            "adapter.enabled",
            "Random weights must all be trained; an adapter trains a small part.",
            f"Set it to false, {OFF}",
        )
    if config.adapter.start_from is not None:
        yield Problem(
            "adapter.start_from",
            f"It is {config.adapter.start_from[:60]!r}; a new model has no adapter.",
            f"Remove it, {OFF}",
        )


@rule(ENABLED, "packing", "data.padding_free", "privacy.enabled", "data.shuffle")
def _text_is_cut_into_windows(config: TrainingConfig) -> Iterator[Problem]:
    if not config.pretraining.enabled:
        return
    values = {
        "packing": config.packing,
        "data.padding_free": config.data.padding_free,
        "privacy.enabled": config.privacy.enabled,
    }
    for name, is_set in values.items():
        if is_set:
            yield Problem(
                name,
                "The text is one row of tokens that is cut into windows; there are no rows.",
                f"Set it to false, {OFF}",
            )


@rule(ENABLED, "model.tokenizer", "model.chat_template", "model.rope_type", "model.response_prefix")
def _model_has_no_past(config: TrainingConfig) -> Iterator[Problem]:
    if not config.pretraining.enabled:
        return
    if config.model.tokenizer is not None:
        yield Problem(
            "model.tokenizer",
            f"It is {config.model.tokenizer[:60]!r}, for a model that has a tokenizer.",
            f"Set pretraining.tokenizer in its place, {OFF}",
        )
    if config.model.rope_type != "none":
        yield Problem(
            "model.rope_type",
            f"It is {config.model.rope_type}; a new model has the context that it is given.",
            f"Set max_seq_length, and remove it, {OFF}",
        )


@rule(
    ENABLED,
    *("trainer.target_flops", "trainer.target_tokens", "trainer.fractional_epochs"),
    *("data.records_to_sample", "trainer.resume_from_checkpoint"),
)
def _length_is_in_tokens(config: TrainingConfig) -> Iterator[Problem]:
    if not config.pretraining.enabled:
        return
    values = {
        "trainer.target_flops": config.trainer.target_flops,
        "trainer.target_tokens": config.trainer.target_tokens,
        "trainer.fractional_epochs": config.trainer.fractional_epochs,
        "data.records_to_sample": config.data.records_to_sample,
    }
    for name, value in values.items():
        if value is not None:
            yield Problem(
                name,
                f"{value} is set; the length of a training from nothing is measured otherwise.",
                "Set max_steps, pretraining.target_flops or pretraining.target_param_data_ratio, "
                "and remove it.",
            )


@rule(ENABLED, "max_steps", "pretraining.target_flops", "pretraining.target_param_data_ratio")
def _length_is_given(config: TrainingConfig) -> Iterator[Problem]:
    group = config.pretraining
    values = (config.max_steps, group.target_flops, group.target_param_data_ratio)
    if group.enabled and all(value <= 0 for value in values):
        yield Problem(
            "pretraining.target_param_data_ratio",
            "max_steps, pretraining.target_flops and pretraining.target_param_data_ratio are all "
            "off, so the training has no length.",
            "Set one of them, for instance this one to 10.5.",
        )


@rule(ENABLED, "pretraining.window_pattern", "pretraining.arch")
def _windows_fit_the_architecture(config: TrainingConfig) -> Iterator[Problem]:
    group = config.pretraining
    if not group.enabled:
        return
    if not is_pattern(group.window_pattern):
        yield Problem(
            "pretraining.window_pattern",
            f"{group.window_pattern[:40]!r} has other letters than S and L.",
            "Write for instance L, or SSSL.",
        )
    elif "S" in group.window_pattern and group.arch != "qwen3":
        yield Problem(
            "pretraining.window_pattern",
            f"{group.window_pattern[:40]} has sliding windows, which {group.arch} does not have in "
            "Transformers.",
            "Set it to L, or pretraining.arch to qwen3.",
        )


@rule(
    ENABLED,
    *("pretraining.depth", "pretraining.aspect_ratio", "pretraining.head_dim"),
    *("pretraining.d_model", "pretraining.n_heads", "pretraining.n_kv_heads"),
)
def _heads_divide_the_width(config: TrainingConfig) -> Iterator[Problem]:
    group = config.pretraining
    if not group.enabled:
        return
    width = (
        group.d_model or ceil(group.depth * group.aspect_ratio / group.head_dim) * group.head_dim
    )
    heads = group.n_heads or width // group.head_dim
    if width > MAX_WIDTH:
        yield Problem(
            "pretraining.depth",
            f"Depth {group.depth} × aspect ratio {group.aspect_ratio} is a width of {width:,}.",
            f"Reduce one of them to a width of at most {MAX_WIDTH:,}.",
        )
    if group.n_heads and width % heads:
        yield Problem(
            "pretraining.n_heads",
            f"{heads} heads do not divide the width {width:,}.",
            f"Take {_divisor(width, heads)} heads, or another width.",
        )
        return
    if not group.n_heads and width % group.head_dim:
        yield Problem(
            "pretraining.d_model",
            f"The width {width:,} is not a multiple of {group.head_dim}, the size of a head.",
            f"Take {ceil(width / group.head_dim) * group.head_dim:,}, or set pretraining.head_dim.",
        )
        return
    if (width // heads) % 2:
        yield Problem(
            "pretraining.n_heads" if group.n_heads else "pretraining.head_dim",
            f"A head has {width // heads} numbers; rotary positions need an even number.",
            "Choose another number of heads or size of a head.",
        )
    if group.n_kv_heads and (group.n_kv_heads > heads or heads % group.n_kv_heads):
        yield Problem(
            "pretraining.n_kv_heads",
            f"{group.n_kv_heads} heads of keys and values do not divide {heads} heads.",
            f"Take {_divisor(heads, group.n_kv_heads)}.",
        )


@rule(ENABLED, "pretraining.freeze_embeddings", "pretraining.tokenizer")
def _embeddings_are_borrowed(config: TrainingConfig) -> Iterator[Problem]:
    group = config.pretraining
    if group.enabled and group.freeze_embeddings and group.trains_tokenizer:
        yield Problem(
            "pretraining.freeze_embeddings",
            "It is true, and the tokenizer is trained on your text, so no model has embeddings "
            "for it.",
            "Set it to false, or pretraining.tokenizer to a model.",
        )


@rule(
    ENABLED,
    *("pretraining.total_batch_tokens", "per_device_train_batch_size", "max_seq_length"),
)
def _batch_is_whole(config: TrainingConfig) -> Iterator[Problem]:
    group, context = config.pretraining, config.max_seq_length
    tokens = group.total_batch_tokens
    if not group.enabled or tokens == -1:
        return
    rows = config.per_device_train_batch_size
    if context is None or context <= 0:
        if tokens == 0:
            yield Problem(
                "pretraining.total_batch_tokens", "0 tokens are no step.", "Set -1 to choose them."
            )
        return
    unit = rows * context
    if tokens <= 0 or tokens % unit:
        lower, upper = tokens // unit * unit, (tokens // unit + 1) * unit
        near = f"{upper:,}" if lower == 0 else f"{lower:,} or {upper:,}"
        yield Problem(
            "pretraining.total_batch_tokens",
            f"{tokens:,} tokens are not a multiple of {unit:,}: {rows} windows of {context:,} "
            "tokens are computed at once.",
            f"Take {near}, or -1, which chooses them.",
        )


def _divisor(number: int, near: int) -> int:
    """Return the largest divisor of a number that is at most `near`."""
    return next(each for each in range(min(number, near), 0, -1) if number % each == 0)
