"""Checks of the settings: changed by the plan, unused or unusual values, trackers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from modelforge.config.defaults import default_learning_rate, usual_learning_rates
from modelforge.config.fields import specs_by_name
from modelforge.config.optimizers import MUON, RESULT_SCHEDULES
from modelforge.config.plan.make import Change
from modelforge.config.plan.memory import GRAPH_MODES
from modelforge.config.plan.run_length import checkpoint_step, ruling_measure
from modelforge.config.resolve import flatten
from modelforge.config.rules.training import requested_trackers
from modelforge.config.schema.runtime import TRACKER_ADDRESSES
from modelforge.config.visibility import applies, describe_conditions
from modelforge.errors import Finding, blocker, caution, note
from modelforge.preflight.context import RunContext
from modelforge.preflight.duration import eval_time_ratio
from modelforge.units import human_number

MIN_STEPS = 10
HIGH_DROPOUT = 0.5
# Factors beyond the usual range from which a learning rate is unusual.
MUCH_HIGHER, MUCH_LOWER = 3, 10
FEW_EVALUATIONS = 5
MANY_EPOCHS = 20
# From this ratio on, slow evaluations are reported with a factor.
REPORTED_RATIO = 1.5
REPORT_TO = "logging.report_to"
# Numbers from here on are shown with an exponent.
LARGE = 1e5


def plan_changes(context: RunContext) -> Iterator[Finding]:
    """Report every setting that the plan changes, without defaults that do not apply."""
    values = flatten(context.config.explicit_values())
    for change in context.plan.changes:
        if change.where in values or applies(change.where, values):
            yield note("plan-changed", _describe(change), where=change.where)


def learning_rate(context: RunContext) -> Iterator[Finding]:
    """Warn of a learning rate far outside the usual range, which is that of AdamW."""
    config = context.config
    is_original = context.plan.optim in MUON and config.optimizer.muon_scale == "original"
    if config.schedule.auto_learning_rate or is_original:
        return
    # New layers learn at the rates of adapters.
    rate = config.learning_rate
    has_adapter = config.adapter.enabled or config.progressive.enabled
    low, high = usual_learning_rates(config.strategy, adapter=has_adapter)
    is_high = rate > high
    factor = rate / high if is_high else low / rate
    if factor <= (MUCH_HIGHER if is_high else MUCH_LOWER) * (1 + 1e-9):
        return
    practice = context.plan.device != "cuda"
    default = default_learning_rate(config.strategy, practice=practice, adapter=has_adapter)
    harm = "the model may diverge or forget" if is_high else "the model may hardly learn"
    yield caution(
        "learning-rate-unusual",
        f"The learning rate {human_number(rate)} is {factor:.0f} times "
        f"{'above' if is_high else 'below'} the usual {human_number(low)} to {human_number(high)} "
        f"for {config.strategy} with {'an adapter' if has_adapter else 'all weights'}; {harm}.",
        f"Use {human_number(default)}, or keep it if it is intended.",
        "learning_rate",
        default,
    )


def muon_on_adapter(context: RunContext) -> Iterator[Finding]:
    """Note that Muon trains the two matrices of an adapter and not their product."""
    plan = context.plan
    if plan.optim in MUON and plan.trains == "adapter":
        yield note(
            "muon-on-adapter",
            f"{plan.optim} orthogonalizes the updates of both matrices of the adapter, not that of "
            "their product; it is meant for training all weights.",
            "Choose adamw_torch, or keep it if it is intended.",
            "optim",
            "adamw_torch",
        )


def adapter_dropout(context: RunContext) -> Iterator[Finding]:
    """Refuse a dropout that leaves the adapter no input, and warn of a high one."""
    dropout = context.config.lora_dropout
    changed = {change.where for change in context.plan.changes}
    if context.plan.trains != "adapter" or "lora_dropout" in changed or dropout <= HIGH_DROPOUT:
        return
    if dropout == 1:
        what = "A LoRA dropout of 1 drops every input of the adapter, so it learns nothing."
        yield blocker("dropout-of-everything", what, "Use 0.05 to 0.1.", "lora_dropout", 0.1)
    else:
        what = f"The LoRA dropout {dropout:g} drops more than half of the adapter's inputs."
        yield caution("dropout-high", what, "Usual: 0 to 0.1.", "lora_dropout", 0.1)


def adapter_scale(context: RunContext) -> Iterator[Finding]:
    """Note a LoRA alpha below the rank, as after raising the rank alone."""
    config, alpha = context.config, context.plan.lora_alpha
    if context.plan.trains != "adapter" or config.adapter.use_rslora or alpha >= config.lora_r:
        return
    yield note(
        "alpha-below-rank",
        f"LoRA alpha {alpha} over rank {config.lora_r} scales the adapter by "
        f"{alpha / config.lora_r:g}; usual is twice the rank.",
        f"Set LoRA alpha to {2 * config.lora_r}, or keep it if it is intended.",
        "lora_alpha",
        2 * config.lora_r,
    )


def completions_leave_room(context: RunContext) -> Iterator[Finding]:
    """Refuse completions as long as a row, which leave no tokens for the prompt."""
    plan = context.plan
    if not plan.facts.generates or plan.max_completion_length < plan.max_length:
        return
    half = max(1, plan.max_length // 2)
    yield blocker(
        "no-room-for-answers",
        f"Completions of {plan.max_completion_length:,} tokens leave none for a prompt: a row has "
        f"at most {plan.max_length:,}.",
        f"Set the max completion length to {half:,}, or raise the max sequence length.",
        "trainer.max_completion_length",
        half,
    )


def reward_verdict(context: RunContext) -> Iterator[Finding]:
    """Warn of a reward that a trial run has found to be of no use, or open to cheats."""
    trial = context.trial_run.reward_trial if context.trial_run else None
    if trial is not None and context.plan.facts.generates and trial.verdict != "fair":
        yield caution(f"reward-{trial.verdict}", trial.sentence, trial.advice, "trainer.reward")


def unused_settings(context: RunContext) -> Iterator[Finding]:
    """Note settings that have no effect with the other settings."""
    values = flatten(context.config.explicit_values())
    changed = {change.where: change.used for change in context.plan.changes}
    for name in sorted(values.keys() - changed.keys()):
        if values[name] != specs_by_name()[name].default and not applies(name, values | changed):
            what = f"The setting has no effect here; it applies {describe_conditions(name)}."
            yield note("setting-unused", what, where=name)


def schedule_fits(context: RunContext) -> Iterator[Finding]:
    """Refuse a schedule that is longer than the run, and warn of a warm-up that is."""
    plan, total = context.plan, context.plan.total_steps
    if total is None:
        return
    warmup = plan.warmup_steps if plan.warmup_steps >= 1 else plan.warmup_steps * total
    decay = plan.lr_scheduler_kwargs.get("num_decay_steps", 0)
    decay = decay * total if decay < 1 else decay
    if decay and warmup + decay > total + 1:
        yield blocker(
            "schedule-too-long",
            f"Warm-up and decay take {warmup:.0f} and {decay:.0f} steps; the run has {total}.",
            f"Reduce them to {total} steps together, or train longer.",
            "schedule.decay_steps",
        )
    elif context.config.schedule.warmup_steps is not None and warmup >= total:
        shorter = max(1, total // 10)
        yield caution(
            "warm-up-too-long",
            f"The warm-up takes {warmup:.0f} steps, but the run has {total}: the learning rate "
            "never reaches its full value.",
            f"Set the warm-up to {shorter} steps.",
            "schedule.warmup_steps",
            shorter,
        )


def schedule_follows_results(context: RunContext) -> Iterator[Finding]:
    """Warn of a schedule by results whose run has too few evaluations to change the rate."""
    plan, total = context.plan, context.plan.total_steps
    name = plan.lr_scheduler_type
    if name not in RESULT_SCHEDULES or not plan.eval_steps or total is None:
        return
    # The first evaluation always counts as an improvement.
    needed = plan.lr_scheduler_kwargs["patience"] + (1 if name == "greedy" else 2)
    evaluations = total // plan.eval_steps
    if evaluations >= needed:
        return
    better = total // (needed + 1) or None
    remedy = f"Evaluate every {better:,} steps" if better else "Train longer"
    yield caution(
        "schedule-without-effect",
        f"The schedule {name} changes the learning rate after {needed} evaluations at the "
        f"earliest; the run has {evaluations}.",
        f"{remedy}, or choose another schedule.",
        "eval_steps" if better else "lr_scheduler_type",
        better,
    )


def few_steps(context: RunContext) -> Iterator[Finding]:
    """Warn of a run with too few steps."""
    total = context.plan.total_steps
    if total is None or total >= MIN_STEPS:
        return
    measure = ruling_measure(context.config)
    names = {"max_steps": "max steps", "num_train_epochs": "epochs"}
    better = None
    if measure == "max_steps":
        better = MIN_STEPS
    elif measure == "num_train_epochs":
        better = math.ceil(MIN_STEPS * context.config.num_train_epochs / total)
    name = names.get(measure, specs_by_name()[measure].label.lower())
    remedy = f"Set {name} to {better}" if better else f"Raise {name}"
    yield caution(
        "few-updates",
        f"The run has {total} step{'' if total == 1 else 's'}; below {MIN_STEPS} a model hardly "
        "learns.",
        f"{remedy}, use more rows, or lower the gradient accumulation.",
        measure,
        better,
    )


def checkpoint_is_early(context: RunContext) -> Iterator[Finding]:
    """Refuse a run that ends before the step of the checkpoint that it resumes from."""
    step, total = checkpoint_step(context.plan.resume_from), context.plan.total_steps
    if step and total is not None and total <= step:
        yield blocker(
            "checkpoint-too-late",
            f"The checkpoint is of step {step:,}, and the run has {total:,} steps.",
            f"Train for more than {step:,} steps, or choose an earlier checkpoint.",
            "trainer.resume_from_checkpoint",
        )


def length_known(context: RunContext) -> Iterator[Finding]:
    """Refuse FLOPs as the length of a run whose model has an unknown shape; warn of many passes."""
    config, plan = context.config, context.plan
    if plan.length_by == "trainer.target_flops" and plan.flops_per_token is None:
        yield blocker(
            "length-unknown",
            "The FLOPs of a token are unknown, since the shape of the model is.",
            "Set max steps or epochs instead.",
            plan.length_by,
        )
    if plan.pretraining is not None:
        return
    is_measured = plan.length_by not in ("max_steps", "num_train_epochs")
    if is_measured and (plan.epochs or 0.0) > MANY_EPOCHS:
        label = specs_by_name()[plan.length_by].label
        yield caution(
            "many-epochs",
            f"{label} means {plan.epochs:,.1f} passes over the rows; beyond {MANY_EPOCHS} a model "
            "mostly recites them.",
            f"Lower it, or leave it empty for {config.num_train_epochs} of the setting epochs.",
            plan.length_by,
        )


def slow_evaluation(context: RunContext) -> Iterator[Finding]:
    """Warn of evaluations that take longer than the training itself."""
    plan, ratio = context.plan, eval_time_ratio(context)
    if not plan.total_steps or not plan.eval_steps or ratio < 1:
        return
    evaluations = -(-plan.total_steps // plan.eval_steps)
    better = -(-plan.total_steps // FEW_EVALUATIONS)
    can_be_rarer = better > plan.eval_steps
    duration = f"{ratio:,.1f} times as long as" if ratio >= REPORTED_RATIO else "as long as"
    remedy = f"Evaluate every {better:,} steps, or use" if can_be_rarer else "Use"
    yield caution(
        "checks-slow",
        f"The {evaluations:,} evaluations take about {duration} the training itself.",
        f"{remedy} fewer evaluation rows.",
        "eval_steps" if can_be_rarer else "eval_split",
        better if can_be_rarer else None,
    )


def graphs_need_one_shape(context: RunContext) -> Iterator[Finding]:
    """Warn of CUDA graphs for batches of many shapes, each of which is recorded anew."""
    config, mode = context.config, context.plan.torch_compile_mode
    same = config.packing and config.data.packing_strategy == "wrapped"
    if mode in GRAPH_MODES and not same:
        yield caution(
            "graphs-of-many-shapes",
            f"The compiler mode {mode} records a CUDA graph for each shape of a batch, which takes "
            "time and memory; the batches of this run have many lengths.",
            f"Use {GRAPH_MODES[mode]}, or packing with the strategy wrapped.",
            "hardware.torch_compile_mode",
            GRAPH_MODES[mode],
        )


def tracker_missing(context: RunContext) -> Iterator[Finding]:
    """Refuse a tracker whose package is not installed."""
    trackers = requested_trackers(context.config)
    missing = [name for name in trackers if name not in context.machine.packages]
    if not missing:
        return
    others = ", ".join(name for name in trackers if name not in missing)
    extras = "".join(f" --with {name}" for name in missing)
    several = len(missing) > 1
    yield blocker(
        "tracker-missing",
        f"The {'trackers' if several else 'tracker'} {' and '.join(missing)} "
        f"{'are' if several else 'is'} not installed.",
        f"Run `python launch.py setup{extras}`, or remove {'them' if several else 'it'}: the "
        "metrics are stored in the run folder in any case.",
        REPORT_TO,
        others,
    )


def tracker_online(context: RunContext) -> Iterator[Finding]:
    """Note trackers that send metrics and settings to another computer."""
    trackers = requested_trackers(context.config)
    if "wandb" in trackers and context.config.logging.wandb_mode == "online":
        yield note(
            "tracker-online",
            "Metrics, settings and the names of run and model are sent to Weights & Biases.",
            "Set the W&B mode to offline to keep them on this computer.",
            "logging.wandb_mode",
            "offline",
        )
    for name, variable in TRACKER_ADDRESSES.items():
        is_set_here = name == "aim" and context.config.logging.repo
        if name in trackers and os.environ.get(variable) and not is_set_here:
            yield note(
                "tracker-online",
                f"{variable} is set, so {name} sends the metrics there instead of storing them in "
                "the run folder.",
                f"Unset {variable} to keep them on this computer.",
                REPORT_TO,
            )


def _describe(change: Change) -> str:
    configured = change.configured
    if change.used is None:
        return f"The value {_text(configured)} is not used. {change.reason}"
    instead = "" if configured is None else f" instead of {_text(configured)}"
    return f"{_text(change.used)} is used{instead}. {change.reason}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and abs(value) >= LARGE:
        return human_number(value)
    return str(value)
