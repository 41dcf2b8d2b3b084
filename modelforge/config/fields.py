"""The settings as flat rows, for forms, command line flags, documentation and messages."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modelforge.config.schema.base import AUTO, Aspect, Cache
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source

Kind = Literal["text", "bool", "int", "float", "choice", "list", "names", "map"]
_KINDS: dict[object, Kind] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "text",
    Literal: "choice",
    list: "list",
    dict: "map",
}


@dataclass(frozen=True)
class FieldSpec:
    """One setting. For unit and the fields that follow it see `SettingOptions`.

    Attributes:
        name: Name, dotted inside a group.
        kind: Type of the value; `list` holds data sources (see `source_specs`), `names` texts,
            `map` text by text.
        minimum, maximum: Bounds of a number, or of the length of a text.
        group: Group of the form; empty for the settings of a source.
        is_open: Whether other values than `choices` are allowed.
    """

    name: str
    label: str
    help: str
    more: str
    kind: Kind
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    default: Any
    required: bool
    nullable: bool
    group: str
    unit: str = ""
    basic: bool = False
    multiline: bool = False
    affects: tuple[Aspect, ...] = ()
    irrelevant_for: tuple[Cache, ...] = ()
    auto: bool = False
    is_open: bool = False


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
    return tuple(name for name, field in fields.items() if _group_class(field))


@cache
def source_specs() -> dict[str, FieldSpec]:
    """Return the settings of one entry of `data.sources`, by name."""
    return {spec.name: spec for spec in _walk(Source)}


def _walk(model: type[BaseModel], prefix: str = "") -> Iterator[FieldSpec]:
    for name, field in model.model_fields.items():
        if group := _group_class(field):
            yield from _walk(group, f"{prefix}{name}.")
        else:
            yield _spec(prefix + name, field)


def _group_class(field: FieldInfo) -> type[BaseModel] | None:
    annotation: Any = field.annotation
    is_group = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_group else None


def _spec(name: str, field: FieldInfo) -> FieldSpec:
    kind, choices, nullable = _kind(field.annotation)
    if field.examples:  # other values may be allowed on this computer
        kind, choices = "choice", tuple(field.examples)
    help_text, _, more = (field.description or "").partition("\n\n")
    return FieldSpec(
        name=name,
        label=field.title or "",
        help=help_text,
        more=" ".join(more.split()),
        kind=kind,
        choices=choices,
        minimum=_bound(field, "gt", "ge"),
        maximum=_bound(field, "le", "max_length"),
        exclusive_minimum=_bound(field, "gt") is not None,
        default=None if field.is_required() else field.get_default(),
        required=field.is_required(),
        nullable=nullable,
        is_open=bool(field.examples),
        **next(note for note in field.metadata if isinstance(note, dict)),
    )


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    is_union = get_origin(annotation) in (Union, types.UnionType)
    nullable = is_union and types.NoneType in get_args(annotation)
    if is_union:
        others = (types.NoneType, Literal[AUTO])
        (annotation,) = (part for part in get_args(annotation) if part not in others)
    kind = _KINDS[get_origin(annotation) or annotation]
    if kind == "list" and get_args(annotation)[0] is not Source:
        kind = "names"
    return kind, get_args(annotation) if kind == "choice" else (), nullable


def _bound(field: FieldInfo, *names: str) -> float | None:
    values = (getattr(note, name, None) for name in names for note in field.metadata)
    return next((value for value in values if value is not None), None)
