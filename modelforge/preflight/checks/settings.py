"""What preflight says of the settings themselves: not here yet, changed, unusual."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from modelforge.config.defaults import default_learning_rate
from modelforge.config.plan.make import Change
from modelforge.config.resolve import flatten
from modelforge.config.rules.training import requested_trackers
from modelforge.config.schema.runtime import TRACKER_ADDRESSES
from modelforge.config.visibility import applies
from modelforge.errors import Finding
from modelforge.preflight.context import RunContext
from modelforge.preflight.speed import eval_time_ratio

# What only one strategy reads of the trainer's settings, and what only one reward.
ONLY_FOR = {
    "dpo": ("preference_beta", "preference_loss", "precompute_ref_log_probs"),
    "rlhf": (
        "rlhf_algorithm",
        "reward",
        "reward_model",
        "reward_pattern",
        "reward_words",
        "reward_learning_rate",
        "reward_epochs",
        "kl_beta",
        "num_generations",
        "max_completion_length",
        "generation_temperature",
    ),
}
ONE_REWARD = {"reward_model": "model", "reward_pattern": "regex", "reward_words": "length"}
FEWEST_UPDATES = 10
TWICE = 1.5
FEW_CHECKS = 5


def plan_changes(case: RunContext) -> Iterator[Finding]:
    """Tell every setting that is used otherwise than it stands, defaults of no use left out."""
    said = flatten(case.config.explicit_values())
    for change in case.plan.changes:
        if change.where not in said and not applies(change.where, said):
            continue
        yield Finding("note", "plan-changed", _in_words(change), where=change.where)


def learning_rate(case: RunContext) -> Iterator[Finding]:
    """Warn of a rate that is ten times off what the strategy is usually trained with."""
    rate = case.config.learning_rate
    config = case.config
    advised = default_learning_rate(
        config.strategy, practice=case.machine.practice_mode, adapter=config.adapter.enabled
    )
    times = max(rate / advised, advised / rate)
    if times < 10 * (1 - 1e-9):
        return
    harm = "the model may forget what it knew" if rate > advised else "it may learn next to nothing"
    yield Finding(
        "caution",
        "learning-rate-unusual",
        f"The learning rate {rate:g} is {times:.0f} times "
        f"{'above' if rate > advised else 'below'} the usual {advised:g} for "
        f"{case.config.strategy}; {harm}.",
        f"Use {advised:g}, or keep it if you know why.",
        "learning_rate",
        advised,
    )


def unused(case: RunContext) -> Iterator[Finding]:
    """Tell of settings that were given for another strategy or another reward."""
    trainer, strategy = case.config.trainer, case.config.strategy
    fields = type(trainer).model_fields
    for name in sorted(trainer.model_fields_set):
        if getattr(trainer, name) == fields[name].default:
            continue
        reads = next((which for which, names in ONLY_FOR.items() if name in names), strategy)
        reward = ONE_REWARD.get(name, trainer.reward)
        if reads != strategy:
            what = f"Only the strategy {reads} reads it; this is {strategy}."
        elif strategy == "rlhf" and reward != trainer.reward:
            what = f"Only the reward {reward} reads it; the reward is {trainer.reward}."
        else:
            continue
        yield Finding("note", "setting-unused", what, where=f"trainer.{name}")


def schedule_fits(case: RunContext) -> Iterator[Finding]:
    """Refuse a schedule that is longer than the run, and doubt a warm-up that is."""
    plan, total = case.plan, case.plan.total_steps
    if total is None:
        return
    warm = plan.warmup_steps if plan.warmup_steps >= 1 else plan.warmup_steps * total
    decay = plan.lr_scheduler_kwargs.get("num_decay_steps", 0)
    decay = decay * total if decay < 1 else decay
    if warm + decay > total + 1 and decay:
        yield Finding(
            "blocker",
            "schedule-too-long",
            f"Warm-up and decay take {warm:.0f} and {decay:.0f} updates; the run has {total}.",
            f"Let them come to {total} at most, or train longer.",
            "schedule.decay_steps",
        )
    elif case.config.schedule.warmup_steps is not None and warm >= total:
        yield Finding(
            "caution",
            "warm-up-too-long",
            f"The rate rises for {warm:.0f} updates, but the run has {total}: it never comes to "
            "its full size.",
            f"Warm up for {max(1, total // 10)} updates.",
            "schedule.warmup_steps",
            max(1, total // 10),
        )


def few_updates(case: RunContext) -> Iterator[Finding]:
    """Warn of a run that is over before it has learned anything."""
    total = case.plan.total_steps
    if total is None or total >= FEWEST_UPDATES:
        return
    if case.config.max_steps > 0:
        where, better = "max_steps", FEWEST_UPDATES
    else:
        each = total / case.config.num_train_epochs
        where, better = "num_train_epochs", math.ceil(FEWEST_UPDATES / each)
    yield Finding(
        "caution",
        "few-updates",
        f"The run has {_count(total, 'update')}; below {FEWEST_UPDATES} a model hardly learns.",
        f"Set {'most updates' if where == 'max_steps' else 'epochs'} to {better}, use more rows, "
        "or lower the accumulation.",
        where,
        better,
    )


def checks_take_long(case: RunContext) -> Iterator[Finding]:
    """Warn of checks on held-out rows that cost more than the training itself."""
    plan, facts, look = case.plan, case.facts, case.look
    if not (facts and facts.parameters and look and plan.total_steps and plan.eval_steps):
        return
    times = eval_time_ratio(case.config, plan, case.machine, facts, look)
    if times < 1:
        return
    checks = -(-plan.total_steps // plan.eval_steps)
    better = -(-plan.total_steps // FEW_CHECKS)
    rarer = better > plan.eval_steps
    longer = f"{times:,.1f} times as long as" if times >= TWICE else "as long as"
    yield Finding(
        "caution",
        "checks-slow",
        f"The {checks:,} checks on held-out rows take about {longer} the training itself.",
        f"Check every {better:,} updates, or hold out fewer rows."
        if rarer
        else "Hold out fewer rows.",
        "eval_steps" if rarer else "eval_split",
        better if rarer else None,
    )


def _in_words(change: Change) -> str:
    instead = "" if change.configured is None else f" instead of {_value(change.configured)}"
    return f"{_value(change.used)} is used{instead}. {change.reason}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


WHERE = "logging.report_to"


def tracker_missing(case: RunContext) -> Iterator[Finding]:
    """Refuse a tracker whose package is not installed."""
    asked = requested_trackers(case.config)
    missing = [name for name in asked if name not in case.machine.packages]
    if not missing:
        return
    others = ", ".join(name for name in asked if name not in missing)
    extras = "".join(f" --with {name}" for name in missing)
    several = len(missing) > 1
    yield Finding(
        "blocker",
        "tracker-missing",
        f"The {'trackers' if several else 'tracker'} {' and '.join(missing)} "
        f"{'are' if several else 'is'} not installed.",
        f"Run `python launch.py setup{extras}`, or leave {'them' if several else 'it'} out: the "
        "curves are kept here in any case.",
        WHERE,
        others,
    )


def leaves_the_computer(case: RunContext) -> Iterator[Finding]:
    """Tell where curves and settings go when they leave this computer."""
    asked = requested_trackers(case.config)
    if "wandb" in asked and case.config.logging.wandb_mode == "online":
        yield Finding(
            "note",
            "tracker-online",
            "Curves, settings and the names of the run and its model are sent to Weights & Biases.",
            "Choose the W&B mode offline to keep them here.",
            "logging.wandb_mode",
            "offline",
        )
    for name, variable in TRACKER_ADDRESSES.items():
        if name in asked and os.environ.get(variable):
            yield Finding(
                "note",
                "tracker-online",
                f"{variable} is set, so {name} keeps the curves there and not in the run's folder.",
                f"Unset {variable} to keep them here.",
                WHERE,
            )
