"""Routes of presets: named settings without data."""

from __future__ import annotations

from fastapi import APIRouter

from modelforge.api.dependencies import (
    OPTIONAL_SETTINGS_BODY,
    SETTINGS_BODY,
    ForgeDep,
    OptionalSettings,
    Settings,
    error,
)
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import PresetName
from modelforge.runs.presets import Preset
from modelforge.services.layers import FormInput
from modelforge.services.presets.take_over import SettingChanges, setting_changes, taken_over

router = APIRouter(route_class=ForgeRoute)
NO_PRESET = error(404, "There is no such preset.")
UNUSABLE = error(422, "The name or the settings cannot be used.")


@router.get("/presets")
def presets(forge: ForgeDep) -> list[Preset]:
    """List the presets of the user by name, then the shipped ones, with their settings."""
    return forge.presets.all()


@router.get("/presets/{name}", responses={**NO_PRESET, **UNUSABLE})
def preset(name: str, forge: ForgeDep) -> Preset:
    """Return a preset; its settings are part of a body of `runs`, beside data and model."""
    return forge.presets.read(name)


@router.post(
    "/presets/{name}/changes",
    openapi_extra=OPTIONAL_SETTINGS_BODY,
    responses={**NO_PRESET, **UNUSABLE},
)
def preset_changes(name: str, settings: OptionalSettings, forge: ForgeDep) -> SettingChanges:
    """Return what a preset would change in these settings; nothing is stored.

    Without a body it is compared with the values that the form starts from on this machine.
    """
    form = FormInput(recipe=dict(settings.values))
    then = taken_over(forge.presets.read(name).settings, form)
    return setting_changes(forge.layers.stack(form), forge.layers.stack(then))


@router.put("/presets/{name}", openapi_extra=SETTINGS_BODY, responses=UNUSABLE)
def save_preset(name: str, settings: Settings, forge: ForgeDep) -> Preset:
    """Store settings without data under a name; a preset of this name is replaced."""
    return forge.presets.save(name, settings.values)


@router.post("/presets/{name}/rename", responses={**NO_PRESET, **UNUSABLE})
def rename_preset(name: str, new: PresetName, forge: ForgeDep) -> Preset:
    """Give a preset another name, which no other preset has."""
    return forge.presets.rename(name, new.name)


@router.delete("/presets/{name}", status_code=204, responses={**NO_PRESET, **UNUSABLE})
def delete_preset(name: str, forge: ForgeDep) -> None:
    """Delete a preset."""
    forge.presets.delete(name)
