"""Limit the size of request bodies by path, and the time that they take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio
from starlette.types import Message, Receive

from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.runs.portable.archive import MAX_ARCHIVE_BYTES
from modelforge.security.rejection import Rejection
from modelforge.units import MIB, human_bytes


@dataclass(frozen=True)
class BodyLimit:
    """The maximum body size of paths that begin with `prefix`."""

    prefix: str
    max_bytes: int


# The first matching prefix applies. Gradio posts whole component values and needs more.
LIMITS = (
    BodyLimit("/api/datasets/", MIB),
    BodyLimit("/api/datasets", MAX_UPLOAD_BYTES),
    BodyLimit("/api/runs/import", MAX_ARCHIVE_BYTES),
    BodyLimit("/ui/uploads", MAX_UPLOAD_BYTES),
    BodyLimit("/v1/files", MAX_UPLOAD_BYTES),
    BodyLimit("/gradio_api/", 16 * MIB),
    BodyLimit("/", MIB),
)


# A client may pause this long, and has to send at least this much on average.
PATIENCE_S = 30.0
MIN_BYTES_PER_S = 10_000


_TOO_SLOW = Rejection(
    408, "body", "The body arrived too slowly.", "Send it again, or give a path on this machine."
)


class LimitedBody:
    """The body of one request, limited by the announced and the received size, and by time.

    `rejection` is set once the received size exceeds the limit, or the client is too slow.
    """

    def __init__(self, path: str, receive: Receive, limits: Sequence[BodyLimit]) -> None:
        self._receive = receive
        matching = (limit.max_bytes for limit in limits if path.startswith(limit.prefix))
        self._max_bytes = next(matching, MIB)
        self._received_bytes = 0
        self._waited_s = 0.0
        self._is_complete = False
        self.rejection: Rejection | None = None

    def check_announced(self, headers: Mapping[str, str]) -> Rejection | None:
        """Check the Content-Length header before the body is read."""
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()):
            what = "The Content-Length header is not a number."
            return Rejection(400, "Content-Length", what, "Send the number of bytes.")
        return self._too_large() if int(announced[:20]) > self._max_bytes else None

    async def receive(self) -> Message:
        """Return the next chunk, or a disconnect once a limit is exceeded."""
        if self.rejection is not None:
            return {"type": "http.disconnect"}
        if self._is_complete:
            # What follows is the disconnect of the client, which may take for ever.
            return await self._receive()
        began = time.monotonic()
        left_s = PATIENCE_S + self._received_bytes / MIN_BYTES_PER_S - self._waited_s
        try:
            with anyio.fail_after(left_s):
                message = await self._receive()
        except TimeoutError:
            self.rejection = _TOO_SLOW
            return {"type": "http.disconnect"}
        self._waited_s += time.monotonic() - began
        self._is_complete = not message.get("more_body", False)
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self._max_bytes:
            self.rejection = self._too_large()
            return {"type": "http.disconnect"}
        return message

    def _too_large(self) -> Rejection:
        return Rejection(
            413,
            "body",
            f"The body is larger than {human_bytes(self._max_bytes)}.",
            "Send less, or give a path on this machine.",
        )
