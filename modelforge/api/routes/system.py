"""Routes for health, settings schema, machine, profiles, samples and downloads of models."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query

from modelforge import __version__
from modelforge.api.dependencies import ForgeDep, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import Health, MachineInfo
from modelforge.config.json_schema import json_schema
from modelforge.config.profiles import Profile
from modelforge.data.sources.library import Sample, load_samples
from modelforge.services.downloads import Download

router = APIRouter(route_class=ForgeRoute)
REFUSED = {
    **error(404, "There is no such model, or the Hub cannot be reached."),
    **error(409, "A model is being downloaded already."),
    **error(422, "The model is on this computer already, or too large for the disk."),
}


@router.get("/health")
def health(forge: ForgeDep) -> Health:
    """Return the server's version and the run that uses the machine."""
    return Health(status="ok", version=__version__, active=forge.runs.active(), warm=forge.is_warm)


@router.get("/schema")
def schema(forge: ForgeDep) -> dict[str, Any]:
    """Return the JSON Schema of the settings with label, help, unit and group of each."""
    return json_schema(forge.layers.profiles())


@router.get("/machine")
def machine(
    forge: ForgeDep,
    refresh: Annotated[bool, Query(description="Query the hardware again.")] = False,
) -> MachineInfo:
    """Return the hardware of this computer and the profile that suits it."""
    found = forge.machine.current(refresh=refresh)
    profile, reason = forge.layers.detect_profile(found)
    return MachineInfo(
        **vars(found),
        device=found.device,
        practice=found.practice_mode,
        profile=profile,
        reason=reason,
    )


@router.get("/profiles")
def profiles(forge: ForgeDep) -> list[Profile]:
    """List the hardware profiles with their initial settings: shipped ones and the user's own."""
    return list(forge.layers.profiles().values())


@router.get("/samples")
def samples() -> list[Sample]:
    """List the bundled datasets."""
    return list(load_samples())


@router.post("/models/download", status_code=202, responses=REFUSED)
def download_model(
    forge: ForgeDep,
    model: Annotated[str, Body(embed=True, max_length=200, description="The Hub id.")],
) -> Download:
    """Download a model of the Hub to its cache. Complete files of a former download are kept."""
    return forge.downloads.start(model)


@router.get("/models/download")
def current_download(forge: ForgeDep) -> Download | None:
    """Return the download in progress, or the last one; null before the first."""
    return forge.downloads.current()


@router.delete("/models/download", status_code=204)
def cancel_download(forge: ForgeDep) -> None:
    """Cancel the download in progress. Complete files are kept."""
    forge.downloads.cancel()
