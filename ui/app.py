"""The app: FastAPI with REST, the face's own addresses and Gradio's pages, behind the guard."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from modelforge import __version__
from modelforge.api.router import add_api
from modelforge.forge import Forge
from modelforge.paths import resource_folder
from modelforge.security.middleware import Guard
from ui import routes
from ui.html.layout import Frame, theme
from ui.pages import build as building
from ui.pages import chat, compare, export, machine
from ui.pages.runs import page as runs
from ui.pages.train import page as train

FOLDERS = ("css", "js", "icons")


def build(forge: Forge) -> FastAPI:
    """Return the app without the guard: REST under /api, our files under /face, pages at /."""
    # REST describes itself under /api.
    app = FastAPI(title="ModelForge", version=__version__, openapi_url=None)
    add_api(app, forge)
    app.include_router(routes.router(forge))
    assets = resource_folder("assets")
    for folder in FOLDERS:
        app.mount(f"/face/{folder}", StaticFiles(directory=assets / folder))

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> FileResponse:
        return FileResponse(assets / "icons" / "icon-32.png")

    with warnings.catch_warnings():
        # Gradio 6.31 warns that it renders nothing on the server, though we ask for just that.
        warnings.filterwarnings("ignore", "SSR mode", UserWarning)
        gr.mount_gradio_app(
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
    return app


def pages(forge: Forge) -> gr.Blocks:
    """Return the pages, one route each."""
    blocks = gr.Blocks(title="ModelForge", analytics_enabled=False)
    with blocks:
        train.page(forge)
    others = {
        "Runs": runs, "Compare": compare, "Chat": chat, "Export": export, "Machine": machine,
        "Build": building,
    }  # fmt: skip
    for title, page in others.items():
        with blocks.route(title, f"/{title.lower()}"):
            page.page(forge)
    return blocks


def guarded(forge: Forge, *, hosts: Collection[str] = (), password: str | None = None) -> ASGIApp:
    """Return what is served: the app, its pages framed, and the guard around all of it."""
    return Guard(Frame(build(forge)), hosts=hosts, password=password)
