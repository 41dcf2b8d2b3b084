"""The profiles: thresholds, default settings and recommended models, one TOML file each.

Those of the folder `profiles/` are shipped; those of `<home>/profiles/` are the user's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from modelforge.config.defaults import strategy_defaults, without_four_bits
from modelforge.config.profile_files import read_profile
from modelforge.config.schema.base import about
from modelforge.config.schema.contract import PROFILE_NAME
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.paths import folder_stamp, resource_folder

MAX_OWN = 50
DEFAULT_LENGTH = 512
# Names of other origins of settings, which a profile would be mistaken for.
RESERVED = frozenset({"recipe", "form", "you", "default", "contract", "init"})


@dataclass(frozen=True)
class Profile:
    """A hardware profile."""

    name: str
    title: str
    description: str
    min_vram_gib: Annotated[
        float | None,
        about("GPU memory from which the profile is detected; null if it is only offered."),
    ]
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
    own: Annotated[bool, about("Whether its file is in the home folder.")] = False

    @property
    def length(self) -> int:
        """The length of rows in tokens where a run does not set one."""
        return int(self.settings.get("max_seq_length") or DEFAULT_LENGTH)


@dataclass(frozen=True)
class _Found:
    profiles: dict[str, Profile]
    problems: list[Problem]


def load_profiles(own: Path | None = None) -> dict[str, Profile]:
    """Return every profile by name, the smallest machine first; `own` is the user's folder.

    Own profiles with problems are left out: see `profile_problems`.
    """
    return _find(own).profiles


def profile_problems(own: Path) -> list[Problem]:
    """Return what is wrong with the files of the user's folder."""
    return _find(own).problems


def profile_length(name: str, own: Path | None = None) -> int:
    """Return the length of rows of a profile in tokens; of one that is gone, the shortest."""
    profile = load_profiles(own).get(name)
    return DEFAULT_LENGTH if profile is None else profile.length


def profile_settings(
    name: str,
    *,
    practice: bool = False,
    fast_bf16: bool = False,
    profiles: Mapping[str, Profile] | None = None,
) -> dict[str, Any]:
    """Return the default settings of a form or a recipe; `profiles` are the shipped ones if None.

    The learning rate is that of the profile's strategy. Without an NVIDIA GPU the weights are not
    in 4 bits, unless the practice table says so, and the precision is bf16 where the CPU is fast in
    it. Raises NotFoundError for an unknown profile.
    """
    profile = _profile(name, profiles)
    overrides = profile.practice if practice else {}
    if practice and fast_bf16:
        overrides = {**overrides, "hardware.precision": "bf16"}
    usual = {"task": "text-generation", "strategy": "sft"}
    settings = {**usual, **profile.settings, **overrides}
    if practice and "use_4bit" not in overrides:
        settings = without_four_bits(settings)
    defaults = strategy_defaults(settings["strategy"], practice=practice)
    return {**defaults, **settings, "compute_specs": name}


def recommended_models(
    name: str,
    *,
    practice: bool = False,
    task: str = "text-generation",
    profiles: Mapping[str, Profile] | None = None,
) -> list[dict[str, Any]]:
    """Return the recommended models for a task: the profile's own, and the starter last.

    Without an NVIDIA GPU: the models that a CPU can train, the starter first. A profile without
    models for the task recommends those of the shipped profile for the same GPU memory.
    """
    suitable = [model for model in _smallest().models if task in model["tasks"]]
    small = [model for model in suitable if model["practice"]]
    if practice:
        return [dict(model) for model in small]
    profile = _profile(name, profiles)
    own = [model for model in profile.models if task in model["tasks"] and model != small[0]]
    if not own and profile.own:
        return recommended_models(_shipped_like(profile).name, task=task)
    return [dict(model) for model in (*own, small[0])]


def _shipped_like(profile: Profile) -> Profile:
    """Return the shipped profile for the GPU memory of another one."""
    vram = profile.min_vram_gib or 0.0
    return [one for one in load_profiles().values() if (one.min_vram_gib or 0.0) <= vram][-1]


def _profile(name: str, profiles: Mapping[str, Profile] | None) -> Profile:
    profiles = load_profiles() if profiles is None else profiles
    if name not in profiles:
        remedy = f"Choose {', '.join(profiles)}."
        raise NotFoundError(Problem("compute_specs", f"Unknown profile '{name}'.", remedy))
    return profiles[name]


def _smallest() -> Profile:
    return next(iter(load_profiles().values()))


def _find(own: Path | None) -> _Found:
    folder = resource_folder("profiles")
    if own is None or own == folder:
        return _Found(_shipped(folder), [])
    return _own(own, folder_stamp(own))


@cache
def _shipped(folder: Path) -> dict[str, Profile]:
    """Return the profiles of a folder; raise ConfigError if one is wrong."""
    files = sorted(folder.glob("*.toml"))
    if not files:
        remedy = "Reinstall ModelForge."
        raise NotFoundError(Problem(str(folder), "The profiles are missing.", remedy))
    return _in_order([_read(file) for file in files])


@lru_cache(maxsize=16)
def _own(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> _Found:
    """Return the shipped profiles and those of a folder, whose state is `stamp`."""
    shipped = _shipped(resource_folder("profiles"))
    files = [folder / name for name, _, _ in stamp if name.endswith(".toml")]
    profiles, problems = list(shipped.values()), []
    if len(files) > MAX_OWN:
        what = f"{len(files)} profiles are too many; the first {MAX_OWN} are read."
        problems.append(Problem(str(folder), what, "Remove some."))
    for file in files[:MAX_OWN]:
        problem = _name_problem(file, shipped)
        if problem is not None:
            problems.append(problem)
            continue
        try:
            profiles.append(_with_practice(_read(file), next(iter(shipped.values()))))
        except ConfigError as error:
            problems += error.problems
    return _Found(_in_order(profiles), problems)


def _in_order(profiles: list[Profile]) -> dict[str, Profile]:
    """Return the profiles by name; of equal thresholds the user's own comes last."""
    ordered = sorted(
        profiles,
        key=lambda one: (
            float("inf") if one.min_vram_gib is None else one.min_vram_gib, one.own, one.name,
        ),
    )  # fmt: skip
    return {profile.name: profile for profile in ordered}


def _name_problem(file: Path, shipped: Mapping[str, Profile]) -> Problem | None:
    name = file.stem
    if name in shipped or name in RESERVED:
        kind = "a shipped profile" if name in shipped else "reserved"
        what = f"The name {name} is {kind}, so the file is not read."
        return Problem(file.name, what, "Rename the file.")
    if re.fullmatch(PROFILE_NAME, name):
        return None
    what = "The name of a profile has small letters, digits, _ and -, at most 40 characters."
    return Problem(file.name, what, "Rename the file.")


def _with_practice(profile: Profile, smallest: Profile) -> Profile:
    """Return an own profile.

    Without a practice table it has that of the smallest profile, below its own settings.
    """
    practice = profile.practice or {
        name: value for name, value in smallest.practice.items() if name not in profile.settings
    }
    return replace(profile, own=True, practice=practice)


def _read(file: Path) -> Profile:
    content = read_profile(file)
    return Profile(
        name=file.stem,
        title=content.title,
        description=content.description,
        min_vram_gib=content.min_vram_gib,
        min_ram_gib=content.min_ram_gib,
        settings=content.settings,
        models=content.model_entries(),
        practice=content.practice or {},
    )
