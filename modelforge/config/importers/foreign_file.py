"""Read a file of another system, or a command line, with the line of every option."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from modelforge.config.recipe import MAX_BYTES, Reader
from modelforge.config.validation_messages import shown
from modelforge.errors import ConfigError, Problem
from modelforge.units import human_bytes

# YAML 1.1, as these systems read it.
_YES, _NO = ("yes", "Yes", "YES", "on", "On", "ON"), ("no", "No", "NO", "off", "Off", "OFF")


MAX_COMMAND_CHARS = 20_000
# The name of a command line's program among the options.
PROGRAM = "(program)"


@dataclass(frozen=True)
class ForeignFile:
    """The content of a file, nested as it is written there.

    Attributes:
        lines: The line of each option by dotted name; items of lists are `datasets[0].path`.
        command: Whether it is a command line, whose options have no lines.
        program: What a command line starts, such as `torchrun`; empty for a file.
        beside: Content of files that this one refers to, by name.
    """

    name: str
    values: dict[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    command: bool = False
    program: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)

    def line(self, name: str) -> int | None:
        """Return the line of an option; that of what it stands in if it has none of its own."""
        while name not in self.lines and ("." in name or "[" in name):
            name = name[: max(name.rfind("."), name.rfind("["))]
        return self.lines.get(name)

    def where(self, name: str) -> str:
        """Return the place of an option for a message."""
        line = self.line(name)
        return f"{self.name}, line {line}, {name}" if line else f"{self.name}, {name}"


def read_text(text: str, name: str) -> ForeignFile:
    """Return the content of YAML or JSON; raises ConfigError, which names the line."""
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        what = f"The file has {human_bytes(size)}."
        raise ConfigError(Problem(name, what, f"Files of settings have up to {MAX_BYTES:,} bytes."))
    try:
        reader = _ForeignReader(text)
        node = reader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            what = "The file contains no settings by name."
            raise ConfigError(Problem(name, what, "Choose the file with the settings."))
        values = reader.construct_document(node)
        return ForeignFile(name, values, dict(_lines(node, "")))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        what = f"The file cannot be read: {error.problem or error.context}."
        raise ConfigError(Problem(at, what, "Correct it there.")) from error
    except (yaml.YAMLError, ValueError) as error:
        what = f"The file cannot be read: {str(error).splitlines()[0]}."
        raise ConfigError(Problem(name, what, "Save it as YAML or JSON.")) from error


def read_command(text: str, name: str = "the command line") -> ForeignFile:
    """Return the options of a command line such as `trl sft --learning_rate 2e-4`.

    What follows the first word with dashes are options: `--name=value`, `--name value`, several
    values, or a switch. Raises ConfigError.
    """
    if len(text) > MAX_COMMAND_CHARS:
        what = f"It has {len(text):,} characters."
        remedy = f"Command lines have up to {MAX_COMMAND_CHARS:,} characters."
        raise ConfigError(Problem(name, what, remedy))
    try:
        parts = shlex.split(text.replace("\\\n", " "))
    except ValueError as error:
        what = f"The command line cannot be read: {error}."
        raise ConfigError(Problem(name, what, "Close the quotes.")) from error
    start = _options_start(parts)
    values: dict[str, Any] = {}
    for option, found in _options(parts[start:], name):
        # Most programs read both spellings; the tables have underscores.
        key = option.replace("-", "_")
        if key in values:
            what = f"--{option} is given twice."
            raise ConfigError(Problem(name, what, "Keep one of them."))
        values[key] = found
    for part in parts[:start]:
        if part.endswith((".yaml", ".yml", ".json")):
            values.setdefault("config", part)
    program = " ".join(parts[:start])
    return ForeignFile(name, values, command=True, program=program, beside={PROGRAM: program})


def _options_start(parts: list[str]) -> int:
    """Return where the options of the program begin, after those of a launcher such as torchrun."""
    if "--" in parts:
        return parts.index("--") + 1
    launched = [
        at + 1
        for at, part in enumerate(parts)
        if part.endswith(".py") or (at and parts[at - 1] == "-m")
    ]
    begin = launched[0] if launched else 0
    return next((at for at in range(begin, len(parts)) if parts[at].startswith("--")), len(parts))


def _options(parts: list[str], name: str) -> Iterator[tuple[str, Any]]:
    at = 0
    while at < len(parts):
        part = parts[at]
        at += 1
        if not part.startswith("--"):
            what = f"{shown(part)} is not an option."
            raise ConfigError(Problem(name, what, "Options begin with two dashes."))
        option, equals, text = part[2:].partition("=")
        if equals:
            yield option, _value(text)
            continue
        following = []
        while at < len(parts) and not parts[at].startswith("--"):
            following.append(_value(parts[at]))
            at += 1
        yield option, True if not following else following[0] if len(following) == 1 else following


def _value(text: str) -> Any:
    """Return a word of a command line as a bool, a number, JSON or text."""
    if text.startswith(("{", "[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    try:
        reader = _ForeignReader(text)
        node = reader.get_single_node()
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return reader.construct_document(node) if is_plain else text
    except (yaml.YAMLError, ValueError):
        return text


def _lines(node: yaml.Node, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}.{key.value}" if prefix else str(key.value)
            yield name, key.start_mark.line + 1
            yield from _lines(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            yield f"{prefix}[{at}]", value.start_mark.line + 1
            yield from _lines(value, f"{prefix}[{at}]")


class _ForeignReader(Reader):
    """The reader of recipes, where `yes` and `off` are bools, and tags are refused."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; refuse tags."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None):
            problem = f"it has the tag {event.tag}, which could run code"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_yaml_bool(self, node: yaml.ScalarNode) -> bool:
        """Return whether it is one of the words for true."""
        return node.value in _YES or node.value.lower() == "true"


_ForeignReader.yaml_implicit_resolvers = {
    letter: list(resolvers) for letter, resolvers in Reader.yaml_implicit_resolvers.items()
}
_ForeignReader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(rf"^(?:{'|'.join((*_YES, *_NO))})\Z"), list("yYoOnN")
)
_ForeignReader.add_constructor("tag:yaml.org,2002:bool", _ForeignReader.construct_yaml_bool)
