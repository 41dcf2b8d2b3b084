"""Rules about precision, provider, strategy and length."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.methods import facts_of
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem


@rule("fp16", "bf16")
def _single_half_precision(config: TrainingConfig) -> Iterator[Problem]:
    if config.fp16 and config.bf16:
        yield Problem(
            "bf16",
            "fp16 and bf16 are both true, but training uses one number format.",
            "Set one of them to false.",
        )


@rule("fp16", "bf16", "hardware.precision")
def _precision_agrees(config: TrainingConfig) -> Iterator[Problem]:
    wanted = config.hardware.precision
    for name in ("fp16", "bf16"):
        if getattr(config, name) and wanted not in ("auto", name):
            yield Problem(
                "hardware.precision",
                f"The precision is {wanted}, but {name} is true.",
                f"Choose auto or {name}, or set {name} to false.",
            )


@rule("provider", "max_seq_length")
def _unsloth_needs_length(config: TrainingConfig) -> Iterator[Problem]:
    if config.provider == "unsloth" and (
        config.max_seq_length is None or config.max_seq_length < 0
    ):
        given = "no length" if config.max_seq_length is None else str(config.max_seq_length)
        yield Problem(
            "max_seq_length",
            f"Unsloth needs a fixed length of 1 token or more; {given} is given.",
            "Enter a length, for instance 2048, or choose the provider huggingface.",
        )


@rule("provider", "task")
def _unsloth_generates_text(config: TrainingConfig) -> Iterator[Problem]:
    if config.provider == "unsloth" and config.task != "text-generation":
        yield Problem(
            "provider",
            f"Unsloth trains text-generation only; the task is {config.task}.",
            "Choose the provider huggingface, or the task text-generation.",
        )


@rule("strategy", "task")
def _preferences_generate_text(config: TrainingConfig) -> Iterator[Problem]:
    if facts_of(config).needs_preferences and config.task != "text-generation":
        yield Problem(
            "strategy",
            f"{config.strategy} trains text-generation only; the task is {config.task}.",
            "Choose the strategy sft, or the task text-generation.",
        )


@rule("strategy", "packing")
def _preferences_are_not_packed(config: TrainingConfig) -> Iterator[Problem]:
    if config.packing and facts_of(config).needs_preferences:
        yield Problem(
            "packing",
            f"{config.strategy} compares whole completions, so rows cannot be packed.",
            "Set packing to false, or choose the strategy sft.",
        )


@rule("task", "packing")
def _only_text_is_packed(config: TrainingConfig) -> Iterator[Problem]:
    if config.packing and config.task != "text-generation":
        yield Problem(
            "packing",
            f"Packing is for text-generation only; the task is {config.task}.",
            "Set packing to false, or choose the task text-generation.",
        )


@rule("max_seq_length")
def _length_is_not_zero(config: TrainingConfig) -> Iterator[Problem]:
    if config.max_seq_length == 0:
        yield Problem(
            "max_seq_length",
            "0 is too small.",
            "Enter a length of 1 or more, or leave it empty.",
        )


@rule("max_steps")
def _steps_are_not_zero(config: TrainingConfig) -> Iterator[Problem]:
    if config.max_steps == 0:
        yield Problem(
            "max_steps", "0 steps would train nothing.", "Enter 1 or more, or -1 for no limit."
        )
