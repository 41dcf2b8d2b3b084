"""What an event of a run is: its base classes, and the type and unit of each of its fields."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Info:
    """What a field means, and its unit. `omitted`: the field is left out when it is None."""

    text: str
    unit: str = ""
    omitted: bool = False


# The class of every kind, in the order of `modelforge.runs.event_types`.
KINDS: dict[str, type[Event]] = {}
_SPECS: dict[type[Event], tuple[FieldSpec, ...]] = {}


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base class of all events. A class with a `kind` is entered in `KINDS`."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Enter the class under its kind."""
        if cls.kind:
            KINDS[cls.kind] = cls

    def as_data(self) -> dict[str, Any]:
        """Return the fields as they are written to the file."""
        values = ((spec, getattr(self, spec.name)) for spec in field_specs(type(self)))
        return {s.name: value for s, value in values if value is not None or not s.info.omitted}


@dataclass(frozen=True, kw_only=True)
class StageEvent(Event):
    """Base class of events that belong to a training stage."""

    stage: Annotated[int | None, Info("Stage, in runs with stages.", omitted=True)] = None


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field of an event: `types` are those of its JSON value other than null."""

    name: str
    types: tuple[type, ...]
    type_name: str
    nullable: bool
    default: Any
    info: Info

    @property
    def required(self) -> bool:
        """Whether every event of the kind has the field."""
        return self.default is MISSING


def field_specs(event_type: type[Event]) -> tuple[FieldSpec, ...]:
    """Return the fields of an event class, in the order in which they are written."""
    if event_type not in _SPECS:
        hints = get_type_hints(event_type, include_extras=True)
        _SPECS[event_type] = tuple(_spec(part, hints[part.name]) for part in fields(event_type))
    return _SPECS[event_type]


def _spec(part: Field[Any], hint: Any) -> FieldSpec:
    default = part.default if part.default_factory is MISSING else part.default_factory()
    hint, info = get_args(hint)
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    inner = next(option for option in options if option is not NoneType)
    plain = get_origin(inner) or inner
    types = (int, float) if plain is float else (plain,)
    return FieldSpec(part.name, types, plain.__name__, NoneType in options, default, info)
