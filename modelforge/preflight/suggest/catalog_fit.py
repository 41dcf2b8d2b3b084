"""What a model of the catalogue would need here, by arithmetic on its shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.config.plan.make import make_plan
from modelforge.config.profiles import load_profiles
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ForgeError
from modelforge.models.catalog import catalog_model_info
from modelforge.paths import Home
from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.estimate import part_gib
from modelforge.preflight.plan_context import build_plan_context
from modelforge.preflight.suggest.fit import can_fit, is_tight

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine

ANY_DATA = "any"
# Nothing is said of a home where only memory is asked about.
NOWHERE = Home(Path())


@dataclass(frozen=True)
class FitEstimate:
    """The memory of a run with one model, and what is free for it; None is unknown.

    `can_fit` says whether it fits once all is saved that can be.
    """

    gib: float | None = None
    free_gib: float | None = None
    can_fit: bool | None = None

    @property
    def fits(self) -> bool | None:
        """Say whether it fits; None while nobody knows."""
        known = self.gib is not None and self.free_gib is not None
        return (self.gib or 0) <= (self.free_gib or 0) if known else None

    @property
    def is_hopeless(self) -> bool:
        """Return whether the model does not fit with any settings."""
        return self.fits is False and self.can_fit is False

    @property
    def is_tight(self) -> bool:
        """Say whether it fits only just."""
        return bool(self.fits) and is_tight(self.gib, self.free_gib)


def estimate_fit(
    model: Mapping[str, Any], machine: Machine, *layers: Layer, look: DatasetSummary | None = None
) -> FitEstimate:
    """Return what a run with these answers needs when `model` is the one; unknown for bad ones."""
    case = _case(model, machine, layers, look)
    return (
        FitEstimate(case.memory_total_gib, case.available_gib, can_fit(case))
        if case
        else FitEstimate()
    )


def estimate_fit_by_size(
    billions: float | None, machine: Machine, *layers: Layer, look: DatasetSummary | None = None
) -> FitEstimate:
    """Return about what a model needs of which only the size is known.

    It is taken for one of the catalogue, the nearest in size, with all that grows grown alike.
    """
    if not billions:
        return FitEstimate()
    models = [model for profile in load_profiles().values() for model in profile.models]
    near = min(models, key=lambda model: abs(math.log(model["parameters"] / billions)))
    case = _case(near, machine, layers, look)
    if case is None or case.memory_total_gib is None:
        return FitEstimate()
    stays = part_gib(case.memory, "overhead")
    grown = (case.memory_total_gib - stays) * billions / near["parameters"]
    return FitEstimate(stays + grown, case.available_gib)


def _case(
    model: Mapping[str, Any], machine: Machine, layers: Sequence[Layer], look: DatasetSummary | None
) -> RunContext | None:
    named = Layer("model", {"model_name": model["name"], "dataset": ANY_DATA})
    try:
        config = resolve(*layers, named).config
    except ForgeError:
        return None
    facts = catalog_model_info(model)
    plan = make_plan(config, build_plan_context(config, machine, facts, look=look))
    return RunContext(config, plan, machine, facts, look, NOWHERE)
