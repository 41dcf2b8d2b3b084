"""Read and check the TOML file of a profile: its keys, bounds, settings and recommended models."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.config.validation_messages import shown
from modelforge.config.visibility import inapplicable_settings
from modelforge.errors import ConfigError, Problem
from modelforge.paths import read_regular

MAX_BYTES = 256 * 1024
# Settings that a profile cannot set: those of one run, and the profile itself.
NOT_OF_A_PROFILE = frozenset(
    {"model_name", "dataset", "compute_specs", "data.sources", "data.validation_sources"}
)
_REQUIRED = {"task": "text-generation", "model_name": "any", "dataset": "any"}
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*((?:\"[^\"]*\"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:\"[^\"]*\"|[\w-]+))*)\s*=")

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Gib = Annotated[float, Field(ge=0, le=100_000)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Shape(_Table):
    """The dimensions of a model, by the names of `ModelInfo`."""

    model_type: Title = ""
    kind: Literal["decoder", "encoder-decoder", "encoder"] = "decoder"
    hidden_size: Count | None = None
    layers: Count | None = None
    heads: Count | None = None
    kv_heads: Count | None = None
    head_dim: Count | None = None
    intermediate: Count | None = None
    vocab: Count | None = None
    context: Count | None = None
    tied: bool = False


class _Model(_Table):
    name: Name
    title: Title
    parameters: Annotated[float, Field(gt=0, le=10_000)]
    licence: Sentence = ""
    note: Sentence = ""
    gated: bool = False
    practice: bool = False
    tasks: list[Literal["text-generation", "summarization", "extractive-question-answering"]] = (
        Field(["text-generation"], min_length=1)
    )
    answers: dict[str, Any] = {}
    shape: _Shape = _Shape()


class ProfileFile(_Table):
    """The content of a profile's file. Without `min_vram_gib` it is offered, never detected."""

    title: Title
    description: Sentence = ""
    min_vram_gib: Gib | None = None
    min_ram_gib: Gib = 0.0
    settings: dict[str, Any]
    practice: dict[str, Any] | None = None
    models: list[_Model] = Field([], max_length=100)

    def model_entries(self) -> list[dict[str, Any]]:
        """Return the recommended models as the catalog holds them."""
        return [
            model.model_dump(exclude={"shape"})
            | {"shape": model.shape.model_dump(exclude_unset=True)}
            for model in self.models
        ]


def read_profile(file: Path) -> ProfileFile:
    """Return the checked content of a file; raise ConfigError with every problem and its line."""
    try:
        text = read_regular(file, MAX_BYTES).decode("utf-8-sig")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise _error(file, "The file is not UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        why = error.strerror or "unknown error"
        raise _error(file, f"The file cannot be read: {why}.", "Check the file.") from error
    except tomllib.TOMLDecodeError as error:
        what = f"The profile is not valid TOML: {error}."
        raise _error(file, what, "Fix it at this position.") from error
    except (RecursionError, ValueError) as error:
        what = "The file is nested too deeply, or contains a number that is too long."
        raise _error(file, what, "Write one setting per line.") from error
    problems = list(_problems(data))
    if problems:
        raise ConfigError([_located(file, text, *problem) for problem in problems])
    return ProfileFile.model_validate(data)


# The key of a value with its parents, what is wrong, and the remedy.
_Found = tuple[tuple[str | int, ...], str, str]


def _problems(data: Mapping[str, Any]) -> Iterator[_Found]:
    models: list[_Model] = []
    try:
        models = ProfileFile.model_validate(data).models
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield _schema_problem(detail["loc"], detail["type"], detail["msg"], detail["input"])
    settings, practice = (
        flatten(table) if isinstance(table, Mapping) else {}
        for table in (data.get("settings"), data.get("practice"))
    )
    wrong = list(_setting_problems(("settings",), settings, {}))
    yield from wrong
    settings = {} if wrong else settings
    yield from _setting_problems(("practice",), practice, settings)
    for index, model in enumerate(models):
        own = flatten(model.answers)
        below = settings | {"task": model.tasks[0]}
        hidden = inapplicable_settings({**below, **own}) - own.keys()
        below = {name: value for name, value in below.items() if name not in hidden}
        yield from _setting_problems(("models", index, "answers"), own, below)


def _schema_problem(keys: tuple[str | int, ...], kind: str, message: str, value: Any) -> _Found:
    if kind == "extra_forbidden":
        table: dict[str, type[BaseModel]] = {"models": _Model, "shape": _Shape}
        parents = [str(key) for key in keys[:-1] if isinstance(key, str)]
        known = table.get(parents[-1], ProfileFile) if parents else ProfileFile
        near = difflib.get_close_matches(str(keys[-1])[:100], known.model_fields, n=1)
        return keys, "Unknown key.", f"Did you mean '{near[0]}'?" if near else "Remove it."
    if kind == "missing":
        return keys, "A value is required.", "Add it."
    return keys, f"{shown(value)} is not allowed.", f"{message}."


def _setting_problems(
    keys: tuple[str | int, ...], own: Mapping[str, Any], below: Mapping[str, Any]
) -> Iterator[_Found]:
    """Yield the problems of settings above others, which have been checked."""
    for name in sorted(NOT_OF_A_PROFILE & own.keys()):
        what = "A profile cannot set it, since it belongs to one run."
        remedy = "Recommend a model under [[models]]." if name == "model_name" else "Remove it."
        yield (*keys, name), what, remedy
    allowed = {name: value for name, value in own.items() if name not in NOT_OF_A_PROFILE}
    profile = {"compute_specs": "low_end"}
    try:
        resolve(Layer("profile", {**_REQUIRED, **profile, **below, **allowed}))
    except ConfigError as error:
        for problem in error.problems:
            what = problem.what.replace(" (given by: profile)", "")
            yield (*keys, problem.where), what, problem.remedy


def _located(file: Path, text: str, keys: tuple[str | int, ...], what: str, remedy: str) -> Problem:
    name = ".".join(str(key) for key in keys if isinstance(key, str))
    line = _line_of(text, name, next((key for key in keys if isinstance(key, int)), 0))
    where = f"{file.name}, line {line}, {name}" if line else f"{file.name}, {name}"
    return Problem(where, what, remedy)


def _line_of(text: str, name: str, index: int) -> int | None:
    """Return the line of a dotted key; `index` counts the tables of an array from 0."""
    table, count = "", -1
    for number, line in enumerate(text.splitlines(), 1):
        key = _KEY.match(line)
        if header := None if key else _HEADER.match(line):
            table = _plain(header[1])
            count += line.lstrip().startswith("[[")
            full = table
        elif key:
            full = f"{table}.{_plain(key[1])}".lstrip(".")
        else:
            continue
        in_element = not table.startswith("models") or count == index
        if in_element and (full == name or (key and name.startswith(f"{full}."))):
            return number
    return None


def _plain(key: str) -> str:
    return re.sub(r"\s*\.\s*", ".", key).replace('"', "").replace("'", "").strip()


def _error(file: Path, what: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(file.name, what, remedy))
