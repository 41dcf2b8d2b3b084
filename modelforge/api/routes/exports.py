"""Routes of exports: predict, start, list, follow, stop, delete and download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from modelforge.api.dependencies import ForgeDep, RequestId, Responses, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.routes.runs import without_control
from modelforge.errors import NotFoundError, Problem
from modelforge.runs.exports import ExportRequest
from modelforge.services.exports import ExportView, Prediction

NO_EXPORT = error(404, "There is no such export.")
REFUSED = {
    **error(404, "There is no such run, or its base model is not on this computer."),
    **error(422, "The run cannot be exported like this; `problems` lists every reason."),
    **error(501, "A package is not installed; the remedy says which."),
}
FILES: Responses = {
    200: {
        "content": {"application/octet-stream": {}, "application/zip": {}},
        "description": "One file as it is, or several as a zip.",
    },
    **error(404, "There is no such export, or it has no files."),
}
ExportBody = Annotated[ExportRequest, Body()]

router = APIRouter(route_class=ForgeRoute)


@router.get("/exports")
def exports(
    forge: ForgeDep,
    run: Annotated[str | None, Query(description="Only exports of this run, by its id.")] = None,
) -> list[ExportView]:
    """List the exports, newest first."""
    return forge.exports.list(run)


@router.post("/exports/predict", responses=REFUSED)
def predict(export: ExportBody, forge: ForgeDep) -> Prediction:
    """Return size, disk space, memory and time that an export needs. Nothing is started."""
    return forge.exports.predict(export)


@router.post("/exports", status_code=202, responses=REFUSED)
def start(
    export: ExportBody,
    request: Request,
    response: Response,
    forge: ForgeDep,
    request_id: RequestId,
) -> ExportView:
    """Start an export. It waits while a run or another export uses this computer."""
    return _created(forge.exports.start(export, request_id=request_id), request, response)


@router.get("/exports/{export_id}", responses=NO_EXPORT)
def export(export_id: str, forge: ForgeDep) -> ExportView:
    """Return an export with its state, steps and self-test; ask again to follow it."""
    return forge.exports.view(export_id)


@router.get("/exports/{export_id}/log", responses=NO_EXPORT, response_class=PlainTextResponse)
def log(export_id: str, forge: ForgeDep) -> str:
    """Return the end of the exporter's log as plain text."""
    return without_control(forge.exports.log(export_id))


@router.post("/exports/{export_id}/stop", responses=NO_EXPORT)
def stop(export_id: str, forge: ForgeDep) -> ExportView:
    """Stop an export that waits or is in progress. None of its files are kept."""
    return forge.exports.stop(export_id)


@router.post("/exports/{export_id}/push", status_code=202, responses={**REFUSED, **NO_EXPORT})
def push(
    export_id: str,
    request: Request,
    response: Response,
    forge: ForgeDep,
    repository: Annotated[str, Body(description="On the Hub: `user/name`.")],
    private: Annotated[bool, Body(description="Whether a new repository is private.")] = True,
) -> ExportView:
    """Upload a finished export to the Hugging Face Hub as it is; the upload is an export too."""
    return _created(forge.exports.push(export_id, repository, private=private), request, response)


@router.delete(
    "/exports/{export_id}",
    status_code=204,
    responses={**NO_EXPORT, **error(409, "The export is in progress or is being served.")},
)
def delete(export_id: str, forge: ForgeDep) -> None:
    """Delete an export and its files. It cannot be restored."""
    forge.exports.delete(export_id)


@router.get("/exports/{export_id}/download", responses=FILES, response_class=Response)
def download(
    export_id: str,
    forge: ForgeDep,
    all: Annotated[
        bool, Query(description="With a GGUF file also its model card, as a zip.")
    ] = False,
) -> Response:
    """Return the files of an export. What failed its self-test is named `not-usable-…`."""
    view, folder = forge.exports.view(export_id), forge.exports.path(export_id)
    files = _files(folder)
    if view.format == "gguf" and not all:
        files = [file for file in files if file.suffix == ".gguf"] or files
    is_refused = folder == forge.exports.folder(export_id).not_usable
    prefix = "not-usable-" if is_refused else ""
    if len(files) == 1:
        kind, name = "application/octet-stream", f"{prefix}{files[0].name}"
        return FileResponse(files[0], media_type=kind, headers=_headers(name))
    chunks = forge.exports.zip_chunks(export_id)
    headers = _headers(f"{prefix}{view.name}.zip")
    return StreamingResponse(chunks, media_type="application/zip", headers=headers)


def _created(view: ExportView, request: Request, response: Response) -> ExportView:
    """Return a new export, with its address in the Location header."""
    prefix = request.url.path.partition("/api/")[0]
    response.headers["location"] = f"{prefix}/api/exports/{view.id}"
    return view


def _files(folder: Path) -> list[Path]:
    """Return the files of an export; a link could lead anywhere and is none of them."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    if not files:
        raise NotFoundError(Problem("export", "It has no files.", "Export the run again."))
    return files


def _headers(name: str) -> dict[str, str]:
    """Return headers with which a browser stores a file instead of displaying it."""
    return {
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}",
        "X-Content-Type-Options": "nosniff",
    }
