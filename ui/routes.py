"""HTTP routes of the pages under /ui: live runs, chat, uploads, downloads and the manifest."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python
from starlette.background import BackgroundTask

from modelforge.api.dependencies import iterate_waiting, run_with_body
from modelforge.api.errors import ForgeRoute
from modelforge.forge import Forge
from modelforge.runs.notes import run_name
from modelforge.runs.portable.files import result_files
from modelforge.services.exports.service import stem_of
from modelforge.services.runs import log_tail
from modelforge.serving.service import LOG as SERVING_LOG
from modelforge.units import KIB
from ui.html.layout import asset_url
from ui.pages import chat, extras
from ui.pages.run import live
from ui.pages.train import data_actions

MAX_LOG_BYTES = 64 * KIB


class ChatMessage(BaseModel):
    """One message of a conversation."""

    role: str
    content: str = Field(max_length=100_000)


class ChatRequest(BaseModel):
    """A request of the Chat page."""

    model_config = ConfigDict(extra="forbid")

    target: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    tuned: bool = True
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_new_tokens: int = Field(default=256, ge=1, le=8192)


class FetchRequest(BaseModel):
    """A dataset to download from the Hub."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=1200)
    subset: str | None = Field(default=None, max_length=200)
    split: str | None = Field(default=None, max_length=200)


class InstallRequest(BaseModel):
    """A request to install an extra, which the user has confirmed."""

    model_config = ConfigDict(extra="forbid")

    confirmed: Literal[True]


def router(forge: Forge) -> APIRouter:
    """Return the routes under /ui that are not static files."""
    routes = APIRouter(prefix="/ui", include_in_schema=False, route_class=ForgeRoute)

    @routes.get("/manifest.webmanifest")
    def show_manifest() -> Response:
        return JSONResponse(manifest(), media_type="application/manifest+json")

    @routes.get("/runs/{run_id}/live", response_model=None, response_class=EventSourceResponse)
    async def follow_run(run_id: str) -> AsyncIterator[ServerSentEvent]:
        async for event in live.run_updates(forge, run_id):
            yield event

    @routes.post("/chat")
    def answer(request: Annotated[ChatRequest, Body()]) -> Response:
        return _json_lines(chat.answer_lines(forge, request.model_dump()))

    @routes.get("/chat/log")
    def chat_log() -> Response:
        return PlainTextResponse(log_tail(forge.home.logs / "chat.log", MAX_LOG_BYTES))

    @routes.get("/serving/log")
    def serving_log() -> Response:
        return PlainTextResponse(log_tail(forge.home.logs / SERVING_LOG, MAX_LOG_BYTES))

    @routes.get("/runs/{run_id}/result.zip")
    def download_result(run_id: str) -> Response:
        path = zip_result(forge, run_id)
        return FileResponse(
            path,
            filename=zip_name(forge, run_id),
            media_type="application/zip",
            background=BackgroundTask(path.unlink, missing_ok=True),
        )

    _add_data_routes(routes, forge)
    return routes


def _add_data_routes(routes: APIRouter, forge: Forge) -> None:
    @routes.post("/uploads")
    async def upload(request: Request, filename: str) -> Response:
        def store(chunks: Iterator[bytes]) -> Any:
            return data_actions.store_upload(forge, filename, chunks)

        reply = await run_with_body(request, store)
        return JSONResponse(to_jsonable_python(reply), status_code=201)

    @routes.post("/fetch")
    def fetch(request: Annotated[FetchRequest, Body()]) -> Response:
        lines = data_actions.fetch_lines(forge, request.name, request.subset, request.split)
        return _json_lines(lines)

    @routes.post("/extras/unsloth")
    def install_unsloth(_request: Annotated[InstallRequest, Body()]) -> Response:
        return _json_lines(extras.install_lines(forge, "unsloth"))


def manifest() -> dict[str, Any]:
    """Return the web app manifest."""
    sizes = (("icon-192.png", "192x192"), ("icon-512.png", "512x512"))
    images = [
        {"src": asset_url(f"icons/{name}"), "sizes": size, "type": "image/png"}
        for name, size in sizes
    ]
    vector = {"src": asset_url("icons/icon.svg"), "sizes": "any", "type": "image/svg+xml"}
    return {
        "name": "ModelForge",
        "short_name": "ModelForge",
        "description": "Guided fine-tuning of language models on one computer.",
        "id": "/",
        "start_url": "/",
        "scope": "/",
        "display": "standalone",
        "background_color": "#f6f6f4",
        "theme_color": "#cf430c",
        "icons": [vector, *images, {**images[-1], "purpose": "maskable"}],
    }


def zip_result(forge: Forge, run_id: str) -> Path:
    """Write the result of a run, as others get it, to a new zip file; the caller deletes it."""
    files = list(result_files(forge.runs.folder(run_id)))
    inside = Path(zip_name(forge, run_id)).stem
    with tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
        target = Path(file.name)
    # Weights do not compress, so they are stored.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            if isinstance(content, Path):
                archive.write(content, f"{inside}/{name}")
            else:
                archive.writestr(f"{inside}/{name}", content)
    return target


def zip_name(forge: Forge, run_id: str) -> str:
    """Return the file name of the downloaded zip file: the name of the run, and what it holds."""
    folder = forge.runs.folder(run_id)
    stem = stem_of(run_name(folder), run_id)
    return f"{stem}-{'model' if folder.has_model else 'adapter'}.zip"


def _json_lines(lines: Iterator[str]) -> Response:
    return StreamingResponse(
        iterate_waiting(lines),
        media_type="application/x-ndjson",
        headers={"Cache-Control": "no-store"},
    )
