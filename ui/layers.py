"""The layers of one form: the profile, a recipe, the person's own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.profiles import profile_answers, recommended
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.machine import Machine
from ui import form
from ui.form import Entered


@dataclass(frozen=True)
class Stack:
    """The layers of one form, and where they start from."""

    layers: list[Layer]
    profile: str
    reason: str
    machine: Machine
    listed: Sequence[Mapping[str, Any]]

    @property
    def values(self) -> dict[str, str]:
        """Return what every control shows."""
        return form.values(self.layers)


def stack(forge: Forge, entered: Entered) -> Stack:
    """Return the layers of what was entered: profile, sample, recipe, the person's own."""
    machine = forge.machine()
    prefill = forge.prefill(index(entered.mine.get("hardware.gpu_index")))
    profiles = forge.profiles()
    name = entered.profile if entered.profile in profiles else prefill.profile
    listed = recommended(name, practice=prefill.practice)
    answers = profile_answers(name, practice=prefill.practice)
    base = form.layers(entered, name, {"model_name": listed[0]["name"], **answers})
    reason = prefill.reason if name == prefill.profile else f"You chose {profiles[name].title}."
    return Stack(base, name, reason, machine, listed)


def index(value: object) -> int:
    """Return the number of a GPU; 0 for what is none."""
    return int(value) if isinstance(value, (int, str)) and str(value).isdecimal() else 0
