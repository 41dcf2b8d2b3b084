"""python -m ui: serve the app on this computer and open it."""

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
import webbrowser
from collections.abc import Sequence
from typing import Any

import uvicorn

from modelforge.errors import ForgeError, Problem, RunError
from modelforge.forge import Forge
from modelforge.paths import find_home
from modelforge.security.middleware import local_host_names
from modelforge.setup.browser import find_browser
from ui.app import create_guarded_app

PORT = 7860
PASSWORD = "MODELFORGE_PASSWORD"
TEND_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl+C; return 0, or 2 when something stands in the way."""
    args = _parser().parse_args(argv)
    password = os.environ.get(PASSWORD) or None
    if args.listen and not password:
        _say(f"--listen opens the app to the network, so it needs a password: set {PASSWORD}.")
        return 2
    try:
        place = _bind("0.0.0.0" if args.listen else "127.0.0.1", args.port)
        forge = Forge(find_home(args.home))
    except ForgeError as error:
        _say(str(error))
        return 2
    except OSError as error:
        _say(f"home: The folder cannot be used: {error.strerror}. Choose another with --home.")
        return 2
    hosts = local_host_names() if args.listen else ()
    app = create_guarded_app(forge, hosts=hosts, password=password if args.listen else None)
    _serve(app, forge, place, args)
    return 0


def _serve(app: Any, forge: Forge, place: socket.socket, args: argparse.Namespace) -> None:
    port = place.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False
    )
    server = _Server(config, lambda: _ready(address, args))
    over = threading.Event()
    tending = threading.Thread(target=_tend, args=(forge, over), daemon=True)
    tending.start()
    # Uvicorn ends in order on this signal too, and then raises it again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(sockets=[place]))
    over.set()
    forge.close()
    _say("ModelForge has ended. Runs go on by themselves.")


class _Server(uvicorn.Server):
    """Uvicorn that says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Any) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as usual, then tell."""
        await super().startup(sockets)
        self._ready()


def _tend(forge: Forge, over: threading.Event) -> None:
    said = ""
    while not over.wait(TEND_S):
        try:
            forge.tend()
        except Exception as error:  # noqa: BLE001  # the queue of a night hangs on this thread
            told = str(error) if isinstance(error, ForgeError) else f"tending: {error!r}"
            if told != said:
                _say(told)
            said = told


def _bind(host: str, wanted: int | None) -> socket.socket:
    """Return a listening place: the port asked for, else 7860, else a free one."""
    for port in (wanted,) if wanted is not None else (PORT, 0):
        place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((host, port))
            place.listen(128)
        except (OSError, OverflowError) as error:
            place.close()
            if wanted is not None:
                reason = getattr(error, "strerror", None) or "it is no port from 0 to 65535"
                problem = Problem("port", f"{wanted} cannot be used: {reason}.",
                                  "Give another, or leave --port out for a free one.")  # fmt: skip
                raise RunError(problem) from error
        else:
            return place
    raise AssertionError("the system always has a free port")


def _ready(address: str, args: argparse.Namespace) -> None:
    _say(f"ModelForge is at {address}")
    if not args.no_browser:
        threading.Thread(target=_open, args=(address, args.app), daemon=True).start()


def _open(address: str, own_window: bool) -> None:
    browser = find_browser() if own_window else None
    if browser is not None:
        subprocess.Popen(
            [str(browser), f"--app={address}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return
    webbrowser.open(address)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelforge ui", description="Open ModelForge.")
    parser.add_argument("--port", type=int, help="port to serve on (7860, or a free one)")
    parser.add_argument("--home", help="folder for runs, uploads and models")
    parser.add_argument(
        "--listen", action="store_true", help=f"serve the network too; needs {PASSWORD}"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--app", action="store_true", help="open in a window of its own")
    return parser


if __name__ == "__main__":
    sys.exit(main())
