"""How much may be sent to which address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.types import Message, Receive

from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.security.rejection import Refusal
from modelforge.units import MIB, human_bytes


@dataclass(frozen=True)
class Limit:
    """The most bytes a body may have on paths that begin with `prefix`."""

    prefix: str
    most: int


# The first that fits counts. Gradio posts whole component values, hence its larger share.
LIMITS = (
    Limit("/api/datasets/", MIB),
    Limit("/api/datasets", MAX_UPLOAD_BYTES),
    Limit("/face/uploads", MAX_UPLOAD_BYTES),
    Limit("/gradio_api/", 16 * MIB),
    Limit("/", MIB),
)


class Body:
    """One request's body on its way in, measured as announced and as it really comes."""

    def __init__(self, path: str, receive: Receive, limits: Sequence[Limit]) -> None:
        self._receive = receive
        self._most = next((each.most for each in limits if path.startswith(each.prefix)), MIB)
        self._seen = 0
        self.refusal: Refusal | None = None

    def refuse(self, headers: Mapping[str, str]) -> Refusal | None:
        """Refuse by the announced length, before a byte is read."""
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()):
            return Refusal(400, "Content-Length", "The length is no number.", "Send a number.")
        return self._too_large() if int(announced[:20]) > self._most else None

    async def receive(self) -> Message:
        """Pass the next piece on; past the limit the app is told that the sender is gone."""
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._most:
            self.refusal = self._too_large()
            return {"type": "http.disconnect"}
        return message

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            "body",
            f"The body is larger than {human_bytes(self._most)}.",
            "Send less, or name a path on this machine.",
        )
