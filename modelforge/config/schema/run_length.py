"""Settings of the length of a run, beyond the epochs and steps of the contract."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from modelforge.config.schema.base import ALL_CACHES, Group, SettingsGroup, setting

# The checkpoint of the newest run with the same model and data.
NEWEST = "newest"

# The settings that say how long a run is; the first that is set decides.
Measure = Literal[
    "max_steps",
    "trainer.target_flops",
    "trainer.target_tokens",
    "data.records_to_sample",
    "trainer.fractional_epochs",
    "num_train_epochs",
]


def _read_checkpoint_name(value: Any) -> Any:
    """Return true as `newest`, false as none, and a step as text; other values unchanged."""
    if value is False or str(value).strip().lower() in ("false", "no", "off"):
        return None
    if value is True or str(value).strip().lower() in ("true", "yes", "on", NEWEST):
        return NEWEST
    return str(value) if isinstance(value, int) else value


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

    resume_from_checkpoint: Annotated[str | None, BeforeValidator(_read_checkpoint_name)] = setting(
        None, "Resume from checkpoint", Group.SAVING, min_length=1, max_length=4096
    )
    """Begin with the weights, optimizer and step of a checkpoint: RUN, RUN:STEP or a folder.

    newest, or true, is that of the newest run with the same model, data and strategy, if it has
    one; a number is a step of it. The checkpoint is copied, and its run is not changed.
    """
