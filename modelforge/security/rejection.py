"""A request that is not let in: the status, and why, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Send


@dataclass(frozen=True)
class Refusal:
    """What is answered instead of the app."""

    status: int
    where: str
    what: str
    remedy: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def answer(self, send: Send, *, page: bool) -> None:
        """Send it: as one line of text where a page was asked for, else as JSON."""
        if page:
            kind, text = "text/plain; charset=utf-8", f"{self.what} {self.remedy}\n"
        else:
            parts = {"where": self.where, "what": self.what, "remedy": self.remedy}
            kind, text = "application/json", json.dumps({"error": parts})
        body = text.encode()
        headers = {
            "content-type": kind,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            # The rest of a body that was refused must not be read as the next request.
            "connection": "close",
            **self.headers,
        }
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
