"""What every response carries so that a browser helps us keep strangers out."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from starlette.types import Message, Scope, Send

HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
DATA = ("/api/", "/gradio_api/", "/config")
_INLINE = re.compile(rb"<script\b(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.I)


def content_policy(hashes: Iterable[str] = ()) -> str:
    """Return the policy of a page: our own files, and the inline scripts with these hashes.

    Gradio compiles its small functions with eval, so that stays; inline handlers do not run.
    """
    scripts = " ".join(["'self'", "'unsafe-eval'", *hashes])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


# Files that people brought along may be shown, and never run.
FILE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
)


def script_hashes(page: bytes) -> list[str]:
    """Return the hashes of the inline scripts in a page of ours.

    What stands in the page as it leaves is trusted: pages are made from escaped templates only.
    """
    # Browsers read line ends as plain newlines before they hash.
    return [_hash(script) for script in _INLINE.findall(page.replace(b"\r\n", b"\n"))]


def wants_page(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Say whether a browser asks for a page to show."""
    return not _is_data(scope["path"]) and "text/html" in headers.get("accept", "")


class Dress:
    """One response on its way out. Pages wait until they are whole; all else passes at once."""

    def __init__(self, scope: Scope, send: Send, scripts: Sequence[str]) -> None:
        self._path: str = scope["path"]
        self._method: str = scope["method"]
        self._send = send
        self._scripts = [_hash(text.encode()) for text in scripts]
        self._start: Message | None = None
        self._page = bytearray()
        self._closed = False
        self.started = False

    def close(self) -> None:
        """Say nothing more, whatever the app still sends."""
        self._closed = True

    async def send(self, message: Message) -> None:
        """Send one message of the response, with our headers on the first."""
        if self._closed:
            return
        if message["type"] == "http.response.start":
            self.started = True
            if self._is_page(message):
                self._start = message
                return
            message = self._dressed(message, self._plain_policy())
        elif self._start is not None:
            self._page += message.get("body", b"")
            if message.get("more_body"):
                return
            policy = content_policy([*self._scripts, *script_hashes(bytes(self._page))])
            await self._send(self._dressed(self._start, policy))
            message, self._start = {**message, "body": bytes(self._page)}, None
        await self._send(message)

    def _is_page(self, start: Message) -> bool:
        headers = {name.lower(): value for name, value in start.get("headers", [])}
        return (
            self._method == "GET"
            and not self._path.startswith("/gradio_api")
            and headers.get(b"content-type", b"").startswith(b"text/html")
            and b"content-encoding" not in headers
        )

    def _plain_policy(self) -> str:
        is_file = self._path.startswith(("/gradio_api/file", "/gradio_api/stream"))
        return FILE_POLICY if is_file else content_policy(self._scripts)

    def _dressed(self, start: Message, policy: str) -> Message:
        ours = {**HEADERS, "content-security-policy": policy}
        kept = [
            (name, value)
            for name, value in start.get("headers", [])
            if name.lower().decode("latin-1") not in ours
            # Nobody else's page has any business here, whatever the app would grant.
            and not name.lower().startswith(b"access-control-")
        ]
        if _is_data(self._path) and not any(name.lower() == b"cache-control" for name, _ in kept):
            ours["cache-control"] = "no-store"
        return {**start, "headers": kept + [(k.encode(), v.encode()) for k, v in ours.items()]}


def _is_data(path: str) -> bool:
    return path.startswith(DATA)


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
