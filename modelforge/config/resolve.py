"""Layers of answers become a config and the origin of every value, or all problems at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from modelforge.config.coercion import tidy
from modelforge.config.fields import FieldSpec, nested_groups, source_specs, specs_by_name
from modelforge.config.rules.data import source_problems
from modelforge.config.rules.general import broken_rules
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.config.validation_messages import (
    listed,
    no_such_setting,
    not_a_group,
    refused,
    shown,
)
from modelforge.errors import ConfigError, Problem

CONTRACT = "contract"


@dataclass(frozen=True)
class Layer:
    """Answers from one place, such as "profile", "recipe" or "form"; nested or dotted keys."""

    name: str
    values: Mapping[str, Any]


def flatten(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return answers by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in answers.items():
        if isinstance(value, Mapping):
            found.update({f"{name}.{inner}": part for inner, part in value.items()})
        else:
            found[name] = value
    return found


@dataclass(frozen=True)
class Resolved:
    """A config, and for each setting's dotted name the layer it came from."""

    config: TrainingConfig
    origins: dict[str, str]


@dataclass
class _Said:
    """What the layers say: values and origins by dotted name, and what is wrong so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)


def resolve(*layers: Layer) -> Resolved:
    """Return the config that the layers come to; a later layer wins.

    Raises ConfigError with every problem. Settings that no layer names come from "contract".
    """
    said = _merge(layers)
    config = _build(said)
    if said.problems or config is None:
        raise ConfigError(_in_order(said.problems))
    return Resolved(config, {name: said.origins.get(name, CONTRACT) for name in specs_by_name()})


def find_problems(answers: Mapping[str, Any]) -> list[Problem]:
    """Return all that is wrong with the answers; an empty list when nothing is."""
    try:
        resolve(Layer("answers", answers))
    except ConfigError as error:
        return error.problems
    return []


def _merge(layers: tuple[Layer, ...]) -> _Said:
    said = _Said()
    for layer in layers:
        seen: dict[str, Any] = {}
        for name, value in _flat(layer, said):
            if name in seen and seen[name] != value:
                what = "It is given twice, once in its group and once by its dotted name."
                said.problems.append(Problem(name, what, "Keep one of the two."))
            seen[name] = value
        said.values.update(seen)
        said.origins.update(dict.fromkeys(seen, layer.name))
    for name, value in said.values.items():
        spec = specs_by_name()[name]
        if spec.kind == "list":
            said.values[name], problems = read_sources(spec, value)
            said.problems += problems
            said.refused |= {name} if problems else set()
            continue
        wrong, said.values[name] = tidy(spec, value)
        if wrong:
            said.problems.append(refused(spec, value, wrong))
            said.refused.add(name)
    return said


def _flat(layer: Layer, said: _Said) -> Iterator[tuple[str, Any]]:
    for key, value in layer.values.items():
        name = str(key)
        if name in specs_by_name():
            yield name, value
        elif name not in nested_groups():
            said.problems.append(no_such_setting(name, layer.name))
        elif isinstance(value, Mapping):
            for inner, inner_value in value.items():
                full = f"{name}.{inner}"
                if full in specs_by_name():
                    yield full, inner_value
                else:
                    said.problems.append(no_such_setting(full, layer.name))
        elif value is not None:
            # A group with nothing under it, as YAML reads it, says nothing.
            said.problems.append(not_a_group(name, value))
            said.refused.add(name)


def _build(said: _Said) -> TrainingConfig | None:
    good = {name: value for name, value in said.values.items() if name not in said.refused}
    config, errors = _validate(good)
    for name, kind, value in errors:
        if name not in said.refused:
            said.problems.append(refused(specs_by_name()[name], value, kind))
            said.refused.add(name)
    if config is None:
        # The rules still have something to say about the settings that are fine.
        stand_ins = {
            name: spec.choices[0] if spec.choices else "-"
            for name, spec in specs_by_name().items()
            if spec.required
        }
        fine = {name: value for name, value in good.items() if name not in said.refused}
        config, _ = _validate(stand_ins | fine)
        assert config is not None
    said.problems += broken_rules(config, frozenset(said.refused))
    return config


def _validate(
    values: dict[str, Any],
) -> tuple[TrainingConfig | None, list[tuple[str, str, Any]]]:
    try:
        return TrainingConfig.model_validate(_nested(values)), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        return None, [
            (
                ".".join(str(part) for part in wrong["loc"]),
                wrong["type"],
                None if wrong["type"] == "missing" else wrong["input"],
            )
            for wrong in found
        ]


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        group, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(group, {})[inner] = value
        else:
            nested[name] = value
    return nested


def _in_order(problems: list[Problem]) -> list[Problem]:
    order = {name: place for place, name in enumerate(specs_by_name())}
    return sorted(problems, key=lambda problem: order.get(problem.where.partition("[")[0], -1))


MOST = 100
PROPERTIES = ("role", "content", "name", "tool_calls", "tool_call_id")


def read_sources(spec: FieldSpec, value: Any) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the entries as the schema should see them, and everything that is wrong with them.

    Problems are named like `data.sources[0].prompt_format`. When there is one, the list is not
    to be used, and the rules within a source have been tried already.
    """
    if value is None:
        return [], []
    if not isinstance(value, (list, tuple)):
        remedy = "Give a list of sources, each with its path."
        return [], [Problem(spec.name, f"{shown(value)} is no list of sources.", remedy)]
    if len(value) > MOST:
        what = f"{len(value)} sources are too many."
        return [], [Problem(spec.name, what, f"Give at most {MOST}, or a folder of files.")]
    entries: list[dict[str, Any]] = []
    problems: list[Problem] = []
    fine: list[tuple[Source, str]] = []
    for place, said in enumerate(value):
        where = f"{spec.name}[{place}]"
        entry, wrong = _entry(said, where)
        entries.append(entry)
        problems += wrong
        if not wrong:
            fine.append((Source.model_validate(entry), where))
    if problems:
        # The rules of the schema only see whole lists.
        problems += [found for source, where in fine for found in source_problems(source, where)]
    return entries, problems


def _entry(said: Any, where: str) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(said, Mapping):
        remedy = "Name the settings of the source, for instance: path: rows.jsonl"
        return {}, [Problem(where, f"{shown(said)} is no source.", remedy)]
    problems: list[Problem] = []
    entry: dict[str, Any] = {}
    wrong: set[str] = set()
    for key, value in said.items():
        spec = source_specs().get(str(key))
        if spec is None:
            problems.append(_unknown(str(key), where))
            continue
        fault, entry[spec.name] = tidy(spec, value)
        found = [_refused(spec, where, value, fault)] if fault else _names(spec, where, value)
        if found:
            problems += found
            wrong.add(spec.name)
    try:
        Source.model_validate(entry)
    except ValidationError as error:
        for found_error in error.errors(include_url=False, include_context=False):
            name = str(found_error["loc"][0])
            if name not in wrong:
                missing = found_error["type"] == "missing"
                value = None if missing else found_error["input"]
                problems.append(_refused(source_specs()[name], where, value, found_error["type"]))
    return entry, problems


def _refused(spec: FieldSpec, where: str, value: Any, kind: str) -> Problem:
    return refused(replace(spec, name=f"{where}.{spec.name}"), value, kind)


def _unknown(key: str, where: str) -> Problem:
    near = difflib.get_close_matches(key.strip().lower()[:100], source_specs(), n=1, cutoff=0.6)
    remedy = f"Did you mean '{near[0]}'?" if near else "Leave it out."
    return Problem(f"{where}.{key[:60]}", "A source has no setting of this name.", remedy)


def _names(spec: FieldSpec, where: str, value: Any) -> list[Problem]:
    """Return what is wrong with `message_property_mappings`; nothing for other settings."""
    if spec.kind != "map":
        return []
    full = f"{where}.{spec.name}"
    if not isinstance(value, Mapping):
        what = f"{shown(value)} does not name anything."
        return [Problem(full, what, "Write, for instance: role: from")]
    problems = []
    for key, name in value.items():
        if str(key) not in PROPERTIES:
            what = f"Messages have no {shown(str(key))}."
            problems.append(Problem(full, what, f"On the left stand {listed(PROPERTIES, 'and')}."))
        elif not isinstance(name, str) or not name.strip():
            what = f"The name of {key} is missing: {shown(name)}."
            remedy = f"Say what {key} is called in the messages."
            problems.append(Problem(full, what, remedy))
    return problems
