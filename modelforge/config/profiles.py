"""The machine profiles: thresholds, default settings and recommended models, one TOML file each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from modelforge.config.defaults import strategy_defaults
from modelforge.config.schema.base import about
from modelforge.errors import NotFoundError, Problem
from modelforge.paths import resource_folder


@dataclass(frozen=True)
class Profile:
    """A hardware profile."""

    name: str
    title: str
    description: str
    min_vram_gib: float
    min_ram_gib: float
    settings: Annotated[
        dict[str, Any], Field(alias="answers", description="The initial settings of the form.")
    ]
    # Each with name, title, parameters (billions), licence, gated, practice, note, tasks, `shape`
    # (dimensions from its config.json) and `answers` (settings that suit the model).
    models: Annotated[list[dict[str, Any]], about("The recommended models.")]
    practice: Annotated[
        dict[str, Any], about("Settings that differ from `answers` without a CUDA GPU.")
    ] = field(default_factory=dict)


def load_profiles(folder: Path | None = None) -> dict[str, Profile]:
    """Return every profile by name, the smallest machine first."""
    return _load(folder or resource_folder("profiles"))


def profile_settings(
    name: str, *, practice: bool = False, fast_bf16: bool = False
) -> dict[str, Any]:
    """Return the default settings of a form or a recipe.

    The learning rate is that of the profile's strategy. In practice mode the precision is bf16
    where the CPU is fast in it. Raises NotFoundError for an unknown profile.
    """
    profile = _profile(name)
    overrides = profile.practice if practice else {}
    if practice and fast_bf16:
        overrides = {**overrides, "hardware.precision": "bf16"}
    settings = {**profile.settings, **overrides}
    defaults = strategy_defaults(settings["strategy"], practice=practice)
    return {**defaults, **settings, "compute_specs": name}


def recommended_models(
    name: str, *, practice: bool = False, task: str = "text-generation"
) -> list[dict[str, Any]]:
    """Return the recommended models for a task: the profile's own, and the starter last.

    In practice mode: the models that a CPU can train, the starter first.
    """
    suitable = [model for model in _smallest().models if task in model["tasks"]]
    small = [model for model in suitable if model["practice"]]
    if practice:
        return [dict(model) for model in small]
    own = [model for model in _profile(name).models if task in model["tasks"] and model != small[0]]
    return [dict(model) for model in (*own, small[0])]


def _profile(name: str) -> Profile:
    profiles = load_profiles()
    if name not in profiles:
        remedy = f"Choose {', '.join(profiles)}."
        raise NotFoundError(Problem("compute_specs", f"Unknown profile '{name}'.", remedy))
    return profiles[name]


def _smallest() -> Profile:
    return next(iter(load_profiles().values()))


@cache
def _load(folder: Path) -> dict[str, Profile]:
    files = sorted(folder.glob("*.toml"))
    if not files:
        remedy = "Reinstall ModelForge."
        raise NotFoundError(Problem(str(folder), "The profiles are missing.", remedy))
    profiles = sorted(map(_read, files), key=lambda profile: profile.min_vram_gib)
    return {profile.name: profile for profile in profiles}


def _read(file: Path) -> Profile:
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    usual = {"practice": False, "gated": False, "tasks": ["text-generation"], "answers": {}}
    return Profile(
        name=file.stem,
        title=data["title"],
        description=data["description"],
        min_vram_gib=float(data["min_vram_gib"]),
        min_ram_gib=float(data["min_ram_gib"]),
        settings=data["settings"],
        models=[usual | model for model in data["models"]],
        practice=data.get("practice", {}),
    )
