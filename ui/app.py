"""Build the web application: REST, the routes of the pages, static files and Gradio."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# A library of Gradio reads it, also where an environment has none.
os.environ.setdefault("PATH", os.defpath)
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.types import ASGIApp

from modelforge import __version__
from modelforge.api.router import add_api
from modelforge.forge import Forge
from modelforge.paths import resource_folder
from modelforge.security.middleware import SecurityMiddleware
from ui import routes
from ui.html.gradio_page import server_functions
from ui.html.layout import ASSET_FOLDERS, Assets, PageFrame, asset_root, theme
from ui.pages import build, chat, compare, machine
from ui.pages.export import page as export
from ui.pages.runs import page as runs
from ui.pages.train import page as train

QUEUE_PAUSE_S = 1.0


def create_app(forge: Forge) -> FastAPI:
    """Return the application without security: REST under /api, files under /ui, pages at /."""
    # REST has its own documentation under /api.
    app = FastAPI(title="ModelForge", version=__version__, openapi_url=None)
    add_api(app, forge)
    app.include_router(routes.router(forge))
    pages = create_pages(forge)
    app.include_router(server_functions(pages))
    for folder in ASSET_FOLDERS:
        app.mount(f"{asset_root()}/{folder}", Assets(folder))

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> FileResponse:
        return FileResponse(resource_folder("assets") / "icons" / "icon-32.png")

    with warnings.catch_warnings():
        # Gradio 6.31 warns that nothing is rendered on the server although `ssr_mode` is off.
        warnings.filterwarnings("ignore", "SSR mode", UserWarning)
        gr.mount_gradio_app(
            app,
            pages,
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


def create_pages(forge: Forge) -> gr.Blocks:
    """Return the pages, one route each."""
    blocks = gr.Blocks(title="ModelForge", analytics_enabled=False)
    with blocks:
        train.page(forge)
    others = {
        "Runs": runs,
        "Compare": compare,
        "Chat": chat,
        "Export": export,
        "Machine": machine,
        "Build": build,
    }
    for title, page in others.items():
        with blocks.route(title, f"/{title.lower()}"):
            page.page(forge)
    # No page uses the event queue, but outside Windows it looks for events 1,000 times a second.
    queue = blocks._queue
    queue.sleep_when_free = queue.progress_update_sleep_when_free = QUEUE_PAUSE_S
    return blocks


def create_guarded_app(
    forge: Forge, *, hosts: Collection[str] = (), password: str | None = None
) -> ASGIApp:
    """Return the application with its page frame and the security middleware around it."""
    return SecurityMiddleware(
        PageFrame(create_app(forge)),
        hosts=hosts,
        password=password,
        error_log=forge.home.logs / "server.log",
    )
