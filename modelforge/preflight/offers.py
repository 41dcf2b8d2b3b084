"""What a model of the catalogue would need here, by arithmetic on its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelforge.config.plan import make_plan
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ForgeError
from modelforge.models.catalogue import facts_of
from modelforge.preflight.footing import ground_of
from modelforge.preflight.memory import estimate, total_gib

if TYPE_CHECKING:
    from modelforge.machine import Machine

TIGHT = 0.9
ANY_DATA = "any"


@dataclass(frozen=True)
class Need:
    """The memory of a run with one model, and what is free for it; None is unknown."""

    gib: float | None = None
    free_gib: float | None = None

    @property
    def fits(self) -> bool | None:
        """Say whether it fits; None while nobody knows."""
        known = self.gib is not None and self.free_gib is not None
        return (self.gib or 0) <= (self.free_gib or 0) if known else None

    @property
    def is_tight(self) -> bool:
        """Say whether it fits only just."""
        return bool(self.fits) and (self.gib or 0) > TIGHT * (self.free_gib or 0)


def need(model: Mapping[str, Any], machine: Machine, *layers: Layer) -> Need:
    """Return what a run with these answers needs when `model` is the one; unknown for bad ones."""
    named = Layer("model", {"model_name": model["name"], "dataset": ANY_DATA})
    try:
        config = resolve(*layers, named).config
    except ForgeError:
        return Need()
    facts = facts_of(model)
    ground = ground_of(config, machine, facts)
    parts = estimate(config, make_plan(config, ground), facts)
    gpu = next((one for one in machine.gpus if one.index == config.hardware.gpu_index), None)
    on_card = gpu.free_gib if gpu else None
    return Need(total_gib(parts), on_card if ground.device == "cuda" else machine.ram_free_gib)
