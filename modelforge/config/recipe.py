"""Recipes: settings in a YAML or JSON file, read and written without loss."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.paths import read_regular
from modelforge.units import MIB

MAX_BYTES = MIB
MAX_DEPTH = 20


def load_recipe(path: str | Path) -> dict[str, Any]:
    """Return the settings in the file; `resolve` validates them.

    Raises NotFoundError or ConfigError, which names the line.
    """
    path = Path(path)
    text = read_recipe_file(path)
    data = _json(path, text) if path.suffix.lower() == ".json" else _yaml(path, text)
    if not isinstance(data, Mapping):
        content = {type(None): "nothing", list: "a list"}.get(type(data), "a single value")
        what = f"The file contains {content} instead of settings by name."
        raise _error(path.name, what, "Write one setting per line, for instance: lora_r: 16")
    return dict(data)


def dump_recipe(values: Mapping[str, Any]) -> str:
    """Return the settings as YAML that `load_recipe` reads back to the same values."""
    return yaml.dump(
        _plain(values),
        Dumper=_Writer,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )


def _plain(value: Any) -> Any:
    # PyYAML writes an object that occurs twice as an alias, which recipes do not support.
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def read_recipe_file(path: Path) -> str:
    """Return the text of a file of settings; raises NotFoundError or ConfigError."""
    try:
        if not path.exists():
            what, remedy = "The file does not exist.", "Check the name and the folder."
            raise NotFoundError(Problem(str(path), what, remedy))
        if not path.is_file():
            raise _error(str(path), "This is not a file.", "Enter the name of a YAML or JSON file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            what = f"The file has {size / MIB:.1f} MiB; a recipe has at most 1.0 MiB."
            raise _error(str(path), what, "Select the recipe, not the data.")
        return read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"The file is not UTF-8 text (byte {error.start})."
        raise _error(str(path), what, "Save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "invalid name"
        what = f"The file cannot be read: {reason}."
        raise _error(str(path), what, "Check the name and the permissions.") from error


def _error(where: str, what: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(where, what, remedy))


def _json(path: Path, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                raise _error(path.name, f"'{key}' occurs twice.", "Keep one of them.")
            values[key] = value
        return values

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        where = f"{path.name}, line {error.lineno}, column {error.colno}"
        raise _error(where, f"Invalid JSON: {error.msg}.", "Fix it at this position.") from error
    except (RecursionError, ValueError) as error:
        what = "The file is nested too deeply, or contains a number that is too long."
        raise _error(path.name, what, "Write one setting per line.") from error


def _yaml(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=Reader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = f"The recipe cannot be read: {error.problem or error.context}."
        remedy = "Fix it at this position; put text with a colon or a # in quotes."
        raise _error(path.name + at, what, remedy) from error
    except yaml.YAMLError as error:
        what = f"The recipe cannot be read: {str(error).splitlines()[0]}."
        raise _error(path.name, what, "Remove the control characters.") from error
    except ValueError as error:
        what = f"A value cannot be read: {error}."
        raise _error(path.name, what, "Enter a shorter number.") from error


class Reader(yaml.SafeLoader):
    """Safe YAML where `no` and dates are text, and `2e-4` is a number."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; refuse aliases and deep nesting."""
        if self.check_event(yaml.AliasEvent):
            raise self._stop("recipes do not support aliases")
        if self._depth > MAX_DEPTH:
            raise self._stop(f"it is nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _stop(self, problem: str) -> yaml.MarkedYAMLError:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping; refuse duplicate keys."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem, mark = "the name of a setting must be text", key.start_mark
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            if key.value in seen:
                problem = f"'{key.value}' occurs twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Writer(yaml.SafeDumper):
    """Quotes exactly the text that `Reader` would read as another type."""


def _represent_text(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # In other styles PyYAML folds these line breaks into spaces.
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Writer.add_representer(str, _represent_text)

_SCALARS = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+0123456789.",
    ),
)
for _class in (Reader, _Writer):
    _class.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _SCALARS:
        letters = [letter.replace("\0", "") for letter in _first]
        _class.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})\Z"), letters)
