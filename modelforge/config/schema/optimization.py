"""The nested groups of the optimizer and the learning rate schedule."""

from __future__ import annotations

from typing import Literal

from modelforge.config.schema.base import ALL_CACHES, Group, SettingsGroup, setting


class Optimizer(SettingsGroup):
    """Hyperparameters of the optimizer."""

    beta1: float = setting(0.9, "Beta 1", Group.OPTIMIZER, ge=0, lt=1, irrelevant_for=ALL_CACHES)
    """Decay rate of the mean of past gradients."""

    beta2: float = setting(0.999, "Beta 2", Group.OPTIMIZER, ge=0, lt=1, irrelevant_for=ALL_CACHES)
    """Decay rate of the mean of past squared gradients."""

    epsilon: float = setting(1e-8, "Epsilon", Group.OPTIMIZER, gt=0, irrelevant_for=ALL_CACHES)
    """Added to the denominator for numerical stability."""


class Schedule(SettingsGroup):
    """The learning rate schedule, beyond the contract."""

    warmup_steps: int | None = setting(
        None, "Warm-up steps", Group.OPTIMIZER, ge=0, unit="steps", irrelevant_for=ALL_CACHES
    )
    """Steps in which the learning rate rises from zero; empty uses the warm-up ratio."""

    decay_steps: int | None = setting(
        None, "Decay steps", Group.OPTIMIZER, ge=0, unit="steps", irrelevant_for=ALL_CACHES
    )
    """For warmup_stable_decay: steps in which the rate decays at the end."""

    decay_ratio: float | None = setting(
        None, "Decay ratio", Group.OPTIMIZER, ge=0, le=1, irrelevant_for=ALL_CACHES
    )
    """For warmup_stable_decay: share of the run in which the rate decays; empty is 0.2."""

    decay_shape: Literal["linear", "cosine", "1-sqrt"] = setting(
        "linear", "Decay shape", Group.OPTIMIZER, irrelevant_for=ALL_CACHES
    )
    """For warmup_stable_decay: the curve of the decay."""

    final_lr_fraction: float = setting(
        0.0, "Final rate fraction", Group.OPTIMIZER, ge=0, lt=1, irrelevant_for=ALL_CACHES
    )
    """Share of the learning rate that remains at the end."""
