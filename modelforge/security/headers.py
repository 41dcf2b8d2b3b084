"""Security headers of all responses, and the content security policy of pages."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
DATA_PATHS = ("/api/", "/gradio_api/", "/config")
# Uploaded files may be displayed but must not run scripts.
FILE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
)
_INLINE_SCRIPT = re.compile(
    rb"<script\b(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE
)


def content_policy(hashes: Iterable[str] = ()) -> str:
    """Return the policy of a page: our own files, and inline scripts with these hashes.

    Gradio compiles functions with eval, so `unsafe-eval` is needed. Inline event handlers are
    blocked.
    """
    scripts = " ".join(["'self'", "'unsafe-eval'", *hashes])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


def script_hashes(page: bytes) -> list[str]:
    """Return the policy hashes of all inline scripts in a page of this server.

    The page is trusted, because it is rendered from templates that escape all values.
    """
    # Browsers normalize line ends before they hash.
    return [_hash(script) for script in _INLINE_SCRIPT.findall(page.replace(b"\r\n", b"\n"))]


def accepts_html(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Return whether a browser requests a page."""
    return not _is_data(scope["path"]) and "text/html" in headers.get("accept", "")


class HeaderSender:
    """Adds security headers to one response.

    HTML pages are buffered to compute the hashes of their inline scripts. All other responses are
    passed on at once.
    """

    def __init__(self, scope: Scope, send: Send, scripts: Sequence[str]) -> None:
        self._path: str = scope["path"]
        self._method: str = scope["method"]
        self._send = send
        self._script_hashes = [_hash(text.encode()) for text in scripts]
        self._page_start: Message | None = None
        self._page = bytearray()
        self._closed = False
        self.started = False

    def close(self) -> None:
        """Drop everything that the app sends from now on."""
        self._closed = True

    async def send(self, message: Message) -> None:
        """Send one message of the response."""
        if self._closed:
            return
        if message["type"] == "http.response.start":
            self.started = True
            if self._is_page(message):
                self._page_start = message
                return
            message = self._with_headers(message, self._policy())
        elif self._page_start is not None:
            self._page += message.get("body", b"")
            if message.get("more_body"):
                return
            body, start = bytes(self._page), self._page_start
            self._page_start = None
            policy = content_policy([*self._script_hashes, *script_hashes(body)])
            await self._send(self._with_headers(start, policy))
            message = {**message, "body": body}
        await self._send(message)

    def _is_page(self, start: Message) -> bool:
        headers = _headers(start)
        return (
            self._method == "GET"
            and not self._path.startswith("/gradio_api")
            and headers.get("content-type", "").startswith("text/html")
            and "content-encoding" not in headers
        )

    def _policy(self) -> str:
        is_file = self._path.startswith(("/gradio_api/file", "/gradio_api/stream"))
        return FILE_POLICY if is_file else content_policy(self._script_hashes)

    def _with_headers(self, start: Message, policy: str) -> Message:
        headers = _headers(start)
        # Cross-origin access is never granted, even if the app allows it.
        for name in {name for name in headers if name.startswith("access-control-")}:
            del headers[name]
        headers.update({**HEADERS, "content-security-policy": policy})
        if _is_data(self._path):
            headers.setdefault("cache-control", "no-store")
        return {**start, "headers": headers.raw}


def _headers(start: Message) -> MutableHeaders:
    raw = [(name.lower(), value) for name, value in start.get("headers", [])]
    return MutableHeaders(raw=raw)


def _is_data(path: str) -> bool:
    return path.startswith(DATA_PATHS)


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
