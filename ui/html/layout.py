"""What stands around every page: its head, the top bar, and nothing of Gradio's own advertising."""

from __future__ import annotations

import re
from hashlib import sha256

from gradio.themes import Base
from gradio.themes.utils import colors, sizes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelforge.paths import resource_folder
from ui.html.markup import Safe, el, join

PAGES = (
    ("/", "Train"),
    ("/runs", "Runs"),
    ("/chat", "Chat"),
    ("/export", "Export"),
    ("/machine", "Machine"),
)
# Pages that another one leads to; the bar marks that one.
BELOW = {"/build": ("/", "Build a data set"), "/compare": ("/runs", "Compare runs")}
SCRIPTS = (
    "face.js", "lines.js", "data.js", "fit.js", "train.js", "run.js", "read.js", "pages.js",
    "chat.js", "build.js", "pairs.js", "extras.js", "again.js", "queue.js", "history.js",
    "ending.js",
)  # fmt: skip
TITLES = {**dict(PAGES), **{path: title for path, (_, title) in BELOW.items()}}
_ADVERTS = re.compile(r"<meta\s+(?:property|name)=\"(?:og|twitter):[^>]*/>\s*", re.DOTALL)
_MANIFEST = re.compile(r"<link rel=\"manifest\"[^>]*/>")
_CHARSET = '<meta charset="utf-8" />'
_BODY = re.compile(r"<body[^>]*>")


class Frame:
    """Pure ASGI: puts head and top bar into the pages on their way out, leaves all else alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._head = head()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; a page is collected, framed and sent in one piece."""
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or path not in TITLES:
            await self._app(scope, receive, send)
            return
        rest = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
        page = _Page(send, self._head, path)
        await self._app({**scope, "headers": rest}, receive, page.send)


def head() -> Safe:
    """Return what goes into the head: the theme's choice first, then style and scripts."""
    return join(
        [
            el("script", src=_versioned("js/early.js")),
            el("link", rel="stylesheet", href=_versioned("css/face.css")),
            el("link", rel="stylesheet", href=_versioned("css/history.css")),
            el("link", rel="icon", href=_versioned("icons/icon.svg"), type="image/svg+xml"),
            el("link", rel="apple-touch-icon", href=_versioned("icons/icon-192.png")),
            el("link", rel="manifest", href="/face/manifest.webmanifest"),
            el("meta", name="theme-color", content="#ffffff"),
            [el("script", src=_versioned(f"js/{name}"), defer=True) for name in SCRIPTS],
        ]
    )


def top(path: str) -> Safe:
    """Return the top bar, with the page at `path` marked as the one we are on."""
    here = BELOW[path][0] if path in BELOW else path
    links = [
        el("a", title, href=target, aria_current="page" if target == here else None)
        for target, title in PAGES
    ]
    return join(
        [
            el("a.skip", "Skip to the page", href="#page"),
            el(
                "header.top",
                el("a.brand", el("i", aria_hidden="true"), "ModelForge", href="/"),
                el("nav.nav", links, aria_label="Pages"),
                el(
                    "div.right",
                    el("span", data_part="machine-brief"),
                    el(
                        "button#shade",
                        "◐",
                        type="button",
                        aria_label="Dark or light",
                        title="Dark or light",
                    ),
                ),
            ),
            el("div#toasts", role="status", aria_live="polite"),
        ]
    )


def framed(page: str, path: str, head_parts: Safe) -> str:
    """Return Gradio's page with our head and top bar, and without its adverts."""
    page = _MANIFEST.sub("", _ADVERTS.sub("", page))
    title = el("title", f"{TITLES[path]} · ModelForge")
    page = page.replace(_CHARSET, f"{_CHARSET}{title}{head_parts}", 1)
    return _BODY.sub(lambda found: found[0] + top(path), page, count=1)


def _versioned(name: str) -> str:
    content = (resource_folder("assets") / name).read_bytes()
    return f"/face/{name}?v={sha256(content).hexdigest()[:8]}"


class _Page:
    """One page on its way out."""

    def __init__(self, send: Send, head_parts: Safe, path: str) -> None:
        self._send, self._head, self._path = send, head_parts, path
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
            body = framed(body.decode(), self._path, self._head).encode()
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
    """Return the theme. The stylesheet holds the same colours as variables."""
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
