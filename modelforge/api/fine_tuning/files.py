"""Routes of files: upload, list, return and delete the datasets of this home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.datastructures import UploadFile

from modelforge.api.dependencies import ForgeDep
from modelforge.api.fine_tuning.errors import FineTuningRoute
from modelforge.data.sources.library import StoredDataset
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import NotFoundError, Problem
from modelforge.forge import Forge
from modelforge.runs.view import RunView
from modelforge.serving.requests import ApiError
from modelforge.units import MIB

PREFIX, RESULT_PREFIX = "file-", "fileresult-"
PURPOSE, RESULT_PURPOSE = "fine-tune", "fine-tune-results"
MAX_PAGE = 10_000

router = APIRouter(route_class=FineTuningRoute)


@router.post("/files")
async def create(request: Request, forge: ForgeDep) -> dict[str, Any]:
    """Store an uploaded file as a dataset. Its rows are checked when a job is created."""
    async with request.form(max_files=1, max_fields=8) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise ApiError("The file is missing. Send it as the form field file.", param="file")
        if purpose != PURPOSE:
            message = f"The purpose {purpose!r:.60} is not possible. Use {PURPOSE}."
            raise ApiError(message, param="purpose", code="unsupported_value")
        if any(str(name).startswith("expires_after") for name in form):
            message = "Files do not expire here. Leave expires_after out, and delete the file."
            raise ApiError(message, param="expires_after", code="unsupported_value")
        path = await to_thread.run_sync(_save, forge, file)
    return _file(forge.datasets.find(path.name))


@router.get("/files")
def files(
    forge: ForgeDep,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """List uploads, downloads and samples; the results of jobs are not listed."""
    stored = [] if purpose not in (None, PURPOSE) else forge.datasets.available()
    objects = [_file(each) for each in stored if each.path.is_file()]
    objects.sort(key=lambda each: each["created_at"], reverse=order == "desc")
    return page(objects, limit, after)


@router.get("/files/{file_id}")
def file(file_id: str, forge: ForgeDep) -> dict[str, Any]:
    """Return a file, or the metrics of a job."""
    if file_id.startswith(RESULT_PREFIX):
        return _result(forge, forge.runs.view(file_id.removeprefix(RESULT_PREFIX)))
    return _file(find_file(forge, file_id))


@router.get("/files/{file_id}/content")
def content(file_id: str, forge: ForgeDep) -> Response:
    """Return the content of a file as it was uploaded, or the metrics of a job as CSV."""
    if file_id.startswith(RESULT_PREFIX):
        chunks = forge.history.export_csv([file_id.removeprefix(RESULT_PREFIX)])
        return StreamingResponse(chunks, media_type="text/csv")
    path = find_file(forge, file_id).path
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


@router.delete("/files/{file_id}")
def delete(file_id: str, forge: ForgeDep) -> dict[str, Any]:
    """Delete a file that no run needs."""
    forge.datasets.delete(find_file(forge, file_id).name)
    return {"id": file_id, "object": "file", "deleted": True}


def find_file(forge: Forge, file_id: str) -> StoredDataset:
    """Return the dataset with this id of a file; raises NotFoundError."""
    stored = next((each for each in forge.datasets.available() if id_of(each) == file_id), None)
    if stored is None or not stored.path.is_file():
        what = f"There is no file {file_id[:120]!r}."
        raise NotFoundError(Problem("file", what, "Upload it first; /v1/files lists all files."))
    return stored


def id_of(stored: StoredDataset) -> str:
    """Return the id of a dataset as a file."""
    return f"{PREFIX}{stored.name}"


def id_of_path(path: str) -> str:
    """Return the id of the file that a setting names."""
    return f"{PREFIX}{PureWindowsPath(path).name}"


def page(objects: list[dict[str, Any]], limit: int, after: str | None) -> dict[str, Any]:
    """Return a page of objects in the order given; raises ApiError for an unknown `after`."""
    if after is not None:
        ids = [each["id"] for each in objects]
        if after not in ids:
            message = f"after is {after!r:.100}, which is not in this list. Begin with the first."
            raise ApiError(message, param="after", code="invalid_value")
        objects = objects[ids.index(after) + 1 :]
    shown = objects[:limit]
    return {
        "object": "list",
        "data": shown,
        "has_more": len(objects) > len(shown),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _save(forge: Forge, file: UploadFile) -> Path:
    # A client that sends bytes without a name calls them "upload"; files of this API are JSONL.
    name = PurePosixPath(file.filename or "upload")
    filename = str(name) if name.suffix else f"{name}.jsonl"
    return forge.datasets.upload(filename, _chunks(file), MAX_UPLOAD_BYTES)


def _chunks(file: UploadFile) -> Iterator[bytes]:
    while chunk := file.file.read(MIB):
        yield chunk


def _file(stored: StoredDataset) -> dict[str, Any]:
    return _object(id_of(stored), stored.name, stored.size_bytes, stored.changed, PURPOSE)


def _result(forge: Forge, view: RunView) -> dict[str, Any]:
    size = sum(len(chunk.encode()) for chunk in forge.history.export_csv([view.id]))
    name = f"{view.id}.csv"
    return _object(f"{RESULT_PREFIX}{view.id}", name, size, view.updated, RESULT_PURPOSE)


def _object(file_id: str, name: str, size: int, created: float, purpose: str) -> dict[str, Any]:
    return {
        "id": file_id,
        "object": "file",
        "bytes": size,
        "created_at": int(created),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }
