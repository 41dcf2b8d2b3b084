"""Rules about training: precision, provider, length, strategy, evaluation, trackers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelforge.config.methods import METHOD_FACTS, facts_of, preference_method
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.runtime import TRACKERS
from modelforge.config.schema.training import MAX_SAMPLES, own_prompts
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


@rule("adapter.start_from", "trainer.resume_from_checkpoint")
def _single_beginning(config: TrainingConfig) -> Iterator[Problem]:
    name = config.trainer.resume_from_checkpoint
    if name is not None and config.adapter.start_from is not None:
        yield Problem(
            "trainer.resume_from_checkpoint",
            f"It is {name[:60]!r}, and adapter.start_from is {config.adapter.start_from[:60]!r}: "
            "training can begin with one of them.",
            "Remove adapter.start_from; the checkpoint has its own adapter.",
        )


@rule("strategy", "trainer.target_tokens", "trainer.target_flops")
def _measured_tokens_are_read(config: TrainingConfig) -> Iterator[Problem]:
    if not facts_of(config).generates:
        return
    for name in ("target_tokens", "target_flops"):
        value = getattr(config.trainer, name)
        if value is not None:
            yield Problem(
                f"trainer.{name}",
                f"{value:,.15g} are set, but the strategy {config.strategy} writes most of its "
                "tokens itself, so their number is unknown.",
                "Remove it, and set max_steps or data.records_to_sample.",
            )


@rule("strategy", "trainer.target_flops")
def _flops_are_of_one_forward_pass(config: TrainingConfig) -> Iterator[Problem]:
    flops, facts = config.trainer.target_flops, facts_of(config)
    if flops is not None and facts.needs_preferences and not facts.generates:
        yield Problem(
            "trainer.target_flops",
            f"{flops:g} is set, but {config.strategy} also runs a reference model or compares two "
            "completions, which is not counted.",
            "Remove it, and set trainer.target_tokens, or max_steps.",
        )


@rule("trainer.save_steps")
def _save_interval_is_not_zero(config: TrainingConfig) -> Iterator[Problem]:
    if config.trainer.save_steps == 0:
        yield Problem(
            "trainer.save_steps",
            "0 is not an interval between checkpoints.",
            "Enter 1 or more, -1 for the end only, or leave it empty.",
        )


@rule("trainer.preference_loss", "trainer.precompute_ref_log_probs")
def _loss_has_reference(config: TrainingConfig) -> Iterator[Problem]:
    loss = config.trainer.preference_loss
    has_reference = METHOD_FACTS[preference_method(loss)].needs_reference
    if config.trainer.precompute_ref_log_probs and not has_reference:
        yield Problem(
            "trainer.precompute_ref_log_probs",
            f"{loss} has no reference model.",
            "Set it to false, or choose another preference loss.",
        )


@rule("strategy", "trainer.reward", "trainer.reward_pattern")
def _pattern_is_valid(config: TrainingConfig) -> Iterator[Problem]:
    pattern = config.trainer.reward_pattern
    if facts_of(config).generates and config.trainer.reward == "regex" and pattern is None:
        yield Problem(
            "trainer.reward_pattern",
            "The reward regex needs a pattern; none is given.",
            r"Enter one, for instance \d+ for a completion that contains a number.",
        )
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except re.error as error:
        at = "" if error.pos is None else f" at character {error.pos + 1}"
        yield Problem(
            "trainer.reward_pattern",
            f"Invalid Python regular expression: {error.msg}{at}.",
            "Fix it; put a backslash before special characters that are meant literally.",
        )


@rule("provider", "strategy")
def _unsloth_has_no_rewards(config: TrainingConfig) -> Iterator[Problem]:
    if config.provider == "unsloth" and facts_of(config).generates:
        yield Problem(
            "provider",
            "Unsloth is supported for sft, qlora and dpo; the strategy is rlhf.",
            "Choose the provider huggingface, or another strategy.",
        )


@rule("evaluation.early_stopping", "eval_split", "data.validation_sources")
def _early_stopping_needs_evaluation(config: TrainingConfig) -> Iterator[Problem]:
    if config.evaluation.early_stopping and not config.evaluates:
        yield Problem(
            "evaluation.early_stopping",
            "Early stopping needs evaluation rows, and eval_split is 0.",
            "Set eval_split, for instance to 0.1, or set this to false.",
        )


@rule("evaluation.sample_prompts")
def _sample_prompts_are_few(config: TrainingConfig) -> Iterator[Problem]:
    count = len(own_prompts(config.evaluation))
    if count > MAX_SAMPLES:
        yield Problem(
            "evaluation.sample_prompts",
            f"There are {count} prompts, one per line; at most {MAX_SAMPLES} are answered.",
            f"Keep {MAX_SAMPLES} of them.",
        )


@rule("logging.report_to")
def _trackers_are_known(config: TrainingConfig) -> Iterator[Problem]:
    for name in requested_trackers(config):
        if name not in TRACKERS:
            yield Problem(
                "logging.report_to",
                f"Unknown tracker {name[:40]!r}.",
                f"Choose from {', '.join(TRACKERS)}, or leave it empty.",
            )


def requested_trackers(config: TrainingConfig) -> list[str]:
    """Return the configured trackers without duplicates."""
    text = config.logging.report_to.strip().lower()
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [] if names == ["none"] else list(dict.fromkeys(names))
