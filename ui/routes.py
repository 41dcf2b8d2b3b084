"""The face's own addresses: a run's live parts, chat, downloads, and the manifest."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from anyio import from_thread, to_thread
from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from modelforge.errors import ForgeError, NotFoundError, Problem
from modelforge.forge import Forge
from ui import live
from ui.pages import extras
from ui.pages.train import data_actions

MANIFEST = {
    "name": "ModelForge",
    "short_name": "ModelForge",
    "description": "Guided fine-tuning of language models on one computer.",
    "id": "/",
    "start_url": "/",
    "scope": "/",
    "display": "standalone",
    "background_color": "#f6f6f4",
    "theme_color": "#cf430c",
    "icons": [
        {"src": "/face/icons/icon.svg", "sizes": "any", "type": "image/svg+xml"},
        {"src": "/face/icons/icon-192.png", "sizes": "192x192", "type": "image/png"},
        {"src": "/face/icons/icon-512.png", "sizes": "512x512", "type": "image/png"},
        {
            "src": "/face/icons/icon-512.png",
            "sizes": "512x512",
            "type": "image/png",
            "purpose": "maskable",
        },
    ],
}


class Said(BaseModel):
    """One message of a conversation."""

    role: str
    content: str = Field(max_length=100_000)


class Question(BaseModel):
    """What the chat page asks."""

    model_config = ConfigDict(extra="forbid")

    target: str
    messages: list[Said] = Field(min_length=1, max_length=200)
    tuned: bool = True
    temperature: float = Field(default=0.0, ge=0, le=2)


class Wanted(BaseModel):
    """A data set of the Hub that is to be fetched."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    subset: str | None = Field(default=None, max_length=200)
    split: str | None = Field(default=None, max_length=200)


def router(forge: Forge) -> APIRouter:
    """Return the routes under /face that are no files."""
    routes = APIRouter(prefix="/face", include_in_schema=False)
    watchers = live.Watchers(forge)

    @routes.get("/manifest.webmanifest")
    def manifest() -> Response:
        return JSONResponse(MANIFEST, media_type="application/manifest+json")

    @routes.get("/runs/{run_id}/live", response_model=None, response_class=EventSourceResponse)
    async def follow(run_id: str) -> AsyncIterator[ServerSentEvent]:
        async for event in live.pictures(forge, watchers, run_id):
            yield event

    @routes.post("/chat")
    def chat(question: Annotated[Question, Body()]) -> Response:
        return StreamingResponse(
            live.answers(forge, question.model_dump()),
            media_type="application/x-ndjson",
            headers={"Cache-Control": "no-store"},
        )

    @routes.get("/runs/{run_id}/result.zip")
    def result(run_id: str) -> Response:
        try:
            path = zipped(forge, run_id)
        except ForgeError as error:
            return JSONResponse(said(error), status_code=error.http_status)
        return FileResponse(
            path,
            filename=path_name(forge, run_id),
            media_type="application/zip",
            background=BackgroundTask(path.unlink, missing_ok=True),
        )

    _bringing(routes, forge)
    return routes


def _bringing(routes: APIRouter, forge: Forge) -> None:
    @routes.post("/uploads")
    async def upload(request: Request, filename: str) -> Response:
        pieces = _bridged(request)
        try:
            kept = await to_thread.run_sync(lambda: data_actions.keep(forge, filename, pieces))
        except ForgeError as error:
            return JSONResponse(said(error), status_code=error.http_status)
        return JSONResponse(kept, status_code=201)

    @routes.post("/fetch")
    def fetch(wanted: Annotated[Wanted, Body()]) -> Response:
        return StreamingResponse(
            live.fetched(forge, wanted.name, wanted.subset, wanted.split),
            media_type="application/x-ndjson",
            headers={"Cache-Control": "no-store"},
        )

    @routes.post("/extras/unsloth")
    def add_unsloth() -> Response:
        return StreamingResponse(
            extras.added(forge, "unsloth"),
            media_type="application/x-ndjson",
            headers={"Cache-Control": "no-store"},
        )


def _bridged(request: Request) -> Iterator[bytes]:
    """Give the body to a thread piece by piece, never more of it than one."""
    stream = request.stream()

    async def following() -> bytes | None:
        async for piece in stream:
            return piece
        return None

    while (piece := from_thread.run(following)) is not None:
        yield piece


def zipped(forge: Forge, run_id: str) -> Path:
    """Return a new zip file with what a run left; whoever asked for it deletes it."""
    folder = forge.folder(run_id)
    if not folder.has_result:
        problem = Problem("run", f"{run_id} has no model.", "Choose a finished run.")
        raise NotFoundError(problem)
    with tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
        target = Path(file.name)
    # Weights do not shrink, so they are only put together.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.output.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, Path(run_id) / path.relative_to(folder.output))
    return target


def path_name(forge: Forge, run_id: str) -> str:
    """Return what the zip file is called where it lands."""
    return f"{run_id}-{'model' if forge.folder(run_id).has_model else 'adapter'}.zip"


def said(error: ForgeError) -> dict[str, Any]:
    """Return an error as REST gives it."""
    return {"problems": [problem.as_dict() for problem in error.problems]}
