"""Parameters and responses that several routes declare, and threads for slow clients."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import Depends, Header, Query, Request, Response
from pydantic import Field

from modelforge.api.errors import read_settings
from modelforge.api.schemas import Problems, RunStatus
from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError, Problem
from modelforge.forge import Forge

Responses = dict[int | str, dict[str, Any]]
Result = TypeVar("Result")
# Threads for work that waits for a client or a child process, so that others stay free.
_WAITING = CapacityLimiter(20)
_END = object()

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")
_SETTINGS: dict[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/TrainingConfig"}}
}
SETTINGS_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": _SETTINGS}}
OPTIONAL_SETTINGS_BODY: dict[str, Any] = {"requestBody": {"content": _SETTINGS}}


def error(status: int, description: str) -> Responses:
    """Return the declaration of an error response."""
    return {status: {"model": Problems, "description": description}}


INVALID_SETTINGS = error(422, "The settings cannot be used; `problems` lists every reason.")
NO_RUN = error(404, "There is no such run.")
NO_MODEL_OR_DATA = error(404, "The model or the dataset does not exist.")
On = Annotated[
    str | None,
    Query(max_length=40, description="A target of `/api/targets` that trains it; else this one."),
]
BUSY = error(409, "The machine is in use; `holder` names the run that uses it.")


async def _forge(request: Request) -> Forge:
    forge: Forge = request.app.state.forge
    return forge


async def _settings(request: Request) -> Layer:
    return Layer("body", await read_settings(request))


async def _optional_settings(request: Request) -> Layer:
    return Layer("body", await read_settings(request) if await request.body() else {})


async def _request_id(
    idempotency_key: Annotated[
        str | None, Header(description="The same as `request_id`, under its usual header name.")
    ] = None,
    request_id: Annotated[
        str | None, Query(description="A second request with the same text creates no second run.")
    ] = None,
) -> str | None:
    key = request_id if idempotency_key is None else idempotency_key
    if key is not None and not _REQUEST_ID.fullmatch(key):
        raise ConfigError(
            Problem(
                "Idempotency-Key",
                f"The key has {len(key)} characters or contains spaces.",
                "Use 1 to 200 visible ASCII characters, such as a UUID.",
            )
        )
    return key


ForgeDep = Annotated[Forge, Depends(_forge)]
Settings = Annotated[Layer, Depends(_settings)]
OptionalSettings = Annotated[Layer, Depends(_optional_settings)]
RequestId = Annotated[str | None, Depends(_request_id)]
# A request id as a parameter of its own, without the header.
RequestIdText = Annotated[
    str | None,
    Field(max_length=200, description="A second request with the same text creates no second run."),
]


def created(request: Request, response: Response, forge: Forge, run_id: str) -> RunStatus:
    """Return the state of a new run, and its address in the Location header."""
    response.headers["location"] = f"{request.url.path.partition('/api/')[0]}/api/runs/{run_id}"
    return RunStatus(id=run_id, state=forge.runs.state(run_id))


async def run_with_body(request: Request, work: Callable[[Iterator[bytes]], Result]) -> Result:
    """Return the result of `work` on the chunks of a body, in one of the threads for waiting."""
    stream = request.stream()

    async def next_chunk() -> bytes | None:
        async for chunk in stream:
            return chunk
        return None

    def chunks() -> Iterator[bytes]:
        while (chunk := from_thread.run(next_chunk)) is not None:
            yield chunk

    return await to_thread.run_sync(lambda: work(chunks()), limiter=_WAITING)


async def iterate_waiting(lines: Iterator[str]) -> AsyncIterator[str]:
    """Yield lines that are slow to come, in one of the threads for waiting."""
    while True:
        line = await to_thread.run_sync(next, lines, _END, limiter=_WAITING)
        if not isinstance(line, str):
            return
        yield line
