"""The nested groups of the optimizer and the learning rate schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelforge.config.schema.base import (
    ALL_CACHES,
    GroupName,
    SettingInfo,
    SettingsGroup,
)


class Optimizer(SettingsGroup):
    """Hyperparameters of the optimizer."""

    beta1: Annotated[
        float,
        Field(ge=0, lt=1),
        SettingInfo(
            "Beta 1",
            "Decay rate of the mean of past gradients.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 0.9
    beta2: Annotated[
        float,
        Field(ge=0, lt=1),
        SettingInfo(
            "Beta 2",
            "Decay rate of the mean of past squared gradients.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 0.999
    epsilon: Annotated[
        float,
        Field(gt=0),
        SettingInfo(
            "Epsilon",
            "Added to the denominator for numerical stability.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 1e-8


class Schedule(SettingsGroup):
    """The learning rate schedule, beyond the contract."""

    warmup_steps: Annotated[
        int | None,
        Field(ge=0),
        SettingInfo(
            "Warm-up steps",
            "Steps in which the learning rate rises from zero; empty uses the warm-up ratio.",
            unit="steps",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = None
    decay_steps: Annotated[
        int | None,
        Field(ge=0),
        SettingInfo(
            "Decay steps",
            "For warmup_stable_decay: steps in which the rate decays at the end.",
            unit="steps",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = None
    decay_ratio: Annotated[
        float | None,
        Field(ge=0, le=1),
        SettingInfo(
            "Decay ratio",
            "For warmup_stable_decay: share of the run in which the rate decays; empty is 0.2.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = None
    decay_shape: Annotated[
        Literal["linear", "cosine", "1-sqrt"],
        SettingInfo(
            "Decay shape",
            "For warmup_stable_decay: the curve of the decay.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = "linear"
    final_lr_fraction: Annotated[
        float,
        Field(ge=0, lt=1),
        SettingInfo(
            "Final rate fraction",
            "Share of the learning rate that remains at the end.",
            group=GroupName.OPTIMIZER,
            irrelevant_for=ALL_CACHES,
        ),
    ] = 0.0
