"""How a setting is declared, the groups of the form, and the base class of nested groups."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, TypedDict, TypeVar, Unpack, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

Aspect = Literal["memory", "speed"]
# The caches of measured results: memory traces and trial runs (see preflight/cache_key.py).
Cache = Literal["memory", "trial_run"]
BOTH: tuple[Aspect, ...] = ("memory", "speed")
MEMORY: tuple[Literal["memory"]] = ("memory",)
SPEED: tuple[Aspect, ...] = ("speed",)
TRIAL_RUN: tuple[Cache, ...] = ("trial_run",)
ALL_CACHES: tuple[Cache, ...] = ("memory", "trial_run")
# The value of a number that is computed from the model, the data or the machine.
AUTO: Literal["auto"] = "auto"
# The default of a setting that has none.
REQUIRED: Any = ...
T = TypeVar("T")
Gib = Annotated[float | None, Field(description="In GiB; null if unknown.")]


class Group(StrEnum):
    """The groups of the form, in the order in which it shows them."""

    TASK = "Task"
    PRETRAINING = "From nothing"
    GROWING = "Growing"
    TRAINING = "Training"
    PREFERENCES = "Preferences"
    REWARDS = "Rewards"
    ADAPTER = "Adapter"
    DATA = "Data"
    EVALUATION = "Evaluation"
    SAVING = "Saving"
    QUANTIZATION = "Quantization"
    PRECISION = "Precision"
    OPTIMIZER = "Optimizer"
    MEMORY = "Memory"
    HARDWARE = "Hardware"
    MODEL = "Model"
    PRIVACY = "Privacy"
    LOGGING = "Logging"


# Settings of these groups change neither memory nor time of a step, unless `affects` is set.
_UNMEASURED = (Group.OPTIMIZER, Group.LOGGING, Group.SAVING)


class Bounds(TypedDict, total=False):
    """Bounds of a number, or of the length of a text or list."""

    ge: float
    gt: float
    le: float
    lt: float
    min_length: int
    max_length: int


class SettingOptions(Bounds, total=False):
    """How a setting is shown, what it affects, and its bounds.

    Attributes:
        unit: Unit shown after the number.
        basic: Shown without "all settings".
        multiline: Text that may contain line breaks.
        affects: Estimates that must take the setting into account (tests/preflight/test_affects).
        irrelevant_for: Caches whose key leaves the setting out: it has no effect there, or the
            key contains its effective value from the plan.
        auto: A number that may also be the word auto: the type is then `int | Literal["auto"]`.
    """

    unit: str
    basic: bool
    multiline: bool
    affects: tuple[Aspect, ...]
    irrelevant_for: tuple[Cache, ...]
    auto: bool


def _number_or_auto(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Return `auto` for that word, in any case; other values are validated as a number.

    Errors have the type that they have for a number alone, and no place inside the union.
    """
    if isinstance(value, str) and value.strip().lower() == AUTO:
        return AUTO
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise PydanticCustomError(first["type"], "{reason}", {"reason": first["msg"]}) from None


def _describe_number(extra: dict[str, Any], bounds: dict[str, Any], schema: dict[str, Any]) -> None:
    """Write the bounds of a number that may also be `auto` as JSON Schema names them."""
    names = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    for union in (schema, *schema.get("anyOf", [])):
        for name in names.keys() & union.keys():
            del union[name]
        for part in union.get("anyOf", []):
            if part.get("type") in ("integer", "number"):
                part.update({names[name]: bound for name, bound in bounds.items()})
    schema.update(extra)


def setting(default: T, label: str, group: str = "", **options: Unpack[SettingOptions]) -> T:
    """Declare a setting in a group of the form; the settings of a data source have none.

    The docstring below the declaration is its help: one sentence under the control, and further
    paragraphs behind the `?`.
    """
    bounds: dict[str, Any] = {}
    info: dict[str, Any] = {"group": group}
    for name, value in options.items():
        (bounds if name in Bounds.__annotations__ else info)[name] = value
    if group in _UNMEASURED and "affects" not in info:
        info.setdefault("irrelevant_for", ALL_CACHES)
    extra = {"x-group": group, "x-basic": info.get("basic", False)}
    if "unit" in info:
        extra["x-unit"] = info["unit"]
    as_schema = partial(_describe_number, extra, bounds) if info.get("auto") else extra
    field: Any = Field(default, title=label, json_schema_extra=as_schema, **bounds)
    if info.get("auto"):
        field.metadata.append(WrapValidator(_number_or_auto))
    field.metadata.append(info)
    return cast(T, field)


def _join_names(value: Any) -> Any:
    """Return a list of names, or its JSON text, as text with commas; other values unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    is_list = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
    return ", ".join(value) if is_list else value


# Names with commas; a list is accepted too.
Names = Annotated[str, BeforeValidator(_join_names, json_schema_input_type=str | list[str])]


def _join_lines(value: Any) -> Any:
    """Return a list of texts as lines, each text in one line; other values unchanged."""
    is_list = isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)
    return "\n".join(" ".join(text.split()) for text in value) if is_list else value


# Texts, one per line; a list is accepted too.
Lines = Annotated[str, BeforeValidator(_join_lines, json_schema_input_type=str | list[str])]


class SettingsGroup(BaseModel):
    """Base class of groups of settings. Unknown keys are refused; numbers must be finite."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


def is_enabled(values: Mapping[str, Any], name: str) -> bool:
    """Return whether nested settings switch a group on, also where others of it are not valid."""
    group = values.get(name)
    enabled = group.get("enabled") if isinstance(group, Mapping) else getattr(group, "enabled", 0)
    if isinstance(enabled, str):  # what pydantic reads as true
        return enabled.strip().lower() in ("true", "1", "on", "t", "y", "yes")
    return isinstance(enabled, int) and enabled == 1


def about(text: str) -> Any:
    """Return the description of a field of a dataclass, for the docs of REST."""
    return Field(description=text)
