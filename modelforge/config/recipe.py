"""Recipes: answers in a YAML or JSON file, read and written without loss."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from modelforge.errors import ConfigError, NotFoundError, Problem

LARGEST_BYTES = 1024 * 1024
DEEPEST = 20


def load_recipe(path: str | Path) -> dict[str, Any]:
    """Return the answers in the file; `resolve` checks them.

    Raises NotFoundError or ConfigError, which names the line.
    """
    path = Path(path)
    text = _text(path)
    data = _json(path, text) if path.suffix.lower() == ".json" else _yaml(path, text)
    if not isinstance(data, Mapping):
        found = "nothing" if data is None else "a list" if isinstance(data, list) else "one value"
        what = f"The file holds {found}, not settings by name."
        raise _wrong(path.name, what, "Write one setting a line, for instance: lora_r: 16")
    return dict(data)


def dump_recipe(answers: Mapping[str, Any]) -> str:
    """Return the answers as YAML that `load_recipe` reads back to the same values."""
    return yaml.dump(
        _plain(answers),
        Dumper=_Writer,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )


def _plain(value: Any) -> Any:
    # The same object twice would be written as an alias, which recipes do not have.
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _text(path: Path) -> str:
    try:
        if not path.exists():
            what, remedy = "There is no such file.", "Check the name and the folder."
            raise NotFoundError(Problem(str(path), what, remedy))
        if not path.is_file():
            raise _wrong(str(path), "This is no file.", "Give the name of a YAML or JSON file.")
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            what = f"The file has {size / LARGEST_BYTES:.1f} MiB; a recipe has 1.0 MiB at most."
            raise _wrong(str(path), what, "Give the recipe, not the data.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"The file is not UTF-8 text (byte {error.start})."
        raise _wrong(str(path), what, "Save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name cannot be one"
        what = f"The file cannot be read: {reason}."
        raise _wrong(str(path), what, "Check the name and the permissions.") from error


def _wrong(where: str, what: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(where, what, remedy))


def _json(path: Path, text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _wrong(path.name, f"'{key}' stands there twice.", "Keep one of them.")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        where = f"{path.name}, line {error.lineno}, column {error.colno}"
        raise _wrong(where, f"This is no JSON: {error.msg}.", "Correct that place.") from error
    except (RecursionError, ValueError) as error:
        what = "The file is nested too deeply, or holds a number that is too long."
        raise _wrong(path.name, what, "Write one setting a line.") from error


def _yaml(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Reader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = f"The recipe cannot be read: {error.problem or error.context}."
        remedy = "Correct that place; a text with a colon or a # belongs in quotes."
        raise _wrong(path.name + at, what, remedy) from error
    except yaml.YAMLError as error:
        what = f"The recipe cannot be read: {str(error).splitlines()[0]}."
        raise _wrong(path.name, what, "Remove the characters that cannot be shown.") from error
    except ValueError as error:
        what = f"A value cannot be read: {error}."
        raise _wrong(path.name, what, "Give a shorter number.") from error


class _Reader(yaml.SafeLoader):
    """Safe YAML with few surprises: `no` is a text, `2e-4` a number, a date a text."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; aliases and deep nesting are refused."""
        if self.check_event(yaml.AliasEvent):
            raise self._stop("recipes have no aliases")
        if self._depth > DEEPEST:
            raise self._stop(f"it is nested more than {DEEPEST} deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _stop(self, problem: str) -> yaml.MarkedYAMLError:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping; a key that stands there twice is refused."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem, mark = "a setting's name must be one word", key.start_mark
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            if key.value in seen:
                problem = f"'{key.value}' stands there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Writer(yaml.SafeDumper):
    """Quotes exactly the texts that `_Reader` would take for something else."""


def _write_text(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds these line ends into spaces in any other style.
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Writer.add_representer(str, _write_text)

_WORDS = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+0123456789.",
    ),
)
for _class in (_Reader, _Writer):
    _class.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _WORDS:
        letters = [letter.replace("\0", "") for letter in _first]
        _class.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})\Z"), letters)
