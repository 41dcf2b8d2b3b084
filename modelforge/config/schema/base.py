"""Metadata of a setting, the groups of the form, and the base class of nested groups."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

Aspect = Literal["memory", "speed"]
# The caches of measured results: memory traces and trial runs (see preflight/cache_key.py).
Cache = Literal["memory", "trial_run"]
BOTH: tuple[Aspect, ...] = ("memory", "speed")
MEMORY: tuple[Aspect, ...] = ("memory",)
SPEED: tuple[Aspect, ...] = ("speed",)
ALL_CACHES: tuple[Cache, ...] = ("memory", "trial_run")


class GroupName(StrEnum):
    """The groups of the form, in the order in which it shows them."""

    TASK = "Task"
    TRAINING = "Training"
    PREFERENCES = "Preferences"
    REWARDS = "Rewards"
    ADAPTER = "Adapter"
    DATA = "Data"
    EVALUATION = "Evaluation"
    SAVING = "Saving"
    QUANTIZATION = "Quantization"
    PRECISION = "Precision"
    OPTIMIZER = "Optimizer"
    MEMORY = "Memory"
    HARDWARE = "Hardware"
    MODEL = "Model"
    LOGGING = "Logging"


@dataclass(frozen=True)
class SettingInfo:
    """How a setting is shown, and what it affects. The schema declares type, bounds and default.

    Attributes:
        help: One sentence under the control.
        more: Further explanation behind the `?`.
        unit: Unit shown after the number.
        group: Group of the form; None for the settings of a data source.
        basic: Shown without "all settings".
        multiline: Text that may contain line breaks.
        affects: Estimates that must take the setting into account (tests/preflight/test_affects).
        irrelevant_for: Caches whose key leaves the setting out: it has no effect there, or the
            key contains its effective value from the plan.
    """

    label: str
    help: str
    more: str = ""
    unit: str = ""
    group: GroupName | None = None
    basic: bool = False
    multiline: bool = False
    affects: tuple[Aspect, ...] = ()
    irrelevant_for: tuple[Cache, ...] = ()


class SettingsGroup(BaseModel):
    """Base class of groups of settings. Unknown keys are refused; numbers must be finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )
