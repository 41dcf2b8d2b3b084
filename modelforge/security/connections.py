"""Bound the connections of the server: their number, and the time until a request is complete."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from asyncio import Transport
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# A connection without a complete request head is closed after this time.
HEADER_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 1000
# Open files of the server: each connection needs one, and files and child processes need others.
MAX_OPEN_FILES = 8192


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with a timeout for request heads and a limit on open connections.

    Uvicorn has a timeout for idle connections only after their first response. When there are too
    many connections, the one that has waited longest for its request is closed.
    """

    max_connections = MAX_CONNECTIONS
    header_timeout_s = HEADER_TIMEOUT_S

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Accept the connection, and close the longest waiting one if there are too many."""
        super().connection_made(transport)
        self._await_header()
        if len(self.connections) > self.max_connections:
            timers = {
                connection: timer
                for connection in self.connections
                if (timer := getattr(connection, "_header_timer", None)) is not None
            }
            oldest: Any = min(timers, key=lambda connection: timers[connection].when())
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel_header_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; its head must be complete within the timeout."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._await_header()
        else:
            self._cancel_header_timer()

    def _await_header(self) -> None:
        if self._header_timer is None:
            handler = self.timeout_keep_alive_handler
            self._header_timer = self.loop.call_later(self.header_timeout_s, handler)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def raise_open_files() -> int:
    """Raise the limit of open files as far as allowed; return how many connections fit."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource  # noqa: PLC0415  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    free = MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    return max(8, min(MAX_CONNECTIONS, free // 2))


def report_loop_errors_once(loop: asyncio.AbstractEventLoop) -> None:
    """Log each kind of error of the event loop once, without a traceback.

    When files run out, asyncio reports every attempt to accept a connection.
    """
    reported: set[str] = set()

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        text = f"{context.get('message', 'error')}: {context.get('exception')!r}"
        if text not in reported and len(reported) < 100:
            reported.add(text)
            logging.getLogger("uvicorn.error").error("%s (reported once)", text)

    loop.set_exception_handler(handle)
