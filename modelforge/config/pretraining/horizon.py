"""How long a training from nothing lasts: steps, FLOPs or tokens per parameter, and its batch.

The laws are nanochat's: the best batch grows with the tokens to the power of 0.383, and learning
rates with the square root of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import log2, sqrt

from modelforge.config.pretraining.shape import ModelShape

REFERENCE_DEPTH = 12
REFERENCE_BATCH = 2**19
BATCH_EXPONENT = 0.383
# A shorter training takes smaller batches than the law gives, so that it has this many steps.
LEAST_STEPS = 256


class Measure(StrEnum):
    """What decides how long a training lasts; earlier ones rule over later ones."""

    STEPS = "steps"
    FLOPS = "flops"
    RATIO = "tokens per parameter"


@dataclass(frozen=True)
class Horizon:
    """Length of a training.

    Attributes:
        measure: what decided.
        steps: optimizer steps, at least 1.
        batch_tokens: tokens of a step.
        flops: FLOPs of all steps.
        ratio: tokens per scaling parameter.
    """

    measure: Measure
    steps: int
    batch_tokens: int
    flops: float
    ratio: float

    @property
    def tokens(self) -> int:
        """Tokens of all steps."""
        return self.steps * self.batch_tokens


def horizon(
    shape: ModelShape,
    batch_tokens: int,
    *,
    steps: int = -1,
    target_flops: float = -1.0,
    ratio: float = -1.0,
) -> Horizon:
    """Return the length of a training; what is not positive is not set.

    Raises:
        ValueError: none of the three is set.
    """
    if steps > 0:
        measure, count = Measure.STEPS, steps
    elif target_flops > 0:
        measure = Measure.FLOPS
        count = round(target_flops / (shape.flops_per_token * batch_tokens))
    elif ratio > 0:
        measure, count = Measure.RATIO, int(ratio * shape.scaling_parameters) // batch_tokens
    else:
        raise ValueError("Neither steps nor FLOPs nor tokens per parameter are set.")
    count = max(1, count)
    tokens = count * batch_tokens
    return Horizon(
        measure,
        count,
        batch_tokens,
        flops=float(shape.flops_per_token * tokens),
        ratio=tokens / shape.scaling_parameters,
    )


def best_batch(shape: ModelShape, reference: ModelShape) -> int:
    """Return the tokens of a step by the law of batches: a power of two.

    Args:
        shape: the model that is trained.
        reference: the model of depth 12 with the same other settings.
    """
    growth = shape.scaling_parameters / reference.scaling_parameters
    return int(2 ** round(log2(REFERENCE_BATCH * growth**BATCH_EXPONENT)))


def largest_batch(tokens: float) -> int:
    """Return the largest power of two that leaves a training of `tokens` enough steps."""
    return int(2 ** int(log2(max(1.0, tokens / LEAST_STEPS))))


def rate_factor(batch_tokens: int) -> float:
    """Return by what learning rates are multiplied for a batch."""
    return sqrt(batch_tokens / REFERENCE_BATCH)
