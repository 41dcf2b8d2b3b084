"""`modelforge mcp`: an MCP server on stdin and stdout, for programs with a language model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE
from modelforge.errors import MissingPackageError, Problem

if TYPE_CHECKING:
    from modelforge.forge import Forge

PACKAGE = "mcp"


def add(add_command: Any, open_forge: Callable[[argparse.Namespace], Forge]) -> None:
    """Add the command `mcp`."""

    def act(options: argparse.Namespace) -> int:
        if find_spec(PACKAGE) is None:
            what = "The package mcp, which speaks the protocol, is not installed."
            remedy = "Run `python launch.py setup --with mcp`."
            raise MissingPackageError(Problem("mcp", what, remedy))
        from modelforge.mcp.server import serve
        from modelforge.paths import make_private

        make_private()
        serve(open_forge(options))
        return DONE

    about = "Serve ModelForge on stdin and stdout to programs that use MCP."
    add_command("mcp", act, about)
