"""The nested group about differential privacy."""

from __future__ import annotations

from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    Group,
    SettingsGroup,
    setting,
)

# The delta of a number of rows, where none is set: 1 / rows ** 1.2.
DELTA_POWER = 1.2


class Privacy(SettingsGroup):
    """Training with differential privacy (DP-SGD)."""

    enabled: bool = setting(False, "Differential privacy", Group.PRIVACY, affects=BOTH)
    """Bound what the trained weights can reveal about any single row of the data.

    The gradient of each row is clipped and noise is added, so a run takes longer and learns less.
    It needs the extra `privacy`, for supervised fine-tuning. See docs/privacy.md for what is
    protected, and what is not.
    """

    epsilon: float = setting(
        8.0, "Privacy budget", Group.PRIVACY, ge=0.01, le=1000, irrelevant_for=ALL_CACHES
    )
    """The epsilon that the whole run may spend: less is more private and needs more noise.

    Around 1 is strong, 8 is usual for fine-tuning, and far above 10 promises little.
    """

    delta: float | None = setting(
        None, "Privacy delta", Group.PRIVACY, gt=0, lt=1, irrelevant_for=ALL_CACHES
    )
    """The probability that the bound does not hold; empty means 1 / rows ^ 1.2."""

    max_grad_norm: float = setting(
        1.0, "Gradient norm of a row", Group.PRIVACY, gt=0, le=1000, irrelevant_for=ALL_CACHES
    )
    """The gradient of each row is clipped to this norm. The noise is proportional to it."""


def auto_delta(rows: int) -> float:
    """Return the delta for a number of training rows: 1 / rows ^ 1.2."""
    return float(max(rows, 2) ** -DELTA_POWER)
