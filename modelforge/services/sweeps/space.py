"""What a sweep varies: a range or a list of values for each setting."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from modelforge.config.fields import FieldSpec, specs_by_name
from modelforge.config.resolve import Layer, value_problems
from modelforge.config.schema.base import about
from modelforge.config.validation_messages import unknown_setting
from modelforge.errors import ConfigError, Problem

MAX_VARIED, MAX_CHOICES = 6, 32
# From this ratio of its ends on, a range of decimal numbers is searched by orders of magnitude.
LOG_RATIO = 10.0
NUMBERS = ("int", "float")
RANGE = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+)\s*")
EXAMPLES = "Write learning_rate=1e-5..1e-3 or lora_r=8,16,32."
# Losses of trials with different values of these could not be compared, or not within the deadline.
SAME_FOR_ALL = frozenset(
    {
        *("task", "model_name", "dataset", "strategy", "compute_specs", "max_seq_length"),
        *("num_train_epochs", "max_steps", "eval_steps", "eval_split", "trainer.seed"),
    }
)
SAME_GROUPS = ("data", "evaluation", "logging", "pretraining", "progressive", "hardware", "model")


@dataclass(frozen=True)
class Dimension:
    """The values of one setting: numbers from `low` to `high`, or `choices`."""

    name: Annotated[str, about("The setting.")]
    low: float = 0.0
    high: float = 0.0
    log: Annotated[bool, about("Whether each order of magnitude gets as many trials.")] = False
    whole: Annotated[bool, about("Whether the numbers are whole.")] = False
    choices: Annotated[tuple[Any, ...], about("The values; empty for a range.")] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the dimension as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Dimension:
        """Return the dimension from the result of `as_dict`."""
        return cls(**{**data, "choices": tuple(data["choices"])})


def read_dimensions(texts: Sequence[str]) -> list[Dimension]:
    """Return what texts such as "learning_rate=1e-5..1e-3" vary; raises ConfigError."""
    if not 1 <= len(texts) <= MAX_VARIED:
        what = f"{len(texts)} settings are varied."
        raise ConfigError(Problem("vary", what, f"Vary 1 to {MAX_VARIED}. {EXAMPLES}"))
    dimensions = [_read(text) for text in texts]
    names = [each.name for each in dimensions]
    if twice := [name for name in names if names.count(name) > 1]:
        what = f"{twice[0]} is varied twice."
        raise ConfigError(Problem("vary", what, "Give each setting once."))
    return dimensions


def _read(text: str) -> Dimension:
    name, equals, values = text.partition("=")
    name = name.strip()
    if not equals or not values.strip():
        what = f"{text[:100]!r} names no values."
        raise ConfigError(Problem("vary", what, EXAMPLES))
    spec = specs_by_name().get(name)
    if spec is None:
        raise ConfigError(unknown_setting(name, "vary"))
    if name in SAME_FOR_ALL or name.partition(".")[0] in SAME_GROUPS:
        what = f"{name} cannot be varied: trials with different values could not be compared."
        remedy = "Vary settings of the training, such as learning_rate, lora_r or weight_decay."
        raise ConfigError(Problem("vary", what, remedy))
    if found := RANGE.fullmatch(values):
        return _range(spec, *found.groups())
    return _choices(spec, [each.strip() for each in values.split(",") if each.strip()])


def _range(spec: FieldSpec, first: str, last: str) -> Dimension:
    if spec.kind not in NUMBERS:
        what = f"{spec.name} is not a number, so it has no range."
        raise ConfigError(Problem(spec.name, what, f"List its values: {spec.name}=A,B."))
    whole = spec.kind == "int"
    try:
        low, high = (int(each) if whole else float(each) for each in (first, last))
        is_range = math.isfinite(low) and math.isfinite(high)
    except (ValueError, OverflowError):
        low = high = 0.0
        is_range = False
    if not is_range:
        kind = "whole numbers" if whole else "numbers"
        what = f"{first[:40]}..{last[:40]} is not a range of {kind}."
        raise ConfigError(Problem(spec.name, what, EXAMPLES))
    if not low < high:
        what = "has one value only." if low == high else "ends before it begins."
        remedy = "Give a smaller number first and a larger one second, or leave it out."
        raise ConfigError(Problem(spec.name, f"The range {first}..{last} {what}", remedy))
    _require_valid(spec, [low, high])
    is_log = not whole and low > 0 and high / low >= LOG_RATIO
    return Dimension(spec.name, low, high, is_log, whole)


def _choices(spec: FieldSpec, texts: Sequence[str]) -> Dimension:
    values = tuple(dict.fromkeys(_value(spec, text) for text in texts))
    if not 2 <= len(values) <= MAX_CHOICES:
        what = f"{len(values)} {'value is' if len(values) == 1 else 'values are'} given."
        raise ConfigError(Problem(spec.name, what, f"Give 2 to {MAX_CHOICES}. {EXAMPLES}"))
    _require_valid(spec, values)
    return Dimension(spec.name, choices=values)


def _value(spec: FieldSpec, text: str) -> Any:
    """Return a text as the value of a setting; what is wrong with it is found afterwards."""
    if spec.kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if spec.kind in NUMBERS:
        try:
            return int(text) if spec.kind == "int" else float(text)
        except ValueError:
            return text
    return text


def _require_valid(spec: FieldSpec, values: Sequence[Any]) -> None:
    problems = [
        problem for value in values for problem in value_problems(Layer("vary", {spec.name: value}))
    ]
    if problems:
        raise ConfigError(problems)
