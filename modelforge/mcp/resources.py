"""Resources: the runs of a home, the settings, and the documentation."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from modelforge.config.json_schema import json_schema
from modelforge.errors import NotFoundError
from modelforge.forge import Forge
from modelforge.mcp.planning import plain
from modelforge.paths import resource_folder

JSON, MARKDOWN, TEXT = "application/json", "text/markdown", "text/plain"
MAX_LISTED, LOG_BYTES = 50, 16_384


def add_resources(server: MCPServer[None], forge: Forge) -> None:
    """Add the resources of a home to a server."""
    _add_runs(server, forge)

    @server.resource("modelforge://settings", mime_type=JSON)
    def settings() -> dict[str, Any]:
        """Every setting of a run as JSON Schema, with its help, bounds and default."""
        return json_schema(forge.layers.profiles())

    @server.resource("modelforge://machine", mime_type=JSON)
    def machine() -> Any:
        """This computer: GPUs, processor and memory."""
        return plain(forge.machine.current())

    @server.resource("modelforge://docs", mime_type=JSON)
    def pages() -> list[str]:
        """The addresses of the pages of the documentation."""
        return [f"modelforge://docs/{name}" for name in _pages()]

    @server.resource("modelforge://docs/{name}", mime_type=MARKDOWN)
    def page(name: str) -> str:
        """A page of the documentation, such as data-formats or settings."""
        if name not in (known := _pages()):
            raise ResourceNotFoundError(f"There is no page {name[:80]!r}: {', '.join(known)}.")
        return (resource_folder("docs") / f"{name}.md").read_text("utf-8")


def _add_runs(server: MCPServer[None], forge: Forge) -> None:
    @server.resource("modelforge://runs", mime_type=JSON)
    def runs() -> list[dict[str, Any]]:
        """The newest runs: id, name, state and losses."""
        names = ("id", "name", "state", "model", "data", "loss", "eval_loss", "has_result")
        rows = [plain(row) for row in forge.history.page(limit=MAX_LISTED).rows]
        return [{name: row[name] for name in names} for row in rows]

    @server.resource("modelforge://runs/{run}", mime_type=JSON)
    def run_details(run: str) -> Any:
        """A run with its settings, their origins, its plan and its dataset."""
        try:
            return plain(forge.runs.view(run))
        except NotFoundError as error:
            raise ResourceNotFoundError(str(error)) from error

    @server.resource("modelforge://runs/{run}/log", mime_type=TEXT)
    def log(run: str) -> str:
        """The end of the log of a run."""
        try:
            return forge.runs.log(run, LOG_BYTES)
        except NotFoundError as error:
            raise ResourceNotFoundError(str(error)) from error


def _pages() -> list[str]:
    return sorted(path.stem for path in resource_folder("docs").glob("*.md"))
