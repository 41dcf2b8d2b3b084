"""Head and top bar of every page, the addresses of its files, and the Gradio theme."""

from __future__ import annotations

import functools
import mimetypes
import re
from hashlib import sha256

from gradio.themes import Base
from gradio.themes.utils import colors, sizes
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelforge.paths import resource_folder
from ui.html.templates import render

PAGES = (
    ("/", "Train"),
    ("/runs", "Runs"),
    ("/chat", "Chat"),
    ("/export", "Export"),
    ("/machine", "Machine"),
)
# Pages without an entry in the top bar: the page marked instead, and their title.
SUBPAGES = {"/build": ("/", "Build a dataset"), "/compare": ("/runs", "Compare runs")}
TITLES = {**dict(PAGES), **{path: title for path, (_, title) in SUBPAGES.items()}}
ASSET_FOLDERS = ("css", "icons", "js", "vendor")
_SOCIAL = re.compile(r"<meta\s+(?:property|name)=\"(?:og|twitter):[^>]*/>\s*", re.DOTALL)
_MANIFEST = re.compile(r"<link rel=\"manifest\"[^>]*/>")
_CHARSET = '<meta charset="utf-8" />'
_BODY = re.compile(r"<body[^>]*>")


class Assets(StaticFiles):
    """The files of one folder. Their address contains a digest, so browsers keep them."""

    def __init__(self, folder: str) -> None:
        super().__init__(directory=resource_folder("assets") / folder)
        # Modules need this type, and the registry of Windows may name another one.
        mimetypes.add_type("text/javascript", ".js")

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file that never changes at this address."""
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["cache-control"] = "private, max-age=31536000, immutable"
        return response


@functools.cache
def asset_root() -> str:
    """Return the address of the files, which changes with their content."""
    digest = sha256()
    for folder in ASSET_FOLDERS:
        for file in sorted((resource_folder("assets") / folder).iterdir()):
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return f"/ui/assets-{digest.hexdigest()[:8]}"


def asset_url(name: str) -> str:
    """Return the address of one file, such as `js/page.js`."""
    return f"{asset_root()}/{name}"


# What else is served; the other addresses of Gradio are closed, such as uploads and monitoring.
_SERVED = ("/api/", "/v1/", "/ui/", "/assets/", "/static/")
MAX_NAME_BYTES = 255
_SERVED_ALONE = {*TITLES, "/theme.css", "/favicon.ico", "/gradio_api/component_server/"}


class PageFrame:
    """ASGI middleware that adds head and top bar to the pages, and serves nothing unused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Buffer a page, add head and top bar, and send it; pass on everything else."""
        path = scope.get("path", "")
        if scope["type"] == "http" and not is_served(path):
            await _missing_page(scope)(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "GET" or path not in TITLES:
            await self._app(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
        await self._app({**scope, "headers": headers}, receive, _PageSend(send, path).send)


def is_served(path: str) -> bool:
    """Return whether an address is used by the pages, or belongs to REST."""
    # No file has such a name, and asking for it is an error of the file system.
    if "\0" in path or any(len(part.encode()) > MAX_NAME_BYTES for part in path.split("/")):
        return False
    return path in _SERVED_ALONE or path.startswith(_SERVED)


def add_frame(page: str, path: str) -> str:
    """Return a page of Gradio with our head and top bar, and without its social metadata."""
    page = _MANIFEST.sub("", _SOCIAL.sub("", page))
    # The module of the page is loaded before Gradio asks for it.
    module = path.strip("/") or "train"
    head = render("layout", "head", TITLES[path], module, asset_url)
    page = page.replace(_CHARSET, f"{_CHARSET}{head}", 1)
    top_bar = render("layout", "top_bar", PAGES, SUBPAGES.get(path, (path,))[0], TITLES[path])
    return _BODY.sub(lambda match: f"{match[0]}{top_bar}", page, count=1)


def _missing_page(scope: Scope) -> Response:
    """Return status 404, to a browser as a page with the way home."""
    if b"text/html" not in dict(scope["headers"]).get(b"accept", b""):
        return PlainTextResponse("There is no such page.\n", 404)
    return HTMLResponse(render("layout", "missing_page", asset_url, PAGES), 404)


class _PageSend:
    """The response of one page: collected, framed and sent in one piece."""

    def __init__(self, send: Send, path: str) -> None:
        self._send, self._path = send, path
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body") or self._start is None:
            return
        body = bytes(self._body)
        if self._start["status"] == 200:
            body = add_frame(body.decode(), self._path).encode()
        headers = [pair for pair in self._start["headers"] if pair[0].lower() != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        await self._send({**self._start, "headers": [*headers, length]})
        await self._send({"type": "http.response.body", "body": body})


FONT = ("Inter", "ui-sans-serif", "system-ui", "Segoe UI", "sans-serif")
MONO = ("ui-monospace", "JetBrains Mono", "Cascadia Code", "monospace")
EMBER = colors.Color(
    "#fff1e8", "#ffe3d1", "#ffc9a8", "#ffa873", "#ff8a4c", "#f06a25", "#d9480f", "#a63a0a",
    "#7f2d08", "#3a2418", "#24150c", name="ember",
)  # fmt: skip


def theme() -> Base:
    """Return the Gradio theme, with the colors of the stylesheet."""
    base = Base(
        primary_hue=EMBER,
        secondary_hue=EMBER,
        neutral_hue=colors.stone,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        font=list(FONT),
        font_mono=list(MONO),
    )
    return base.set(
        body_background_fill="#f6f6f4",
        body_background_fill_dark="#131417",
        body_text_color="#1d1f23",
        body_text_color_dark="#ececea",
        body_text_color_subdued="#5d6068",
        body_text_color_subdued_dark="#a7aab2",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1b1d21",
        background_fill_secondary="#f1f1ee",
        background_fill_secondary_dark="#17181c",
        border_color_primary="#e2e1dc",
        border_color_primary_dark="#2c2f36",
        block_background_fill="*background_fill_primary",
        block_border_width="0px",
        block_shadow="none",
        input_background_fill="*background_fill_primary",
        input_background_fill_dark="*background_fill_primary",
        button_primary_background_fill="#d9480f",
        button_primary_background_fill_dark="#ff8a4c",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#201008",
    )
