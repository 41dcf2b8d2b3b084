"""Routes that write settings for another system, or as a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field

from modelforge.api.dependencies import (
    INVALID_SETTINGS,
    NO_MODEL_OR_DATA,
    NO_RUN,
    SETTINGS_BODY,
    ForgeDep,
    Settings,
    error,
)
from modelforge.api.errors import ForgeRoute
from modelforge.config.exporters.report import Exported
from modelforge.config.exporters.write import NAMES
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.services.exports.settings import ExportSource

NOTEBOOK = "application/x-ipynb+json"
router = APIRouter(route_class=ForgeRoute)
UNUSABLE = error(422, "The settings cannot be used, or the system does not train this method.")


@dataclass(frozen=True)
class SettingsExport:
    """Which settings are written, and for which system."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    to: Annotated[str, Field(max_length=40, description=f"One of {', '.join(NAMES)}.")]
    settings: Annotated[
        dict[str, Any], Field(description="Settings as in `runs`; not read if there is a run.")
    ] = field(default_factory=dict)
    run: Annotated[str | None, Field(max_length=200, description="Id of a run.")] = None


@dataclass(frozen=True)
class SettingsArchive(SettingsExport):
    """Which settings are written, for which system, and whether their rows are too."""

    rows: Annotated[
        bool, Field(description="Write the rows beside it as JSON Lines; a script always has them.")
    ] = False


@router.post("/export-settings", responses={**NO_RUN, **UNUSABLE})
def export_settings(request: SettingsExport, forge: ForgeDep) -> Exported:
    """Return the file of another system and a line for each of our settings; nothing is stored.

    A script reads rows beside itself, which `modelforge export-settings --out` writes.
    """
    return forge.settings_exports.export(_source(request, forge), request.to)


@router.post(
    "/export-settings/archive",
    responses={**NO_RUN, **UNUSABLE, 200: {"content": {"application/zip": {}}}},
    response_class=StreamingResponse,
)
def export_archive(request: SettingsArchive, forge: ForgeDep) -> StreamingResponse:
    """Return a zip with the file of another system and all that it reads beside itself."""
    source = _source(request, forge)
    name, chunks = forge.settings_exports.archive(source, request.to, with_data=request.rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks, media_type="application/zip", headers=headers)


@router.post(
    "/notebook",
    openapi_extra=SETTINGS_BODY,
    responses={**NO_MODEL_OR_DATA, **INVALID_SETTINGS, 200: {"content": {NOTEBOOK: {}}}},
    response_class=Response,
)
def notebook(settings: Settings, forge: ForgeDep) -> Response:
    """Return a notebook for Colab or Kaggle that trains these settings, with its data inside.

    It gives back a zip that `POST /api/runs/import` takes in.
    """
    made = forge.notebooks.make([settings], [settings])
    headers = {"Content-Disposition": 'attachment; filename="training-run.ipynb"'}
    return Response(made.text, media_type=NOTEBOOK, headers=headers)


def _source(request: SettingsExport, forge: Forge) -> ExportSource:
    service = forge.settings_exports
    if request.run is not None:
        return service.of_run(request.run)
    return service.of_settings(Layer("body", request.settings), system=request.to)
