"""Settings of a preset or of another system in a form: what the form keeps, and what changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.fields import FieldSpec, specs_by_name
from modelforge.config.resolve import flatten
from modelforge.config.schema.base import about
from modelforge.runs.presets import DATA
from modelforge.services.layers import FormInput, LayerStack, setting_values

MODEL = "model_name"
PROFILE = "compute_specs"
SOURCES, VALIDATION = "data.sources", "data.validation_sources"


@dataclass(frozen=True)
class SettingChange:
    """One setting that another value would replace."""

    setting: str
    label: str
    now: Annotated[Any, about("The value in force; null if there is none.")]
    then: Annotated[Any, about("The value that replaces it.")]


@dataclass(frozen=True)
class SettingChanges:
    """The settings that would change, and how many stay as they are."""

    changed: list[SettingChange]
    same: int


def taken_over(
    settings: Mapping[str, Any], form: FormInput, *, keep: Collection[str] = ()
) -> FormInput:
    """Return the form with `settings` as its recipe.

    It keeps its data and, unless they train from nothing, its model where the settings name none,
    and what `keep` says: `data`, `model`. All other values of the form are discarded.
    """
    flat = flatten(settings)
    kept = set(DATA) if "data" in keep or not DATA & flat.keys() else set()
    # A model that is trained from nothing is made by the run.
    is_new = flat.get("pretraining.enabled") is True
    if not is_new and ("model" in keep or MODEL not in flat):
        kept.add(MODEL)
    own = flatten(form.recipe) | form.values
    values = {name: own[name] for name in kept if name in own}
    if kept >= DATA and "dataset" in own and SOURCES in flat:
        # An empty list stands above the sources of the recipe.
        values.setdefault(SOURCES, [])
    return FormInput(flat.get(PROFILE, form.profile), values, dict(settings))


def setting_changes(now: LayerStack, then: LayerStack) -> SettingChanges:
    """Return the settings whose values differ; those that apply in neither form are left out."""
    before, after = _values(now), _values(then)
    hidden = now.hidden & then.hidden
    shown = [spec for spec in specs_by_name().values() if spec.name not in hidden | {SOURCES}]
    changed = [
        SettingChange(spec.name, _label(spec), before[spec.name], after[spec.name])
        for spec in shown
        if not _is_same(before[spec.name], after[spec.name])
    ]
    return SettingChanges(changed, len(shown) - len(changed))


def _values(stack: LayerStack) -> dict[str, Any]:
    """Return the values by name; data sources by their paths."""
    values = setting_values(stack.all_layers)
    if sources := _paths(values[SOURCES]):
        values["dataset"] = sources
    values[VALIDATION] = _paths(values[VALIDATION])
    return {name: None if value == "" else value for name, value in values.items()}


def _paths(sources: Any) -> str:
    """Return the paths of data sources with commas."""
    listed = sources if isinstance(sources, list) else []
    paths = [source.get("path", "") for source in listed if isinstance(source, Mapping)]
    return ", ".join(map(str, paths))


def _is_same(first: Any, second: Any) -> bool:
    """Return whether two values are the same: a form has numbers and switches as texts."""
    return bool(first == second) or _number(first) == _number(second)


def _number(value: Any) -> Any:
    text = str(value).strip().lower()
    try:
        return float(text)
    except ValueError:
        return text


def _label(spec: FieldSpec) -> str:
    return "Data" if spec.name == "dataset" else spec.label
