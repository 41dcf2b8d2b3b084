"""Data sets of Surogate: entries with path, type and columns; the loss of their preferences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.options import Option, Values, by
from modelforge.config.importers.report import Outcome
from modelforge.errors import Problem

SOURCE_FIELDS = (
    "samples",
    "text_field",
    "instruction_field",
    "output_field",
    "input_field",
    "system_prompt_field",
    "system_prompt",
    "prompt_format",
    "prompt_format_no_input",
    "messages_field",
    "system_field",
    "tools_field",
    "message_property_mappings",
    "subset",
    "split",
)
SOURCE_TYPES = ("text", "instruction", "conversation", "auto", "preference")


def sources(setting: str) -> Option:
    """Return the option `datasets` or `validation_datasets`."""

    def read(value: Any, _: Values) -> Outcome:
        sources, lines = [], []
        for at, entry in enumerate(value or []):
            source: dict[str, Any] = {}
            for name, part in entry.items():
                outcome = _source_option(name, part)
                source |= {name: part} if outcome.result == "taken" else {}
                lines.append((f"[{at}].{name}", part, outcome))
            sources.append(source)
        found = {setting: sources} if sources else {}
        if setting == "data.sources" and sources:
            found["dataset"] = sources[0].get("path", "")
        return Outcome("converted", found, "Each entry is a data source.", tuple(lines))

    return by(read, kind="list")


def _source_option(name: str, value: Any) -> Outcome:
    if name == "completion_field":
        return Outcome("renamed", {"data.sources.output_field": value})
    if name in SOURCE_FIELDS or name == "path" or (name == "type" and value in SOURCE_TYPES):
        return Outcome("taken", {f"data.sources.{name}": value})
    if name == "system_prompt_type" and value in ("field", "fixed"):
        return Outcome("taken", {f"data.sources.{name}": value})
    return Outcome("refused", why="It is not a known option of a data set of Surogate.")


def data_problems(values: Values) -> Iterator[Problem]:
    """Yield what is missing in the data sets."""
    entries = [
        (f"{name}[{at}]", entry)
        for name in ("datasets", "validation_datasets")
        for at, entry in enumerate(values.get(name) or [])
    ]
    for where, entry in entries:
        if not isinstance(entry, Mapping) or not entry.get("path"):
            yield Problem(where, "The data set has no path.", "Name its file, as path: rows.jsonl.")
        else:
            yield from _prompt_problems(entry, where)


def _prompt_problems(entry: Mapping[str, Any], where: str) -> Iterator[Problem]:
    needed = {"field": "system_prompt_field", "fixed": "system_prompt"}
    kind = entry.get("system_prompt_type")
    name = needed.get(str(kind))
    if name and not entry.get(name):
        what = f"system_prompt_type is {kind}, and {name} is missing."
        yield Problem(f"{where}.system_prompt_type", what, f"Enter {name}.")


def has_preferences(values: Values) -> bool:
    """Return whether the rows are preferences."""
    return any(entry.get("type") == "preference" for entry in values.get("datasets") or [])


def preference_loss(value: Any, _: Values) -> Outcome:
    """Return what the group `loss` becomes."""
    lines: list[tuple[str, Any, Outcome]] = []
    settings: dict[str, Any] = {}
    for name, part in value.items():
        outcome = _loss_option(name, part)
        settings |= outcome.settings
        lines.append((f".{name}", part, outcome))
    return Outcome("converted", settings, "The loss of preferences.", tuple(lines))


def _loss_option(name: str, value: Any) -> Outcome:
    if name == "type" and value == "dpo":
        settings = {"strategy": "dpo", "trainer.preference_loss": "sigmoid"}
        return Outcome("converted", settings, "Its name here.")
    if name == "dpo_beta":
        return Outcome("renamed", {"trainer.preference_beta": value})
    if name in ("length_norm", "reference_free") and not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    if name == "span_mask":
        return Outcome("no-effect", why="The prompt is never part of the loss.")
    return Outcome("refused", why="This variant of the loss is not offered here.")
