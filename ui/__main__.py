"""Serve the app on this computer and open it: `python -m ui`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp

from modelforge.cli.parsing import Parser, open_home
from modelforge.errors import ConfigError, ForgeError, Problem, RunError
from modelforge.forge import Forge
from modelforge.paths import make_private
from modelforge.runs.process.identity import PASSWORD_VARIABLE
from modelforge.security.connections import (
    BoundedProtocol,
    raise_open_files,
    report_loop_errors_once,
)
from modelforge.security.middleware import local_host_names
from modelforge.setup.browser import find_browser
from ui.app import create_guarded_app

PORT = 7860
TEND_S = 5.0
# Requests may be stuck in the system, such as in a read from a broken network folder.
EXIT_TIMEOUT_S = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl+C; return 0, or 2 if the server cannot start."""
    try:
        args = _parser().parse_args(argv)
        password = _password(needed=args.listen)
        make_private()
        forge = Forge(open_home(args.home))
        listener = _bind("0.0.0.0" if args.listen else "127.0.0.1", args.port)
        hosts = local_host_names() if args.listen else ()
        app = create_guarded_app(forge, hosts=hosts, password=password)
    except ForgeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _serve(app, forge, listener, args)
    return 0


def _password(*, needed: bool) -> str | None:
    """Return the password if the server needs one; child processes do not inherit it."""
    password = os.environ.pop(PASSWORD_VARIABLE, "")
    if needed and not password:
        what = "It opens the app to the network, which needs a password."
        raise ConfigError(Problem("--listen", what, f"Set {PASSWORD_VARIABLE}."))
    return password if needed else None


def _serve(app: ASGIApp, forge: Forge, listener: socket.socket, args: argparse.Namespace) -> None:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    BoundedProtocol.max_connections = raise_open_files()
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        # A warning is logged for each malformed request, which anybody can send.
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    server = _Server(config, lambda: _on_ready(address, args))
    is_over = threading.Event()
    threading.Thread(target=_tend, args=(forge, is_over), daemon=True).start()
    # Uvicorn shuts down on this signal and then raises it again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _stop_with_the_terminal(server)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(sockets=[listener]))
    is_over.set()
    forge.close()
    _print("ModelForge has stopped. Active runs continue in the background.")


def _stop_with_the_terminal(server: uvicorn.Server) -> None:
    """Shut down when the terminal is closed, unless the signal is ignored, as under nohup."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, server.handle_exit)


class _Server(uvicorn.Server):
    """A server that calls `on_ready` once it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start and report it."""
        report_loop_errors_once(asyncio.get_running_loop())
        await super().startup(sockets)
        self._on_ready()


def _tend(forge: Forge, is_over: threading.Event) -> None:
    """Do the periodic work of the services, and print each new error once."""
    last = ""
    while not is_over.wait(TEND_S):
        try:
            forge.tend()
        except Exception as error:  # noqa: BLE001  # thread boundary: the queue depends on it
            text = str(error) if isinstance(error, ForgeError) else f"periodic work: {error!r}"
            if text != last:
                _print(text)
            last = text


def _bind(host: str, requested: int | None) -> socket.socket:
    """Return a listening socket on the requested port, or else on 7860 or a free one."""
    for port in (requested,) if requested is not None else (PORT, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            if requested is not None:
                reason = getattr(error, "strerror", None) or "it is not between 0 and 65535"
                what = f"{requested} cannot be used: {reason}."
                remedy = "Choose another, or omit --port for a free one."
                raise RunError(Problem("port", what, remedy)) from error
        else:
            return listener
    raise AssertionError("the system always has a free port")


def _on_ready(address: str, args: argparse.Namespace) -> None:
    _print(f"ModelForge is at {address}")
    if not args.no_browser:
        threading.Thread(target=_open, args=(address, args.app), daemon=True).start()


def _open(address: str, own_window: bool) -> None:
    browser = find_browser() if own_window else None
    if browser is None:
        webbrowser.open(address)
        return
    subprocess.Popen(
        [str(browser), f"--app={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="modelforge ui", description="Open ModelForge.")
    parser.add_argument("--port", type=int, help="port of the server (7860, or a free one)")
    parser.add_argument("--home", help="folder for runs, uploads and models")
    parser.add_argument(
        "--listen",
        action="store_true",
        help=f"accept network connections; needs {PASSWORD_VARIABLE}",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--app", action="store_true", help="open in a window of its own")
    return parser


def _exit(code: int) -> NoReturn:
    """End the process, also while threads are stuck."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _exit(main())
