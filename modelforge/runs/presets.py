"""Presets: named settings without data, shipped ones and those of the user.

Those of the user are YAML files in the home, read like a recipe.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from modelforge.config.recipe import dump_recipe, load_recipe
from modelforge.config.resolve import Layer, flatten, nest, value_problems
from modelforge.config.schema.base import about
from modelforge.config.style_presets import STYLES
from modelforge.errors import ConfigError, ForgeError, NotFoundError, Problem
from modelforge.runs.atomic_files import disk_error, write_text

SUFFIX = ".yaml"
MAX_PRESETS = 100
MAX_NAME = 60
# What a preset never holds: the data of a run.
DATA = frozenset({"dataset", "data.sources", "data.validation_sources"})
_NAME = re.compile(r"[^\W_][\w ()+,-]*")
# Names of devices on Windows, with any suffix.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Preset:
    """A named set of settings without data."""

    name: str
    settings: Annotated[dict[str, Any], about("The settings, nested by group as in a recipe.")]
    problem: Annotated[str, about("Why the file cannot be used; empty if it can.")] = ""
    description: Annotated[str, about("What it stands for; empty for those of the user.")] = ""
    is_shipped: Annotated[bool, about("Whether it ships with the program.")] = False


@cache
def shipped_presets() -> dict[str, Preset]:
    """Return the presets that ship with the program, by name."""
    return {
        style.name: Preset(
            style.name, style.settings, description=style.description, is_shipped=True
        )
        for style in STYLES
    }


class PresetService:
    """List, read, store, rename and delete presets. Files that a user puts there count too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Preset]:
        """Return the presets of the user by name, then the shipped ones.

        A file that cannot be read has its `problem`.
        """
        own = self._names()
        shipped = [preset for preset in shipped_presets().values() if preset.name not in own]
        return [*(self._listed(name) for name in own), *shipped]

    def read(self, name: str) -> Preset:
        """Return a preset; raise NotFoundError, or ConfigError with every problem of its file."""
        own = self._names()
        if name not in own and name in shipped_presets():
            return shipped_presets()[name]
        if name not in own:
            known = ", ".join(dict.fromkeys([*own, *shipped_presets()]))
            raise NotFoundError(
                Problem("preset", f"There is no preset “{name}”.", f"There are: {known}.")
            )
        settings = load_recipe(self._file(name))
        problems = _problems(settings)
        if problems:
            raise ConfigError(
                [Problem(f"{name}{SUFFIX}, {p.where}", p.what, p.remedy) for p in problems]
            )
        return Preset(name, settings)

    def save(self, name: str, settings: Mapping[str, Any], *, replace: bool = True) -> Preset:
        """Store settings under a name; raise ConfigError for an unusable name or settings."""
        name = clean_name(name)
        names = self._names()
        _refuse_shipped(name)
        existing = next((one for one in names if one.casefold() == name.casefold()), None)
        if existing is not None and not replace:
            raise _taken(existing)
        if existing is None and len(names) >= MAX_PRESETS:
            what = f"There are {MAX_PRESETS} presets, as many as are kept."
            raise ConfigError(Problem("name", what, "Delete one first."))
        if not flatten(settings):
            what = "There are no settings to store."
            raise ConfigError(Problem("settings", what, "Change a setting first."))
        problems = _problems(settings)
        if problems:
            raise ConfigError(problems)
        nested = nest(flatten(settings))
        self._write(existing or name, nested)
        return Preset(existing or name, nested)

    def rename(self, name: str, new_name: str) -> Preset:
        """Give a preset another name; the file is never absent in between."""
        preset, new = self.read(name), clean_name(new_name)
        _refuse_shipped(name if preset.is_shipped else new)
        taken = next((one for one in self._names() if one.casefold() == new.casefold()), name)
        if taken != name:
            raise _taken(taken)
        try:
            self._file(name).rename(self._file(new))
        except OSError as error:
            raise disk_error(error, self._file(new)) from error
        return Preset(new, preset.settings)

    def delete(self, name: str) -> None:
        """Delete a preset; raise NotFoundError for an unknown one."""
        if name not in self._names():
            _refuse_shipped(name)
            raise NotFoundError(
                Problem("preset", f"There is no preset “{name}”.", "Reload the list.")
            )
        try:
            self._file(name).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, self._file(name)) from error

    def _names(self) -> list[str]:
        try:
            stems = [file.stem for file in self._folder.iterdir() if file.suffix == SUFFIX]
        except OSError:
            return []
        usable = [stem for stem in stems if is_name(stem)]
        return sorted(usable, key=str.casefold)[:MAX_PRESETS]

    def _listed(self, name: str) -> Preset:
        try:
            return self.read(name)
        except ForgeError as error:
            return Preset(name, {}, str(error.problems[0]))

    def _write(self, name: str, settings: Mapping[str, Any]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self._folder) from error
        write_text(self._file(name), dump_recipe(settings))

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{SUFFIX}"


def is_name(name: str) -> bool:
    """Return whether a text can be the name of a preset, which is the name of its file."""
    return (
        len(name) <= MAX_NAME
        and bool(_NAME.fullmatch(name))
        and name == name.strip()
        and not _DEVICES.fullmatch(name)
    )


def clean_name(name: str) -> str:
    """Return a name without surrounding spaces; raise ConfigError if it cannot be one."""
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if is_name(name):
        return name
    what = f"“{name[:MAX_NAME]}” cannot be the name of a preset." if name else "The name is empty."
    remedy = f"Use letters, digits, spaces, and any of _ - + , ( ); at most {MAX_NAME} characters."
    raise ConfigError(Problem("name", what, remedy))


def _refuse_shipped(name: str) -> None:
    """Raise ConfigError for the name of a preset that ships with the program, in any case."""
    shipped = next((one for one in shipped_presets() if one.casefold() == name.casefold()), None)
    if shipped is not None:
        what = f"The preset “{shipped}” ships with the program and cannot be changed."
        raise ConfigError(Problem("name", what, "Choose another name."))


def _taken(name: str) -> ConfigError:
    what = f"There is a preset “{name}”."
    return ConfigError(Problem("name", what, "Choose another name, or delete it first."))


def _problems(settings: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of single values; rules between settings depend on the others."""
    problems = value_problems(Layer("preset", settings))
    for name in sorted(DATA & flatten(settings).keys()):
        problems.append(Problem(name, "A preset holds no data.", "Remove it."))
    return problems
