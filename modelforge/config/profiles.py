"""The classes of machine: thresholds, starting values and recommended models, one TOML each."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from modelforge.config.defaults import strategy_defaults
from modelforge.errors import NotFoundError, Problem
from modelforge.paths import resource_folder


@dataclass(frozen=True)
class Profile:
    """One class of machine. `practice` holds what differs where there is no CUDA card.

    A model has `name, title, parameters` (billions)`, licence, gated, practice, note, tasks`, and
    its `shape`: what its config.json says of layers and widths. `answers` are what it is best
    begun with beside the profile's own.
    """

    name: str
    title: str
    description: str
    min_vram_gib: float
    min_ram_gib: float
    settings: dict[str, Any]
    models: list[dict[str, Any]]
    practice: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the profile as public JSON, where the settings are called `answers`."""
        data = asdict(self)
        data["answers"] = data.pop("settings")
        return data


def load_profiles(folder: Path | None = None) -> dict[str, Profile]:
    """Return every profile by name, the smallest machine first."""
    return dict(_load(folder or resource_folder("profiles")))


def profile_settings(
    name: str, *, practice: bool = False, fast_bf16: bool = False
) -> dict[str, Any]:
    """Return the answers that a form or a recipe starts from; raises NotFoundError.

    The learning rate is the one advised for the profile's strategy. In practice mode the number
    format is bf16 where the processor is quick in it.
    """
    profile = _profile(name)
    if practice and fast_bf16:
        return {**profile_settings(name, practice=True), "hardware.precision": "bf16"}
    answers = {**profile.settings, **(profile.practice if practice else {})}
    return {
        **strategy_defaults(answers["strategy"], practice=practice),
        **answers,
        "compute_specs": name,
    }


def recommended_models(
    name: str, *, practice: bool = False, task: str = "text-generation"
) -> list[dict[str, Any]]:
    """Return the models to offer for a task: the profile's own, and the starter last.

    In practice mode those that a CPU can train, the starter first.
    """
    fitting = [model for model in _smallest().models if task in model["tasks"]]
    small = [model for model in fitting if model["practice"]]
    if practice:
        return [dict(model) for model in small]
    own = [model for model in _profile(name).models if task in model["tasks"] and model != small[0]]
    return [dict(model) for model in (*own, small[0])]


def _profile(name: str) -> Profile:
    profiles = load_profiles()
    if name not in profiles:
        remedy = f"Choose {', '.join(profiles)}."
        raise NotFoundError(Problem("compute_specs", f"There is no profile '{name}'.", remedy))
    return profiles[name]


def _smallest() -> Profile:
    return next(iter(load_profiles().values()))


@cache
def _load(folder: Path) -> tuple[tuple[str, Profile], ...]:
    files = sorted(folder.glob("*.toml"))
    if not files:
        remedy = "Install ModelForge again."
        raise NotFoundError(Problem(str(folder), "The profiles are missing.", remedy))
    profiles = [_read(file) for file in files]
    profiles.sort(key=lambda profile: profile.min_vram_gib)
    return tuple((profile.name, profile) for profile in profiles)


def _read(file: Path) -> Profile:
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    usual = {"practice": False, "gated": False, "tasks": ["text-generation"], "answers": {}}
    return Profile(
        name=file.stem,
        title=data["title"],
        description=data["description"],
        min_vram_gib=float(data["min_vram_gib"]),
        min_ram_gib=float(data["min_ram_gib"]),
        settings=data["answers"],
        models=[usual | model for model in data["models"]],
        practice=data.get("practice", {}),
    )
