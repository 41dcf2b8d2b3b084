"""Settings of the length of a run, beyond the epochs and steps of the contract."""

from __future__ import annotations

from typing import Literal

from modelforge.config.schema.base import ALL_CACHES, Group, SettingsGroup, setting

# The settings that say how long a run is; the first that is set decides.
Measure = Literal[
    "max_steps",
    "trainer.target_flops",
    "trainer.target_tokens",
    "data.records_to_sample",
    "trainer.fractional_epochs",
    "num_train_epochs",
]


class RunLength(SettingsGroup):
    """Measures of the length of a run; which one rules is decided by `config/plan/run_length`."""

    fractional_epochs: float | None = setting(
        None, "Fractional epochs", Group.TRAINING, gt=0, le=10_000, irrelevant_for=ALL_CACHES
    )
    """Passes over the training rows, also a part of one such as 0.5; used instead of epochs."""

    target_tokens: int | None = setting(
        None, "Tokens to train on", Group.TRAINING, ge=1, unit="tokens", irrelevant_for=ALL_CACHES
    )
    """End when about this many tokens were read, prompts included and padding not.

    Used instead of epochs and of the number of records.
    """

    target_flops: float | None = setting(
        None, "FLOPs to train for", Group.TRAINING, gt=0, unit="FLOP", irrelevant_for=ALL_CACHES
    )
    """End after about this many floating point operations, such as 1e15.

    Counted as 6 for each weight of a matrix and each token, 4 for frozen weights, and those of the
    attention; recomputed activations are not counted. Used instead of epochs, records and tokens.
    """
