"""Build the MCP server of a home, and serve it on stdin and stdout."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from modelforge import __version__
from modelforge.errors import BlockedError, ForgeError
from modelforge.forge import Forge
from modelforge.mcp.planning import PlanningTools
from modelforge.mcp.resources import add_resources
from modelforge.mcp.results import ResultTools
from modelforge.mcp.runs import RunTools
from modelforge.runs.process.log_rotation import log_error

TEND_S = 1.0
INSTRUCTIONS = """\
ModelForge fine-tunes language models on this computer. A usual order: look_at_data and check_data;
plan_run, whose findings say what does not fit and what helps; start_trial_run to measure memory and
time; start_run with the plan_hash of the plan that you have shown; follow_run until it is over;
evaluate_run, compare_runs, export_run, chat. Settings are those of the resource
modelforge://settings. Tools that delete or publish something need confirm=true: ask the user first.
"""
READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADD = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
DESTROY = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)


def serve(forge: Forge) -> None:
    """Serve a home until the client closes stdin. Runs continue afterwards; jobs are queued."""
    create_server(forge).run("stdio")


def create_server(forge: Forge) -> MCPServer[None]:
    """Return the server of a home, which does its periodic work while it is connected."""

    @asynccontextmanager
    async def lifespan(_server: MCPServer[None]) -> AsyncIterator[None]:
        is_over = threading.Event()
        threading.Thread(target=_tend, args=(forge, is_over), daemon=True).start()
        try:
            yield
        finally:
            is_over.set()
            forge.close()

    server: MCPServer[None] = MCPServer(
        "modelforge",
        title="ModelForge",
        instructions=INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
        lifespan=lifespan,
    )
    for tool, hints in _tools(forge).items():
        server.add_tool(_guarded(tool, forge), annotations=hints)
    add_resources(server, forge)
    return server


def _tools(forge: Forge) -> dict[Callable[..., Any], ToolAnnotations]:
    """Return every tool with what it does to the home."""
    planning, runs, results = PlanningTools(forge), RunTools(forge), ResultTools(forge)
    return {
        planning.list_datasets: READ,
        planning.look_at_data: READ,
        planning.check_data: READ,
        planning.plan_run: READ,
        planning.start_trial_run: ADD,
        planning.follow_trial_run: READ,
        planning.start_run: ADD,
        runs.list_runs: READ,
        runs.follow_run: READ,
        runs.compare_runs: READ,
        runs.stop_run: DESTROY,
        runs.resume_run: ADD,
        runs.delete_run: DESTROY,
        results.evaluate_run: ADD,
        results.follow_evaluation: READ,
        results.export_run: ADD,
        results.follow_export: READ,
        results.chat: READ,
    }


def _guarded(tool: Callable[..., Any], forge: Forge) -> Callable[..., Any]:
    """Return a tool whose errors the client can read: what is wrong, where, and what helps."""

    @functools.wraps(tool)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return tool(*arguments, **named)
        except ForgeError as error:
            raise ToolError(_as_text(error)) from error
        except Exception as error:
            log = forge.home.logs / "mcp.log"
            log_error(log, error)
            name = type(error).__name__
            raise ToolError(f"ModelForge failed with {name}; see {log}.") from error

    return call


def _as_text(error: ForgeError) -> str:
    """Return an error as JSON, as REST answers it."""
    content: dict[str, Any] = {"problems": [problem.as_dict() for problem in error.problems]}
    if isinstance(error, BlockedError):
        content["findings"] = [finding.as_dict() for finding in error.findings]
    return json.dumps(content, ensure_ascii=False, default=str)


def _tend(forge: Forge, is_over: threading.Event) -> None:
    """Do the periodic work of the services; an error is written to the log once."""
    last = ""
    while not is_over.wait(TEND_S):
        try:
            forge.tend()
        except Exception as error:  # noqa: BLE001  # thread boundary: jobs depend on it
            if repr(error) != last:
                log_error(forge.home.logs / "mcp.log", error)
            last = repr(error)
