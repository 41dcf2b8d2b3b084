"""The app: our FastAPI with REST, the face's own addresses and Gradio's pages, all behind the guard."""

from __future__ import annotations

import os
from collections.abc import Collection

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr  # noqa: E402 - reads the switches above while it is imported
from fastapi import FastAPI  # noqa: E402
from starlette.responses import FileResponse  # noqa: E402
from starlette.staticfiles import StaticFiles  # noqa: E402
from starlette.types import ASGIApp  # noqa: E402

from modelforge import __version__, api  # noqa: E402
from modelforge.forge import Forge  # noqa: E402
from modelforge.guard import Guard  # noqa: E402
from modelforge.home import shipped  # noqa: E402
from ui import routes  # noqa: E402
from ui.frame import Frame  # noqa: E402
from ui.pages import chat, export, machine, runs, train  # noqa: E402
from ui.theme import theme  # noqa: E402

FOLDERS = ("css", "js", "icons")


def build(forge: Forge) -> FastAPI:
    """Return the app without the guard: REST under /api, our files under /face, pages at /."""
    # REST describes itself under /api.
    app = FastAPI(title="ModelForge", version=__version__, openapi_url=None)
    app.include_router(api.router(forge))
    app.include_router(routes.router(forge))
    assets = shipped("assets")
    for folder in FOLDERS:
        app.mount(f"/face/{folder}", StaticFiles(directory=assets / folder))

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> FileResponse:
        return FileResponse(assets / "icons" / "icon-32.png")

    return gr.mount_gradio_app(
        app,
        pages(forge),
        path="/",
        theme=theme(),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        max_file_size="1mb",
    )


def pages(forge: Forge) -> gr.Blocks:
    """Return the five pages, one route each."""
    with gr.Blocks(title="ModelForge", analytics_enabled=False) as blocks:
        train.page(forge)
    for title, page in (("Runs", runs), ("Chat", chat), ("Export", export), ("Machine", machine)):
        with blocks.route(title, f"/{title.lower()}"):
            page.page(forge)
    return blocks


def guarded(
    forge: Forge, *, hosts: Collection[str] = (), password: str | None = None
) -> ASGIApp:
    """Return what is served: the app, its pages framed, and the guard around all of it."""
    return Guard(Frame(build(forge)), hosts=hosts, password=password)
