"""Settings as fields of a form, and what a person entered as layers of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.config.fields import FieldSpec, field_specs
from modelforge.config.resolve import Layer, flatten
from modelforge.errors import Problem
from ui.html import format as words
from ui.html.markup import Safe, el

MINE = "form"
RECIPE = "recipe"
# Asked by the cards above the settings, so they are no fields among them.
ON_CARDS = frozenset({"task", "strategy", "provider", "model_name", "dataset", "compute_specs"})
GROUPS = (
    "Training", "Preferences", "Rewards", "Adapter", "Data", "Evaluation", "Saving",
    "Quantization", "Precision", "Optimizer", "Memory", "Hardware", "Model", "Logging",
)  # fmt: skip


@dataclass(frozen=True)
class Entered:
    """What the browser sends: the profile, what the person changed, a recipe if one is open."""

    profile: str | None = None
    mine: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    request_id: str | None = None

    @classmethod
    def read(cls, sent: object) -> Entered:
        """Read what came over the wire; what has another shape counts as not said."""
        data = sent if isinstance(sent, Mapping) else {}
        return cls(
            profile=_text(data.get("profile")),
            mine=_mapping(data.get("mine")),
            recipe=_mapping(data.get("recipe")),
            name=_text(data.get("name")),
            request_id=_text(data.get("request_id")),
        )


def fields() -> list[FieldSpec]:
    """Return the settings that are shown as fields, by group, in the order of the form."""
    shown = [spec for spec in field_specs() if spec.name not in ON_CARDS and spec.kind != "list"]
    order = {name: place for place, name in enumerate(GROUPS)}
    return sorted(shown, key=lambda spec: (order.get(spec.group, len(order)), not spec.basic))


def settings() -> Safe:
    """Return every field under the heading of its group."""
    specs = fields()
    names = list(dict.fromkeys(spec.group for spec in specs))
    return el(
        "div.groups",
        [
            el(
                "div.group",
                el("h3", name or "More"),
                el("div.fields", [one(spec) for spec in specs if spec.group == name]),
                data_basic=any(spec.basic for spec in specs if spec.group == name),
            )
            for name in names
        ],
    )


def one(spec: FieldSpec) -> Safe:
    """Return one field: label, origin, control, help, the `?` with more, and room for a problem."""
    key = f"f-{spec.name}"
    return el(
        "div.f",
        el(
            "div.lab",
            el("label", spec.label, for_=key, title=spec.name),
            _more_button(spec, key) if spec.more else None,
            el("span.origin", data_origin=spec.name),
            el(
                "button.undo",
                "⟲",
                type="button",
                hidden=True,
                data_do="reset",
                data_field=spec.name,
                aria_label=f"Undo my change of {spec.label}",
                title="Undo my change",
            ),
        ),
        _control(spec, key),
        el("small.hint", spec.help, id=f"{key}-help", data_hint=spec.name),
        el("p.more", spec.more, id=f"{key}-more", hidden=True) if spec.more else None,
        el("p.wrong", id=f"{key}-wrong", data_wrong=spec.name, aria_live="polite"),
        data_f=spec.name,
        class_="basic" if spec.basic else None,
    )


def shown(value: Any) -> str:
    """Return a value as its field shows it: 2e-4, true, or nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return words.small(value) if isinstance(value, float) else str(value)


def said(entered: Entered) -> list[Layer]:
    """Return the layers of what a person brought: the recipe, if one is open, and the answers."""
    recipe = [Layer(RECIPE, entered.recipe)] if entered.recipe else []
    return [*recipe, Layer(MINE, entered.mine)]


def values(stack: Sequence[Layer]) -> dict[str, str]:
    """Return what every control should show, good or bad, from the layers on the defaults."""
    held = {spec.name: spec.default for spec in field_specs()}
    for layer in stack:
        held.update(flatten(layer.values))
    return {name: shown(value) for name, value in held.items()}


def origins(stack: Sequence[Layer], titles: Mapping[str, str]) -> dict[str, str]:
    """Return where every value comes from, as the form names it: a profile, the contract, you."""
    named = {spec.name: "contract" for spec in field_specs()}
    for layer in stack:
        told = "you" if layer.name == MINE else titles.get(layer.name, layer.name)
        named.update(dict.fromkeys(flatten(layer.values), told))
    return named


def wrong(problems: Sequence[Problem]) -> tuple[dict[str, str], list[Problem]]:
    """Return the problems that belong under a field, by its name, and the others."""
    names = {spec.name for spec in field_specs()}
    under: dict[str, str] = {}
    for problem in problems:
        if problem.where in names:
            told = f"{problem.what} {problem.remedy}".strip()
            under[problem.where] = f"{under.get(problem.where, '')} {told}".strip()
    return under, [problem for problem in problems if problem.where not in names]


def _control(spec: FieldSpec, key: str) -> Safe:
    about = {"id": key, "name": spec.name, "aria_describedby": f"{key}-help {key}-wrong"}
    if spec.kind == "bool":
        return el(
            "div.in.switch",
            el("input", type="checkbox", role="switch", **about),
            el("span.state", aria_hidden="true"),
        )
    if spec.kind == "choice":
        return el(
            "div.in.pick",
            el("select", [el("option", choice, value=choice) for choice in spec.choices], **about),
        )
    return el(
        "div.in",
        el(
            "input",
            type="text",
            inputmode="decimal" if spec.kind in ("int", "float") else None,
            autocomplete="off",
            spellcheck="false",
            placeholder="auto" if spec.nullable and spec.kind != "text" else None,
            **about,
        ),
        el("span.unit", spec.unit) if spec.unit else None,
    )


def _more_button(spec: FieldSpec, key: str) -> Safe:
    return el(
        "button.q",
        "?",
        type="button",
        data_do="more",
        aria_expanded="false",
        aria_controls=f"{key}-more",
        aria_label=f"More about {spec.label}",
    )


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): part for key, part in value.items()} if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
