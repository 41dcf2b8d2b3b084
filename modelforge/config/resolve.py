"""Merge layers of values into a config and the origin of every value, or report all problems."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from modelforge.config.fields import FieldSpec, nested_groups, source_specs, specs_by_name
from modelforge.config.rules.data import source_problems
from modelforge.config.rules.registry import broken_rules
from modelforge.config.schema.base import AUTO
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.config.schema.pretraining import is_model_tag, missing_defaults, pretraining_of
from modelforge.config.validation_messages import (
    MAX_INTEGER,
    invalid_value,
    join_words,
    not_a_group,
    shown,
    unknown_setting,
)
from modelforge.errors import ConfigError, Problem

CONTRACT = "contract"
FROM_NOTHING = "training from nothing"
GROWING = "growing"
MAX_SOURCES = 100
# A similar name is searched for each unknown setting; more than these are only counted.
MAX_UNKNOWN = 50
MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")


@dataclass(frozen=True)
class Layer:
    """Values from one origin, such as "profile", "recipe" or "form"; nested or dotted keys."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """A config, and for each setting's dotted name the layer that it came from."""

    config: TrainingConfig
    origins: dict[str, str]


@dataclass
class _Merged:
    """The merged layers: values and origins by dotted name, and the problems so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    invalid: set[str] = field(default_factory=set)
    unknown: int = 0

    def refuse_unknown(self, name: str, layer: str) -> None:
        self.unknown += 1
        if self.unknown <= MAX_UNKNOWN:
            self.problems.append(unknown_setting(name, layer))

    def refuse(self, name: str, *problems: Problem) -> None:
        self.problems += problems
        self.invalid.add(name)


def resolve(*layers: Layer, profiles: Collection[str] | None = None) -> Resolved:
    """Return the config of the layers; a later layer takes precedence.

    `profiles` are the names of the profiles of this computer; None allows any. Settings that no
    layer sets have the origin "contract". Raises ConfigError with every problem.
    """
    merged = _merge(layers)
    _check_profile(merged, profiles)
    config = _build(merged)
    if merged.problems or config is None:
        raise ConfigError(_in_order(merged.problems))
    names = specs_by_name()
    return Resolved(config, {name: merged.origins.get(name, CONTRACT) for name in names})


def value_problems(layer: Layer) -> list[Problem]:
    """Return the unknown settings and the invalid values of a layer, each for itself."""
    merged = _merge((layer,))
    valid = {name: value for name, value in merged.values.items() if name not in merged.invalid}
    for name, kind, value in _validate(valid)[1]:
        if kind != "missing" and name not in merged.invalid:
            merged.refuse(name, invalid_value(specs_by_name()[name], value, kind))
    return _in_order(merged.problems)


def valid_settings(*layers: Layer) -> dict[str, Any]:
    """Return the valid settings of the layers, nested by group; all others are left out."""
    merged = _merge(layers)
    _build(merged)
    return nest(
        {name: value for name, value in merged.values.items() if name not in merged.invalid}
    )


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values by their dotted names."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result.update({f"{name}.{inner}": part for inner, part in value.items()})
        else:
            result[name] = value
    return result


def _merge(layers: tuple[Layer, ...]) -> _Merged:
    merged = _Merged()
    for layer in layers:
        values: dict[str, Any] = {}
        for name, value in _flat(layer, merged):
            if name in values and values[name] != value:
                what = "The value is given twice, in its group and by its dotted name."
                merged.problems.append(Problem(name, what, "Keep one of the two."))
            values[name] = value
        merged.values.update(values)
        merged.origins.update(dict.fromkeys(values, layer.name))
    if merged.unknown > MAX_UNKNOWN:
        what = f"There are {merged.unknown - MAX_UNKNOWN:,} more unknown settings."
        merged.problems.append(Problem("settings", what, "Remove them."))
    for name, value in merged.values.items():
        spec = specs_by_name()[name]
        if spec.kind == "list":
            merged.values[name], problems = _read_sources(spec, value)
            if problems:
                merged.refuse(name, *problems)
            continue
        error, merged.values[name] = _coerce(spec, value)
        if error:
            merged.refuse(name, invalid_value(spec, value, error))
    _complete(merged)
    return merged


def _complete(merged: _Merged) -> None:
    """Add the defaults of a training from nothing, or of growing, where it is switched on."""
    valid = {name: value for name, value in merged.values.items() if name not in merged.invalid}
    group = pretraining_of(nest(valid))
    if group is None and "pretraining.enabled" in valid:
        # Another setting of the group may be refused: the name of the model is not missing, too.
        group = pretraining_of({"pretraining": {"enabled": valid["pretraining.enabled"]}})
    added = missing_defaults(nest(merged.values))
    if group is not None and is_model_tag(merged.values.get("model_name")):
        added["model_name"] = group.model_tag
    for name, value in added.items():
        if value != merged.values.get(name):
            merged.values[name] = value
            merged.origins[name] = GROWING if group is None else FROM_NOTHING


def _check_profile(merged: _Merged, profiles: Collection[str] | None) -> None:
    name = "compute_specs"
    value = merged.values.get(name)
    if profiles is None or name in merged.invalid or not isinstance(value, str):
        return
    if value not in profiles:
        spec = replace(specs_by_name()[name], choices=tuple(profiles))
        merged.refuse(name, invalid_value(spec, value, "literal_error"))


def _flat(layer: Layer, merged: _Merged) -> Iterator[tuple[str, Any]]:
    """Yield the known settings of a layer by dotted name; add problems to `merged`."""
    for key, value in layer.values.items():
        name = str(key)
        if name in specs_by_name():
            yield name, value
        elif name not in nested_groups():
            merged.refuse_unknown(name, layer.name)
        elif isinstance(value, Mapping):
            for inner, inner_value in value.items():
                full = f"{name}.{inner}"
                if full in specs_by_name():
                    yield full, inner_value
                else:
                    merged.refuse_unknown(full, layer.name)
        elif value is not None:  # YAML reads a group without settings as null
            merged.refuse(name, not_a_group(name, value))


def _build(merged: _Merged) -> TrainingConfig | None:
    valid = {name: value for name, value in merged.values.items() if name not in merged.invalid}
    config, errors = _validate(valid)
    for name, kind, value in errors:
        if name not in merged.invalid:
            merged.refuse(name, invalid_value(specs_by_name()[name], value, kind))
    if config is None:
        # Check the rules on the valid settings too, with placeholders for the required ones.
        placeholders = {
            name: spec.choices[0] if spec.choices else "-"
            for name, spec in specs_by_name().items()
            if spec.required
        }
        remaining = {name: value for name, value in valid.items() if name not in merged.invalid}
        config, _ = _validate(placeholders | remaining)
        assert config is not None
    merged.problems += broken_rules(config, frozenset(merged.invalid))
    return config


def _validate(
    values: dict[str, Any],
) -> tuple[TrainingConfig | None, list[tuple[str, str, Any]]]:
    """Return the config, or None and the errors as (name, type of error, value)."""
    try:
        return TrainingConfig.from_record(nest(values)), []
    except ValidationError as error:
        return None, list(_details(error))


def _details(error: ValidationError) -> Iterator[tuple[str, str, Any]]:
    for detail in error.errors(include_url=False, include_context=False):
        value = None if detail["type"] == "missing" else detail["input"]
        yield ".".join(str(part) for part in detail["loc"]), detail["type"], value


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted names as nested groups; the inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        group, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(group, {})[inner] = value
        else:
            nested[name] = value
    return nested


def _in_order(problems: list[Problem]) -> list[Problem]:
    order = {name: position for position, name in enumerate(specs_by_name())}
    return sorted(problems, key=lambda problem: order.get(problem.where.partition("[")[0], -1))


def _read_sources(spec: FieldSpec, value: Any) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the sources as the schema expects them, and all problems with them.

    Problems are named like `data.sources[0].prompt_format`. With a problem the list must not be
    used, and the rules within a source have been checked already.
    """
    if value is None:
        return [], []
    if not isinstance(value, (list, tuple)):
        remedy = "Enter a list of sources, each with its path."
        return [], [Problem(spec.name, f"{shown(value)} is not a list of sources.", remedy)]
    if len(value) > MAX_SOURCES:
        what = f"{len(value)} sources are too many."
        remedy = f"Enter at most {MAX_SOURCES}, or a folder of files."
        return [], [Problem(spec.name, what, remedy)]
    entries: list[dict[str, Any]] = []
    problems: list[Problem] = []
    valid: list[tuple[Source, str]] = []
    for index, raw in enumerate(value):
        where = f"{spec.name}[{index}]"
        entry, found = _read_source(raw, where)
        entries.append(entry)
        problems += found
        if not found:
            valid.append((Source.model_validate(entry), where))
    if problems:
        # The rules of the schema only see whole lists.
        problems += [found for source, where in valid for found in source_problems(source, where)]
    return entries, problems


def _read_source(raw: Any, where: str) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        remedy = "Enter the settings of the source, for instance: path: rows.jsonl"
        return {}, [Problem(where, f"{shown(raw)} is not a source.", remedy)]
    problems: list[Problem] = []
    entry: dict[str, Any] = {}
    invalid: set[str] = set()
    if len(raw) > len(source_specs()) + MAX_UNKNOWN:
        what = f"The source has {len(raw):,} settings."
        return {}, [Problem(where, what, f"There are {len(source_specs())} settings of a source.")]
    for key, value in raw.items():
        spec = source_specs().get(str(key))
        if spec is None:
            problems.append(_unknown_key(str(key), where))
            continue
        error, entry[spec.name] = _coerce(spec, value)
        found = [_invalid(spec, where, value, error)] if error else _check_keys(spec, where, value)
        if found:
            problems += found
            invalid.add(spec.name)
    try:
        Source.model_validate(entry)
    except ValidationError as error:
        for path, kind, value in _details(error):
            name = path.partition(".")[0]
            if name not in invalid:
                problems.append(_invalid(source_specs()[name], where, value, kind))
    return entry, problems


def _invalid(spec: FieldSpec, where: str, value: Any, error: str) -> Problem:
    return invalid_value(replace(spec, name=f"{where}.{spec.name}"), value, error)


def _unknown_key(key: str, where: str) -> Problem:
    near = difflib.get_close_matches(key.strip().lower()[:100], source_specs(), n=1, cutoff=0.6)
    remedy = f"Did you mean '{near[0]}'?" if near else "Remove it."
    return Problem(f"{where}.{key[:60]}", "is not a setting of a source.", remedy)


def _check_keys(spec: FieldSpec, where: str, value: Any) -> list[Problem]:
    """Return the problems of `message_property_mappings`; none for other settings."""
    if spec.kind != "map":
        return []
    full = f"{where}.{spec.name}"
    if not isinstance(value, Mapping):
        what = f"{shown(value)} is not a mapping."
        return [Problem(full, what, "Write for instance: role: from")]
    problems = []
    for key, name in value.items():
        if str(key) not in MESSAGE_KEYS:
            what = f"Messages have no property {shown(str(key))}."
            remedy = f"The properties are {join_words(MESSAGE_KEYS, 'and')}."
            problems.append(Problem(full, what, remedy))
        elif not isinstance(name, str) or not name.strip():
            what = f"The key of {key} is missing: {shown(name)}."
            remedy = f"Enter the key of {key} in your messages."
            problems.append(Problem(full, what, remedy))
    return problems


def _coerce(spec: FieldSpec, value: Any) -> tuple[str, Any]:
    """Return the kind of error (empty for none) and the converted value."""
    if isinstance(value, str):
        return _convert_text(spec, value)
    if spec.kind in ("int", "float"):
        return _convert_number(spec, value)
    return "", value


def _convert_text(spec: FieldSpec, value: str) -> tuple[str, Any]:
    text = value.strip()
    if spec.nullable and text in ("", "null"):
        return "", None
    if spec.nullable and spec.kind in ("int", "float") and text.lower() == AUTO:
        return "", AUTO if spec.auto else None
    if spec.kind == "text":
        return "control_character" if _has_control(value, spec.multiline) else "", value
    if spec.kind not in ("int", "float"):
        return "", text
    for convert in (int, float):
        try:
            return _convert_number(spec, convert(text))
        except ValueError:
            continue
    return f"{spec.kind}_parsing", value


def _convert_number(spec: FieldSpec, value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return f"{spec.kind}_type", value
    if not isinstance(value, (int, float)):
        return "", value
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "too_large" if value > 0 else "greater_than_equal", value
    if spec.kind == "int" and isinstance(value, float) and value.is_integer():
        return _convert_number(spec, int(value))
    return "", value


def _has_control(text: str, multiline: bool) -> bool:
    allowed = "\n\r\t" if multiline else ""
    return any(unicodedata.category(char) == "Cc" and char not in allowed for char in text)
