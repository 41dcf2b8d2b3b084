"""The settings as form fields, and the entered values as layers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from modelforge.config.fields import FieldSpec, field_specs, specs_by_name
from modelforge.config.resolve import Layer, flatten
from modelforge.config.schema.base import Group
from modelforge.errors import Problem
from modelforge.services.layers import FORM, FormInput
from ui.html import format as fmt
from ui.html.gradio_page import flag, text

# Settings that the cards above the form ask for.
ON_CARDS = frozenset({"task", "strategy", "provider", "model_name", "dataset", "compute_specs"})
# The format of the frozen weights: one control writes the scheme and the flags, which stand for
# two of its values.
SCHEME = "quantization.scheme"
FLAGS = {"use_8bit": "bnb-8bit", "use_4bit": "bnb-4bit"}
WEIGHT_FORMATS = {
    "none": "16 or 32 bits",
    "bnb-8bit": "8-bit",
    "bnb-4bit": "4-bit",
    "int8-weight-only": "8-bit, INT8 weights only",
    "fp8": "8-bit, FP8",
    "fp8-weight-only": "8-bit, FP8 weights only",
    "nvfp4": "4-bit, NVFP4",
    "mxfp4": "4-bit, MXFP4",
}


@dataclass(frozen=True)
class Control(FieldSpec):
    """One field of the form for several settings.

    Attributes:
        settings: The settings that it writes; the first one names it.
        titles: The titles of the choices.
        written: The values of the settings as JSON, by choice.
    """

    settings: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entered(FormInput):
    """What the browser sends: the form, and the name and id of a start.

    `show_models` is whether the model card is open; `kept` are the cautions that the user has
    answered with Keep, see `plan_panel.caution_key`.
    """

    name: str | None = None
    request_id: str | None = None
    show_models: bool = True
    kept: frozenset[str] = frozenset()

    @classmethod
    def read(cls, request: object) -> Entered:
        """Read a request; parts of another type are ignored."""
        data = request if isinstance(request, Mapping) else {}
        return cls(
            profile=text(request, "profile").strip() or None,
            values=_mapping(data.get("values")),
            recipe=_mapping(data.get("recipe")),
            name=text(request, "name").strip() or None,
            request_id=text(request, "request_id").strip() or None,
            show_models=flag(request, "show_models", default=True),
            kept=_texts(data.get("kept")),
            target=text(request, "target").strip() or None,
        )


def fields() -> list[FieldSpec]:
    """Return the settings shown as fields, by group, in the order of the form."""
    elsewhere = ON_CARDS | FLAGS.keys()
    shown = [
        _weights_control() if spec.name == SCHEME else spec
        for spec in field_specs()
        if spec.name not in elsewhere and spec.kind != "list"
    ]
    order = {group.value: position for position, group in enumerate(Group)}
    return sorted(shown, key=lambda spec: (order[spec.group], not spec.basic))


def _weights_control() -> Control:
    text = {
        "label": "Weights while training",
        "help": "Bits per weight of the frozen model: fewer need less memory and are slower.",
        "more": "4-bit needs a quarter of the memory of 16 bits; the adapter itself is not "
        "quantized. Without a GPU fewer bits are much slower. FP8, NVFP4 and MXFP4 need a recent "
        "GPU.",
    }
    shown = {"basic": True, "choices": tuple(WEIGHT_FORMATS), "titles": WEIGHT_FORMATS}
    written = {choice: json.dumps(_weight_settings(choice)) for choice in WEIGHT_FORMATS}
    settings = {"settings": (SCHEME, *FLAGS), "written": written}
    return Control(**vars(specs_by_name()[SCHEME]) | text | shown | settings)


def _weight_settings(choice: str) -> dict[str, str]:
    """Return the settings of a format: the flags where they suffice, otherwise the scheme."""
    flags = {name: "true" if scheme == choice else "false" for name, scheme in FLAGS.items()}
    is_auto = choice == "none" or choice in FLAGS.values()
    return {SCHEME: "auto" if is_auto else choice, **flags}


def control_of(name: str) -> str:
    """Return the name of the field that shows a setting."""
    return SCHEME if name in FLAGS else name


def groups() -> dict[str, list[FieldSpec]]:
    """Return the fields by the headings of their groups."""
    return {name: list(specs) for name, specs in groupby(fields(), attrgetter("group"))}


def overlapping(values: Mapping[str, str], errors: Mapping[str, str]) -> set[str]:
    """Return the settings that say what another one says as well, so that the form has one of each.

    A setting of the contract that has a value, as in a recipe, is shown in place of the other one.
    """
    hidden = {name for name in ("fp16", "bf16") if values.get(name) != "true"}
    if not {"fp16", "bf16"} <= hidden:
        hidden.add("hardware.precision")
    return hidden - errors.keys()


def value_text(value: Any) -> str:
    """Return a value as its field shows it: 2e-4, true, or empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return fmt.compact(value) if isinstance(value, float) else str(value)


def values(stack: Sequence[Layer]) -> dict[str, str]:
    """Return the text of every control, valid or not."""
    current = {spec.name: spec.default for spec in field_specs()}
    for layer in stack:
        current.update(flatten(layer.values))
    return {name: value_text(value) for name, value in current.items()}


def shown_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values as the controls show them: the scheme `auto` as what the flags say."""
    if values[SCHEME] != "auto":
        return dict(values)
    named = (scheme for name, scheme in FLAGS.items() if values[name].lower() == "true")
    return {**values, SCHEME: next(named, "none")}


def origins(stack: Sequence[Layer], profiles: Collection[str]) -> dict[str, str]:
    """Return where every value comes from: default, a profile, a recommendation, recipe or you."""
    named = {spec.name: "default" for spec in field_specs()}
    for layer in stack:
        origin = "from profile" if layer.name in profiles else layer.name
        origin = "you" if layer.name == FORM else origin
        named.update(dict.fromkeys(flatten(layer.values), origin))
    return named


def errors(problems: Sequence[Problem]) -> tuple[dict[str, str], list[Problem]]:
    """Return the problems of single settings as texts by setting, and all others."""
    names = {spec.name for spec in field_specs()}
    texts: dict[str, str] = {}
    for problem in problems:
        if problem.where in names:
            text = f"{problem.what} {problem.remedy}".strip()
            texts[problem.where] = f"{texts.get(problem.where, '')} {text}".strip()
    return texts, [problem for problem in problems if problem.where not in names]


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): part for key, part in value.items()} if isinstance(value, Mapping) else {}


def _texts(value: object) -> frozenset[str]:
    return frozenset(map(str, value)) if isinstance(value, list) else frozenset()
