"""The presets of the Train page: store the chosen settings under a name, and apply them."""

from __future__ import annotations

from typing import Any

from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.forge import Forge
from modelforge.runs.presets import DATA, Preset
from modelforge.services.layers import FormInput
from modelforge.services.presets.take_over import setting_changes, taken_over
from ui.contract import PresetReply, PresetsReply
from ui.html.gradio_page import ServerFunction, flag, text
from ui.pages.train import import_report
from ui.pages.train.form import Entered

# A preset does not depend on the data: the form may have none yet.
ANY_DATA = Layer("any data", {"dataset": "any", "data.sources": [], "data.validation_sources": []})


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions of the dialog Presets."""

    def presets(_request: Any = None, *, toast: str = "") -> PresetsReply:
        every = forge.presets.all()
        own = [{"name": one.name, "problem": one.problem} for one in every if not one.is_shipped]
        shipped = [
            {"name": one.name, "description": one.description} for one in every if one.is_shipped
        ]
        return PresetsReply(presets=own, shipped=shipped, toast=toast)

    def list_presets(_request: Any) -> PresetsReply:
        return presets()

    def save_preset(request: Any) -> PresetsReply:
        settings = chosen_settings(
            forge, Entered.read(request), with_model=flag(request, "with_model")
        )
        preset = forge.presets.save(text(request, "name"), settings, replace=False)
        return presets(toast=f"The preset “{preset.name}” is stored.")

    def apply_preset(request: Any) -> PresetReply:
        preset = forge.presets.read(text(request, "name"))
        return applied(forge, preset, Entered.read(request))

    def rename_preset(request: Any) -> PresetsReply:
        forge.presets.rename(text(request, "name"), text(request, "new_name"))
        return presets()

    def delete_preset(request: Any) -> PresetReply:
        preset = forge.presets.read(text(request, "name"))
        forge.presets.delete(preset.name)
        return PresetReply(recipe=preset.settings)

    def restore_preset(request: Any) -> PresetsReply:
        recipe = Entered.read(request).recipe
        forge.presets.save(text(request, "name"), recipe, replace=False)
        return presets(toast="The preset is back.")

    return [list_presets, save_preset, apply_preset, rename_preset, delete_preset, restore_preset]


def applied(forge: Forge, preset: Preset, entered: FormInput) -> PresetReply:
    """Return a preset as the recipe of a form, and what it changes.

    The form keeps its data, and its model if the preset has none.
    """
    form = taken_over(preset.settings, entered)
    found = setting_changes(forge.layers.stack(entered), forge.layers.stack(form))
    changes = import_report.preset_changes(found, preset.description)
    return PresetReply(
        recipe=form.recipe, values=form.values, profile=form.profile, changes=changes
    )


def chosen_settings(forge: Forge, entered: FormInput, *, with_model: bool) -> dict[str, Any]:
    """Return what the user has chosen, by dotted name, without data; raises what `resolve` does."""
    stack = forge.layers.stack(entered)
    names = {*flatten(entered.recipe), *entered.values} - stack.overridden - stack.hidden - DATA
    names |= {"compute_specs"} if entered.profile else set()
    names -= set() if with_model else {"model_name"}
    model = Layer("any model", {"model_name": "any"}) if not stack.texts["model_name"] else None
    layers = [*([model] if model else []), *stack.layers, ANY_DATA]
    values = flatten(resolve(*layers).config.model_dump())
    return {name: values[name] for name in values if name in names}
