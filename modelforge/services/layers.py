"""The layers of settings that a run starts from: profile, model, strategy, recipe, own values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelforge.config.profiles import load_profiles, profile_settings, recommended_models
from modelforge.hardware.machine import choose_profile
from modelforge.services.machine import MachineService


@dataclass(frozen=True)
class Prefill:
    """Initial values of the form: the profile that suits this machine, its values, and why."""

    profile: str
    title: str
    answers: dict[str, Any]
    reason: str
    practice: bool


class LayerService:
    """Build the settings that a form or a new recipe starts from."""

    def __init__(self, machine: MachineService) -> None:
        self._machine = machine

    def models(self, gpu_index: int = 0) -> list[dict[str, Any]]:
        """Return the catalog models to offer on this machine, the default one first."""
        machine = self._machine.current()
        name, _reason = choose_profile(machine, gpu_index)
        return recommended_models(name, practice=machine.practice_mode)

    def prefill(self, gpu_index: int = 0) -> Prefill:
        """Return the values that the form and `modelforge init` start from."""
        machine = self._machine.current()
        name, reason = choose_profile(machine, gpu_index)
        answers = profile_settings(
            name, practice=machine.practice_mode, fast_bf16=machine.fast_bf16
        )
        title = load_profiles()[name].title
        return Prefill(name, title, answers, reason, machine.practice_mode)
