"""Estimate whether the models of the catalog fit into the memory."""

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
from modelforge.models.architecture import catalog_model_info
from modelforge.paths import Home
from modelforge.preflight.context import RunContext, build_plan_context
from modelforge.preflight.memory.estimate import part_gib
from modelforge.preflight.suggest.fit import can_fit, is_tight

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine

ANY_DATA = "any"
# The home does not matter for an estimate of memory.
NO_HOME = Home(Path())


@dataclass(frozen=True)
class FitEstimate:
    """The memory of a run with one model, and the free memory; None is unknown.

    `can_fit` is whether it fits with all savings.
    """

    gib: float | None = None
    free_gib: float | None = None
    can_fit: bool | None = None

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None where it is unknown."""
        if self.gib is None or self.free_gib is None:
            return None
        return self.gib <= self.free_gib

    @property
    def is_hopeless(self) -> bool:
        """Return whether the model does not fit with any settings."""
        return self.fits is False and self.can_fit is False

    @property
    def is_tight(self) -> bool:
        """Whether it barely fits."""
        return bool(self.fits) and is_tight(self.gib, self.free_gib)


def estimate_fit(
    model: Mapping[str, Any],
    machine: Machine,
    *layers: Layer,
    summary: DatasetSummary | None = None,
) -> FitEstimate:
    """Return the estimate for a model of the catalog; unknown with invalid settings."""
    context = _context(model, machine, layers, summary)
    if context is None:
        return FitEstimate()
    return FitEstimate(context.memory_total_gib, context.available_gib, can_fit(context))


def estimate_fit_by_size(
    billions: float | None,
    machine: Machine,
    *layers: Layer,
    summary: DatasetSummary | None = None,
) -> FitEstimate:
    """Return the estimate for a model of which only the number of parameters is known.

    Scales the memory of the model of the catalog that is nearest in size.
    """
    if not billions:
        return FitEstimate()
    models = [model for profile in load_profiles().values() for model in profile.models]
    nearest = min(models, key=lambda model: abs(math.log(model["parameters"] / billions)))
    context = _context(nearest, machine, layers, summary)
    if context is None or context.memory_total_gib is None:
        return FitEstimate()
    constant = part_gib(context.memory, "overhead")
    scaled = (context.memory_total_gib - constant) * billions / nearest["parameters"]
    return FitEstimate(constant + scaled, context.available_gib)


def _context(
    model: Mapping[str, Any],
    machine: Machine,
    layers: Sequence[Layer],
    summary: DatasetSummary | None,
) -> RunContext | None:
    named = Layer("model", {"model_name": model["name"], "dataset": ANY_DATA})
    try:
        config = resolve(*layers, named).config
    except ForgeError:
        return None
    info = catalog_model_info(model)
    plan = make_plan(config, build_plan_context(config, machine, info, summary=summary))
    return RunContext(config, plan, machine, info, summary, NO_HOME)
