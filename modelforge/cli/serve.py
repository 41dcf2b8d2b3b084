"""Serve other programs: a model with `modelforge serve RUN|EXPORT`, everything with `mcp`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, FAILED, print_json
from modelforge.errors import ConfigError, MissingPackageError, Problem

if TYPE_CHECKING:
    from modelforge.forge import Forge
    from modelforge.serving.session import ServingView

TEND_S = 1.0
POLL_S = 0.1
SERVED = """\
{name} is served to programs that use the OpenAI API.
Address:  {address}{reach}
Model:    {model}
API key:  {key}
Log:      {log}

{curl}

The model is unloaded {idle}. Ctrl+C stops the server.
"""


def add(add_command: Any, open_forge: Callable[[argparse.Namespace], Forge]) -> None:
    """Add the commands `serve` and `mcp`."""

    def act(options: argparse.Namespace) -> int:
        return _serve(options, open_forge)

    def act_mcp(options: argparse.Namespace) -> int:
        return _serve_mcp(options, open_forge)

    add_command("mcp", act_mcp, "Serve ModelForge on stdin and stdout to programs that use MCP.")
    serve = add_command("serve", act, "Serve a model to programs that use the OpenAI API.")
    what = "id of a run or export, RUN:STEP for a checkpoint, or a base model"
    serve.add_argument("what", metavar="RUN|EXPORT", help=what)
    serve.add_argument("--port", type=int, help="port of the server (8001); 0 takes a free one")
    serve.add_argument("--host", help="address to listen on (127.0.0.1: this computer only)")
    serve.add_argument(
        "--api-key-env", metavar="NAME", help="variable with the API key; default: a random key"
    )
    idle = "unload the model after this time without requests (10); 0: never"
    serve.add_argument("--idle-minutes", type=float, default=10.0, metavar="N", help=idle)


def _serve(options: argparse.Namespace, open_forge: Callable[[argparse.Namespace], Forge]) -> int:
    from modelforge.paths import make_private
    from modelforge.security.connections import raise_open_files

    key = _key(options.api_key_env)
    make_private()
    forge = open_forge(options)
    raise_open_files()
    # The model's process ends with this one; the record of what is served is deleted, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    host = {"host": options.host} if options.host is not None else {}
    try:
        forge.serving.start(
            options.what, port=options.port, key=key, idle_minutes=options.idle_minutes, **host
        )
        view = _wait_until_loaded(forge)
        if view.state == "on":
            _print(forge, view, options)
            view = _wait_for_end(forge)
        print(view.problem or "The API server has ended.", file=sys.stderr)
        return FAILED
    finally:
        forge.close()


def _serve_mcp(
    options: argparse.Namespace, open_forge: Callable[[argparse.Namespace], Forge]
) -> int:
    if find_spec("mcp") is None:
        what = "The package mcp, which speaks the protocol, is not installed."
        remedy = "Run `python launch.py setup --with mcp`."
        raise MissingPackageError(Problem("mcp", what, remedy))
    from modelforge.mcp.server import serve
    from modelforge.paths import make_private

    make_private()
    serve(open_forge(options))
    return DONE


def _key(variable: str | None) -> str | None:
    """Return the API key of a variable, which child processes do not inherit."""
    if variable is None:
        return None
    key = os.environ.pop(variable, "")
    if not key:
        what = f"The variable {variable[:80]} is not set."
        remedy = "Set it to the key, or omit the option for a random key."
        raise ConfigError(Problem("--api-key-env", what, remedy))
    return key


def _wait_until_loaded(forge: Forge) -> ServingView:
    while (view := forge.serving.current()).state == "starting":
        time.sleep(POLL_S)
    return view


def _wait_for_end(forge: Forge) -> ServingView:
    while (view := forge.serving.current()).state in ("on", "idle"):
        time.sleep(TEND_S)
        forge.serving.tend()
    return view


def _print(forge: Forge, view: ServingView, options: argparse.Namespace) -> None:
    """Print where the model is served. A key that the user has given is not repeated."""
    given = options.api_key_env
    key = f"${given}" if given else forge.serving.secret()
    curl = forge.serving.examples()["curl"].replace("$KEY", key)
    if options.json:
        shown = vars(view) | {"id": view.what, "curl": curl}
        print_json(shown if given else shown | {"key": key})
        sys.stdout.flush()
        return
    reach = "" if view.is_local else "  (open to the network, without encryption)"
    idle = f"after {view.idle_minutes:g} min without requests" if view.idle_minutes else "never"
    values = {**vars(view), "reach": reach, "key": key, "curl": curl, "idle": idle}
    print(SERVED.format(**values), flush=True)
    if view.vllm:
        print(f"vLLM is installed and serves this model faster:\n{view.vllm}", flush=True)
