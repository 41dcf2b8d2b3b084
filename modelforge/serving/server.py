"""Listen on a port, and serve an ASGI app there in a thread of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from modelforge.errors import BusyError, ConfigError, Problem, RunError
from modelforge.security.connections import BoundedProtocol, report_loop_errors_once

START_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0


class ApiProtocol(BoundedProtocol):
    """The connections of the API server, fewer than those of the app beside it."""

    max_connections = 100


class ServerThread:
    """An HTTP server in a thread. It ends with the process, or with `close`."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        """Start to serve; raises RunError if the server does not start."""
        config = uvicorn.Config(
            app,
            http=ApiProtocol,
            ws="none",
            lifespan="off",
            # A warning is logged for each malformed request, which anybody can send.
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = _Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="api-server", daemon=True)
        self._thread.start()
        if not self._server.is_ready.wait(START_TIMEOUT_S):
            self.close()
            raise RunError(Problem("serving", "The API server did not start.", "Try again."))

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop to listen, and end the requests in progress after a second."""
        self._server.should_exit = True
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)
        self._listener.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))


class _Server(uvicorn.Server):
    """A server that tells when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell it."""
        report_loop_errors_once(asyncio.get_running_loop())
        await super().startup(sockets)
        self.is_ready.set()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises ConfigError for a host or port that cannot be used, BusyError for a port in use.
    """
    if not 0 <= port < 2**16:
        what = f"Port {port} is not between 0 and 65535."
        raise ConfigError(Problem("port", what, "Choose another, or 0 for a free one."))
    if not host:
        raise _no_host(host)
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise _no_host(host) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_host(host) from error
        if error.errno == errno.EADDRINUSE:
            what = f"Port {port} cannot be used: another program uses it."
            remedy = "Choose another, or 0 for a free one, or end that program."
            raise BusyError(Problem("port", what, remedy), "") from error
        what = f"Port {port} cannot be used: {error.strerror or 'it is refused'}."
        raise ConfigError(Problem("port", what, "Choose another, or 0 for a free one.")) from error
    return listener


def _no_host(host: str) -> ConfigError:
    what = f"{host!r:.100} is not an address of this computer."
    return ConfigError(Problem("host", what, "Use 127.0.0.1, or 0.0.0.0 for the whole network."))
