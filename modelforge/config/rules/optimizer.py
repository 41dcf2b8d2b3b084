"""Rules about the optimizer and the learning rate schedule."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.optimizers import COOLED_SCHEDULES, RESULT_SCHEDULES
from modelforge.config.plan.training import DECAY_SHARE, ENDS_ABOVE_ZERO, cools_down
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem

WSD = "warmup_stable_decay"


@rule("adapter.enabled", "progressive.enabled", "optimizer.adapter_lr", "optimizer.loraplus_ratio")
def _adapter_has_rates(config: TrainingConfig) -> Iterator[Problem]:
    for name in ("adapter_lr", "loraplus_ratio"):
        value = getattr(config.optimizer, name)
        has_stages = config.progressive.enabled and name == "adapter_lr"
        if value is not None and not (config.adapter.enabled or has_stages):
            yield Problem(
                f"optimizer.{name}",
                f"{value:g} is for a LoRA adapter; adapter.enabled is false.",
                "Leave it empty, or set adapter.enabled to true.",
            )


@rule("schedule.decay_steps", "schedule.decay_ratio")
def _single_decay_length(config: TrainingConfig) -> Iterator[Problem]:
    schedule = config.schedule
    if schedule.decay_steps is not None and schedule.decay_ratio is not None:
        yield Problem(
            "schedule.decay_ratio",
            f"The decay is {schedule.decay_steps} steps and {schedule.decay_ratio:g} of the run.",
            "Enter one of the two.",
        )


@rule("lr_scheduler_type", "schedule.decay_steps", "schedule.decay_ratio", "schedule.decay_shape")
def _schedule_can_decay(config: TrainingConfig) -> Iterator[Problem]:
    schedule, name = config.schedule, config.lr_scheduler_type
    if name in COOLED_SCHEDULES:
        if schedule.decay_shape != "linear" and not cools_down(config):
            yield Problem(
                "schedule.decay_shape",
                f"{schedule.decay_shape} is the shape of a cooldown; {name} has none without a "
                "length.",
                "Enter schedule.decay_steps or schedule.decay_ratio, or set it to linear.",
            )
        return
    if name == WSD:
        return
    for setting in ("decay_steps", "decay_ratio", "decay_shape"):
        if setting in schedule.model_fields_set and getattr(schedule, setting) not in (
            None,
            "linear",
        ):
            yield Problem(
                f"schedule.{setting}",
                f"It applies to {WSD}, linear and cosine; the schedule is {name}.",
                f"Remove it, or choose the schedule {WSD}, linear or cosine.",
            )


@rule("lr_scheduler_type", "eval_split", "data.validation_sources")
def _schedule_has_results(config: TrainingConfig) -> Iterator[Problem]:
    if config.lr_scheduler_type in RESULT_SCHEDULES and not config.evaluates:
        yield Problem(
            "lr_scheduler_type",
            f"The schedule {config.lr_scheduler_type} follows the evaluation loss, and eval_split "
            "is 0.",
            "Set eval_split, for instance to 0.1, or choose another schedule, for instance cosine.",
        )


@rule("lr_scheduler_type", "schedule.final_lr_fraction")
def _schedule_has_final_rate(config: TrainingConfig) -> Iterator[Problem]:
    final, name = config.schedule.final_lr_fraction, config.lr_scheduler_type
    if final > 0 and name not in ENDS_ABOVE_ZERO:
        yield Problem(
            "schedule.final_lr_fraction",
            f"The schedule {name} has no final rate; {final:g} is given.",
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
    if config.lr_scheduler_type != WSD and not cools_down(config):
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
                f"Warm-up and decay take {warm:g} and {decay:g} steps; the run has {total}.",
                f"Reduce them to {total} steps together.",
            )
    elif (
        schedule.decay_steps is None
        and schedule.warmup_steps is None
        and config.warmup_ratio + share > 1 + 1e-9
    ):
        yield Problem(
            f"schedule.{where}",
            f"Warm-up and decay take {config.warmup_ratio:g} and {share:g} of the run.",
            "Reduce them to 1 together.",
        )
