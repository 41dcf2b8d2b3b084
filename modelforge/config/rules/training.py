"""Rules about learning: the schedule, preferences and rewards."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelforge.config.plan.training import DECAY_SHARE, ENDS_ABOVE_ZERO
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.runtime import TRACKERS
from modelforge.errors import Problem

WSD = "warmup_stable_decay"


@rule("trainer.save_steps")
def _saves_are_some_updates_apart(config: TrainingConfig) -> Iterator[Problem]:
    if config.trainer.save_steps == 0:
        yield Problem(
            "trainer.save_steps",
            "There are no 0 updates between two checkpoints.",
            "Give 1 or more, -1 for the end only, or leave it empty.",
        )


@rule("schedule.decay_steps", "schedule.decay_ratio")
def _one_length_of_decay(config: TrainingConfig) -> Iterator[Problem]:
    schedule = config.schedule
    if schedule.decay_steps is not None and schedule.decay_ratio is not None:
        yield Problem(
            "schedule.decay_ratio",
            f"The decay is {schedule.decay_steps} updates and also {schedule.decay_ratio:g} of "
            "the run.",
            "Give one of the two.",
        )


@rule("lr_scheduler_type", "schedule.decay_steps", "schedule.decay_ratio", "schedule.decay_shape")
def _only_one_schedule_decays_late(config: TrainingConfig) -> Iterator[Problem]:
    if config.lr_scheduler_type == WSD:
        return
    for name in ("decay_steps", "decay_ratio", "decay_shape"):
        if name in config.schedule.model_fields_set and getattr(config.schedule, name) not in (
            None,
            "linear",
        ):
            yield Problem(
                f"schedule.{name}",
                f"It is for {WSD}; the schedule is {config.lr_scheduler_type}.",
                f"Leave it out, or choose the schedule {WSD}.",
            )


@rule("lr_scheduler_type", "schedule.final_lr_fraction")
def _this_schedule_has_a_final_rate(config: TrainingConfig) -> Iterator[Problem]:
    final, said = config.schedule.final_lr_fraction, config.lr_scheduler_type
    if final > 0 and said not in ENDS_ABOVE_ZERO:
        yield Problem(
            "schedule.final_lr_fraction",
            f"The schedule {said} has no final rate to set; {final:g} is given.",
            "Set it to 0, or choose cosine, linear, polynomial or warmup_stable_decay.",
        )


@rule(
    "lr_scheduler_type",
    "warmup_ratio",
    "schedule.warmup_steps",
    "schedule.decay_steps",
    "schedule.decay_ratio",
    "max_steps",
)
def _warm_up_and_decay_fit(config: TrainingConfig) -> Iterator[Problem]:
    schedule, total = config.schedule, config.max_steps
    if config.lr_scheduler_type != WSD:
        return
    share = DECAY_SHARE if schedule.decay_ratio is None else schedule.decay_ratio
    where = "decay_ratio" if schedule.decay_steps is None else "decay_steps"
    if total > 0:
        decay = share * total if schedule.decay_steps is None else schedule.decay_steps
        warm = (
            config.warmup_ratio * total if schedule.warmup_steps is None else schedule.warmup_steps
        )
        if warm + decay > total + 1e-9:
            yield Problem(
                f"schedule.{where}",
                f"Warm-up and decay take {warm:g} and {decay:g} updates; the run has {total}.",
                f"Let them come to {total} at most.",
            )
    elif (
        schedule.decay_steps is None
        and schedule.warmup_steps is None
        and config.warmup_ratio + share > 1 + 1e-9
    ):
        yield Problem(
            f"schedule.{where}",
            f"Warm-up and decay take {config.warmup_ratio:g} and {share:g} of the run.",
            "Let them come to 1 at most.",
        )


@rule("trainer.preference_loss", "trainer.precompute_ref_log_probs")
def _orpo_has_no_reference(config: TrainingConfig) -> Iterator[Problem]:
    loss = config.trainer.preference_loss
    if loss == "orpo" and config.trainer.precompute_ref_log_probs:
        yield Problem(
            "trainer.precompute_ref_log_probs",
            "orpo has no reference model to ask.",
            "Set it to false, or choose another preference loss.",
        )


@rule("strategy", "trainer.reward", "trainer.reward_pattern")
def _a_pattern_can_be_sought(config: TrainingConfig) -> Iterator[Problem]:
    pattern = config.trainer.reward_pattern
    if config.strategy == "rlhf" and config.trainer.reward == "regex" and pattern is None:
        yield Problem(
            "trainer.reward_pattern",
            "The reward regex needs a pattern; none is given.",
            r"Give one, for instance \d+ for an answer with a number in it.",
        )
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except re.error as error:
        at = "" if error.pos is None else f" at character {error.pos + 1}"
        yield Problem(
            "trainer.reward_pattern",
            f"This is no regular expression of Python: {error.msg}{at}.",
            "Correct it; a character that stands for itself has a backslash before it.",
        )


@rule("provider", "strategy")
def _unsloth_learns_from_no_rewards(config: TrainingConfig) -> Iterator[Problem]:
    if config.provider == "unsloth" and config.strategy == "rlhf":
        yield Problem(
            "provider",
            "Unsloth trains sft, qlora and dpo here; the strategy is rlhf.",
            "Choose the provider huggingface, or another strategy.",
        )


@rule("evaluation.early_stopping", "eval_split", "data.validation_sources")
def _stopping_early_needs_checks(config: TrainingConfig) -> Iterator[Problem]:
    checked = config.eval_split > 0 or config.data.validation_sources
    if config.evaluation.early_stopping and not checked:
        yield Problem(
            "evaluation.early_stopping",
            "Stopping early goes by checks on held-out rows, and eval_split is 0.",
            "Hold out some rows, for instance 0.1, or set it to false.",
        )


@rule("logging.report_to")
def _trackers_are_known(config: TrainingConfig) -> Iterator[Problem]:
    for name in requested_trackers(config):
        if name not in TRACKERS:
            yield Problem(
                "logging.report_to",
                f"{name[:40]!r} is no tracker that is known here.",
                f"Choose from {', '.join(TRACKERS)}, or leave it empty.",
            )


def requested_trackers(config: TrainingConfig) -> list[str]:
    """Return the trackers that were asked for, each once."""
    said = config.logging.report_to.strip().lower()
    names = [name.strip() for name in said.split(",") if name.strip()]
    return [] if names == ["none"] else list(dict.fromkeys(names))
