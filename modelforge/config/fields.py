"""The settings as flat rows, for forms, command line flags, documentation and messages."""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from modelforge.config.schema.base import Aspect, Cache, SettingInfo
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source

Kind = Literal["text", "bool", "int", "float", "choice", "list", "map"]
_KINDS: dict[object, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}


@dataclass(frozen=True)
class FieldSpec:
    """One setting.

    Attributes:
        name: Name, dotted inside a group.
        kind: Type of the value; `list` holds data sources (see `source_specs`), `map` text by text.
        minimum, maximum: Bounds of a number, or of the length of a text.
        group: Group of the form; empty for the settings of a source.
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
    affects: tuple[Aspect, ...] = ()
    irrelevant_for: tuple[Cache, ...] = ()


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
    specs: list[FieldSpec] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if _is_group(annotation):
            assert isinstance(annotation, type)
            specs += _walk(annotation, f"{prefix}{name}.")
        else:
            specs.append(_spec(prefix + name, field))
    return specs


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _spec(name: str, field: FieldInfo) -> FieldSpec:
    infos = [note for note in field.metadata if isinstance(note, SettingInfo)]
    assert len(infos) == 1, f"{name} needs exactly one SettingInfo"
    info = infos[0]
    kind, choices, nullable = _kind(field.annotation)
    low, high, exclusive = _bounds(field.metadata)
    return FieldSpec(
        name=name,
        label=info.label,
        help=info.help,
        more=info.more,
        unit=info.unit,
        group=info.group.value if info.group else "",
        basic=info.basic,
        kind=kind,
        choices=choices,
        minimum=low,
        maximum=high,
        exclusive_minimum=exclusive,
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        required=field.is_required(),
        nullable=nullable,
        multiline=info.multiline,
        affects=info.affects,
        irrelevant_for=info.irrelevant_for,
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


def _bounds(metadata: list[Any]) -> tuple[float | None, float | None, bool]:
    low = high = None
    exclusive = False
    for note in metadata:
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
