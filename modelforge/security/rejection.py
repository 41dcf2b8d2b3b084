"""The response to a rejected request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Send


@dataclass(frozen=True)
class Rejection:
    """An error response that replaces the response of the app."""

    status: int
    where: str
    what: str
    remedy: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, as_text: bool) -> None:
        """Send the response: one line of plain text for a page request, otherwise JSON."""
        if as_text:
            content_type, text = "text/plain; charset=utf-8", f"{self.what} {self.remedy}\n"
        else:
            error = {"where": self.where, "what": self.what, "remedy": self.remedy}
            content_type, text = "application/json", json.dumps({"error": error})
        body = text.encode()
        headers = {
            "content-type": content_type,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            # The unread rest of a rejected body must not be parsed as the next request.
            "connection": "close",
            **self.headers,
        }
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
