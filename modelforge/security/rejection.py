"""The response to a rejected request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, PlainTextResponse, Response


@dataclass(frozen=True)
class Rejection:
    """An error response that replaces the response of the app."""

    status: int
    where: str
    what: str
    remedy: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self, *, as_text: bool) -> Response:
        """Return one line of plain text for a page request, otherwise JSON."""
        # The unread rest of a rejected body must not be parsed as the next request.
        headers = {"cache-control": "no-store", "connection": "close", **self.headers}
        if as_text:
            return PlainTextResponse(f"{self.what} {self.remedy}\n", self.status, headers)
        error = {"where": self.where, "what": self.what, "remedy": self.remedy}
        return JSONResponse({"error": error}, self.status, headers)
