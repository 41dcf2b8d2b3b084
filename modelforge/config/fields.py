"""The settings as plain rows, for forms, flags, docs and error texts."""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from modelforge.config.schema.base import SettingInfo
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source

Kind = Literal["text", "bool", "int", "float", "choice", "list", "map"]
_KINDS: dict[object, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}


@dataclass(frozen=True)
class FieldSpec:
    """One setting. `name` is dotted inside a group; a text's bounds count its characters.

    A `list` holds sources, each with the settings of `source_fields`; a `map` names by name.
    A text with `lines` may have several.
    """

    name: str
    label: str
    help: str
    more: str
    unit: str
    group: str
    basic: bool
    kind: Kind
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    default: Any
    required: bool
    nullable: bool
    multiline: bool = False


@cache
def field_specs() -> list[FieldSpec]:
    """Return every setting, in the order of the schema."""
    return list(_walk(TrainingConfig))


@cache
def specs_by_name() -> dict[str, FieldSpec]:
    """Return every setting by its dotted name."""
    return {spec.name: spec for spec in field_specs()}


@cache
def nested_groups() -> tuple[str, ...]:
    """Return the names of the nested groups, such as `hardware`."""
    fields = TrainingConfig.model_fields
    return tuple(name for name, field in fields.items() if _is_group(field.annotation))


@cache
def source_specs() -> dict[str, FieldSpec]:
    """Return the settings of one entry of `data.sources`, by name."""
    return {spec.name: spec for spec in _walk(Source)}


def _walk(model: type[BaseModel], prefix: str = "") -> list[FieldSpec]:
    rows: list[FieldSpec] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if _is_group(kind):
            assert isinstance(kind, type)
            rows += _walk(kind, f"{prefix}{name}.")
        else:
            rows.append(_row(prefix + name, field))
    return rows


def _is_group(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _row(name: str, field: FieldInfo) -> FieldSpec:
    knobs = [note for note in field.metadata if isinstance(note, SettingInfo)]
    assert len(knobs) == 1, f"{name} needs exactly one Knob"
    knob = knobs[0]
    kind, choices, nullable = _kind(field.annotation)
    low, high, exclusive = _bounds(field.metadata)
    return FieldSpec(
        name=name,
        label=knob.label,
        help=knob.help,
        more=knob.more,
        unit=knob.unit,
        group=knob.group,
        basic=knob.basic,
        kind=kind,
        choices=choices,
        minimum=low,
        maximum=high,
        exclusive_minimum=exclusive,
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        required=field.is_required(),
        nullable=nullable,
        multiline=knob.multiline,
    )


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    nullable = False
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        assert len(inner) == 1, f"{annotation} mixes types"
        annotation, nullable = inner[0], True
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation), nullable
    if get_origin(annotation) in (list, dict):
        return ("list" if get_origin(annotation) is list else "map"), (), nullable
    return _KINDS[annotation], (), nullable


def _bounds(notes: list[Any]) -> tuple[float | None, float | None, bool]:
    low = high = None
    exclusive = False
    for note in notes:
        if isinstance(note, SettingInfo):
            continue
        if isinstance(note, StringConstraints):
            low, high = note.min_length, note.max_length
        elif hasattr(note, "gt"):
            low, exclusive = note.gt, True
        elif hasattr(note, "ge"):
            low = note.ge
        elif hasattr(note, "le"):
            high = note.le
        elif hasattr(note, "max_length"):
            high = note.max_length
    return low, high, exclusive
