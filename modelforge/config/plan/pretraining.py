"""The part of the plan about training from nothing: shape, length, batch and rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log2
from typing import Annotated, Any

from pydantic import BeforeValidator

from modelforge.config.plan.context import ChangeLog, PlanContext
from modelforge.config.pretraining.horizon import (
    REFERENCE_DEPTH,
    Horizon,
    Measure,
    best_batch,
    horizon,
    largest_batch,
    rate_factor,
)
from modelforge.config.pretraining.settings import shape_of
from modelforge.config.pretraining.shape import ModelShape
from modelforge.config.schema.config import TrainingConfig

# The settings that the measures of a length come from.
SETTINGS: dict[Measure, str] = {
    Measure.STEPS: "max_steps",
    Measure.FLOPS: "pretraining.target_flops",
    Measure.RATIO: "pretraining.target_param_data_ratio",
}
# The width whose AdamW rates are those of the settings; wider models take smaller ones.
REFERENCE_WIDTH = 768
# The weight decay grows towards smaller depths, by at most this factor.
MAX_DECAY_FACTOR = 4.0
# A step that is chosen takes at most this share of the text.
TEXT_SHARE = 1 / 16
# Tokens that an evaluation reads at most, as a share of those trained between two of them; but all
# of a text up to the second number.
EVAL_SHARE = 0.15
LEAST_EVAL_TOKENS = 2**17
# More repetitions of a text hardly help (Muennighoff et al., 2023).
MAX_EPOCHS = 4.0


@dataclass(frozen=True)
class Rates:
    """Learning rates of the groups of weights, scaled by the batch and the width."""

    matrix: float
    embedding: float
    unembedding: float
    scalar: float


def whole(value: float | None) -> int | None:
    """Return a number without its fraction."""
    return None if value is None else int(value)


@dataclass(frozen=True)
class PretrainingPlan:
    """What the settings of a training from nothing amount to.

    Attributes:
        shape: Sizes of the model.
        measure: The setting that decides the length.
        steps: Optimizer steps.
        batch_tokens: Tokens of a step.
        accumulation: Micro-batches of a step.
        tokens, flops: Those of the whole training.
        ratio: Tokens for each weight of layers and head.
        other_steps: Steps that the other measures would give, by setting; those that are set.
        batch_reason: Why a step has its tokens.
        rate_factor: Factor of all rates by the batch.
        rates: Highest rates of the schedule.
        weight_decay: Decay of matrices at the first step; it falls to zero.
        text_tokens: About how many tokens the text has; None while it is unknown.
    """

    shape: ModelShape
    measure: str
    steps: int
    batch_tokens: int
    accumulation: int
    tokens: int
    flops: float
    ratio: float
    other_steps: dict[str, int] = field(default_factory=dict)
    batch_reason: str = ""
    rate_factor: float = 1.0
    rates: Rates = Rates(0.0, 0.0, 0.0, 0.0)
    weight_decay: float = 0.0
    # Records of the first days have a fraction.
    text_tokens: Annotated[int | None, BeforeValidator(whole)] = None

    @property
    def epochs(self) -> float | None:
        """Passes over the text; None while its length is unknown."""
        return self.tokens / self.text_tokens if self.text_tokens else None


def pretraining_plan(
    config: TrainingConfig, context: PlanContext, length: int, log: ChangeLog
) -> PretrainingPlan | None:
    """Return the plan of a training from nothing; None for other trainings.

    Args:
        config: the settings.
        context: rows and tokens of the text, and the size of a borrowed vocabulary.
        length: tokens of a window.
        log: gets the values that are computed.
    """
    group = config.pretraining
    if not group.enabled:
        return None
    shape = shape_of(group, context=length, vocab_size=context.vocab_size)
    text = round((context.train_rows or 0) * (context.row_tokens or 0.0)) or None
    batch, reason = _batch(config, shape, context, text)
    accumulation = max(1, batch // (config.per_device_train_batch_size * length))
    batch = accumulation * config.per_device_train_batch_size * length
    used = planned_horizon(config, shape, batch)
    planned = PretrainingPlan(
        shape=shape,
        measure=SETTINGS[used.measure],
        steps=used.steps,
        batch_tokens=batch,
        accumulation=accumulation,
        tokens=used.tokens,
        flops=used.flops,
        ratio=used.ratio,
        other_steps=_other_steps(config, shape, used),
        batch_reason=reason,
        rate_factor=rate_factor(batch),
        rates=_rates(config, shape, batch),
        weight_decay=config.weight_decay * decay_factor(group.depth),
        text_tokens=text,
    )
    _record(config, planned, log)
    return planned


def planned_horizon(config: TrainingConfig, shape: ModelShape, batch: int) -> Horizon:
    """Return the length by the setting that decides: steps, FLOPs, tokens per parameter."""
    group = config.pretraining
    return horizon(
        shape,
        batch,
        steps=config.max_steps,
        target_flops=group.target_flops,
        ratio=group.target_param_data_ratio,
    )


def decay_factor(depth: int) -> float:
    """Return by what the weight decay is multiplied: (12 / depth)², at most 4."""
    return min(MAX_DECAY_FACTOR, (REFERENCE_DEPTH / depth) ** 2)


def eval_tokens(config: TrainingConfig, between: int) -> int:
    """Return the tokens that an evaluation reads at most.

    Args:
        config: the settings.
        between: tokens that are trained between two evaluations.
    """
    if config.evaluation.eval_tokens is not None:
        return config.evaluation.eval_tokens
    return max(LEAST_EVAL_TOKENS, int(EVAL_SHARE * between))


def text_tokens(characters: float, vocab_size: int) -> float:
    """Return about how many tokens a text has."""
    return characters / token_characters(vocab_size)


def token_characters(vocab_size: int) -> float:
    """Return about how many characters of English a token has.

    A byte-level BPE of 1,024 tokens has about 2.4, one of 8,192 about 3.7 and one of 32,768 about
    4.6.
    """
    return max(1.0, 0.44 * log2(vocab_size) - 2.0)


def _batch(
    config: TrainingConfig, shape: ModelShape, context: PlanContext, text: int | None
) -> tuple[int, str]:
    """Return the tokens of a step, and why.

    The law of batches, at most what leaves enough steps, and at most a share of the text.
    """
    group = config.pretraining
    if group.total_batch_tokens > 0:
        return group.total_batch_tokens, "It is set."
    reference = shape_of(
        group, context=shape.context, vocab_size=context.vocab_size, depth=REFERENCE_DEPTH
    )
    by_law = best_batch(shape, reference)
    choices = {by_law: "It grows with the tokens of the training to the power of 0.383."}
    tokens = _wanted_tokens(config, shape)
    if tokens is not None:
        choices.setdefault(largest_batch(tokens), "A larger one would leave fewer than 256 steps.")
    if text is not None:
        most = int(2 ** max(0, int(text * TEXT_SHARE).bit_length() - 1))
        choices.setdefault(most, "A larger one would be more than a sixteenth of the text.")
    batch = min(choices)
    unit = config.per_device_train_batch_size * shape.context
    if unit > batch:
        return unit, f"One batch of {config.per_device_train_batch_size} windows has as many."
    return batch, choices[batch]


def _wanted_tokens(config: TrainingConfig, shape: ModelShape) -> float | None:
    """Return the tokens that FLOPs or the ratio ask for; None where steps decide."""
    group = config.pretraining
    if config.max_steps > 0:
        return None
    if group.target_flops > 0:
        return group.target_flops / shape.flops_per_token
    return group.target_param_data_ratio * shape.scaling_parameters


def _other_steps(config: TrainingConfig, shape: ModelShape, used: Horizon) -> dict[str, int]:
    group = config.pretraining
    batch, others = used.batch_tokens, {}
    if group.target_flops > 0:
        others[Measure.FLOPS] = horizon(shape, batch, target_flops=group.target_flops)
    if group.target_param_data_ratio > 0:
        others[Measure.RATIO] = horizon(shape, batch, ratio=group.target_param_data_ratio)
    return {
        SETTINGS[measure]: other.steps
        for measure, other in others.items()
        if measure is not used.measure
    }


def _rates(config: TrainingConfig, shape: ModelShape, batch: int) -> Rates:
    """Return the rates: all follow the batch, those of embeddings and head the width too."""
    optimizer, usual = config.optimizer, config.learning_rate
    factor = rate_factor(batch)
    by_width = factor * (shape.width / REFERENCE_WIDTH) ** -0.5
    return Rates(
        matrix=factor * _or(optimizer.matrix_lr, usual),
        embedding=by_width * _or(optimizer.embedding_lr, usual),
        unembedding=by_width * _or(optimizer.unembedding_lr, usual),
        scalar=factor * _or(optimizer.scalar_lr, usual),
    )


def _or(rate: float | None, usual: float) -> float:
    return usual if rate is None else rate


def effective_settings(planned: PretrainingPlan, config: TrainingConfig) -> dict[str, Any]:
    """Return the settings that a trainer uses in place of those of the config, by dotted names."""
    return {
        "gradient_accumulation_steps": planned.accumulation,
        "learning_rate": config.learning_rate * planned.rate_factor,
        "optimizer.matrix_lr": planned.rates.matrix,
        "optimizer.embedding_lr": planned.rates.embedding,
        "optimizer.unembedding_lr": planned.rates.unembedding,
        "optimizer.scalar_lr": planned.rates.scalar,
        "weight_decay": planned.weight_decay,
    }


def _record(config: TrainingConfig, planned: PretrainingPlan, log: ChangeLog) -> None:
    others = "".join(
        f" By {name} alone there would be {steps:,} steps."
        for name, steps in planned.other_steps.items()
    )
    reason = f"{planned.measure} decides the length: {planned.steps:,} steps.{others}"
    if planned.measure == "max_steps":
        for name in planned.other_steps:
            log.record(name, planned.flops if name.endswith("flops") else planned.ratio, reason)
    else:
        log.record("max_steps", planned.steps, reason)
    if config.pretraining.total_batch_tokens != planned.batch_tokens:
        log.record("pretraining.total_batch_tokens", planned.batch_tokens, planned.batch_reason)
    if config.gradient_accumulation_steps != planned.accumulation:
        reason = f"A step has {planned.batch_tokens:,} tokens."
        log.record("gradient_accumulation_steps", planned.accumulation, reason)
    _record_rates(config, planned, log)


def _record_rates(config: TrainingConfig, planned: PretrainingPlan, log: ChangeLog) -> None:
    by_batch = (
        f"The rate × {planned.rate_factor:.3g}, as a step has {planned.batch_tokens:,} tokens"
    )
    used = effective_settings(planned, config)
    reasons = {
        "learning_rate": f"{by_batch}.",
        "optimizer.matrix_lr": f"{by_batch}.",
        "optimizer.scalar_lr": f"{by_batch}.",
        "optimizer.embedding_lr": f"{by_batch} and a width of {planned.shape.width:,}.",
        "optimizer.unembedding_lr": f"{by_batch} and a width of {planned.shape.width:,}.",
        "weight_decay": "It follows from the depth, and falls to zero in the training.",
    }
    for name, reason in reasons.items():
        group, _, inner = name.rpartition(".")
        configured = getattr(getattr(config, group) if group else config, inner)
        if configured is not None and configured != used[name]:
            log.record(name, float(f"{used[name]:.4g}"), reason)
