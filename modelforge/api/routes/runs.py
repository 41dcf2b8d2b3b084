"""Routes of runs: start, list, watch, stop and delete."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from modelforge.api.errors import checked_key, said_in
from modelforge.api.routes.system import SETTINGS_BODY
from modelforge.api.schemas.history import RunQuery
from modelforge.api.schemas.runs import EventPage, Problems, RunFacts, RunRow, Started, StateOnly
from modelforge.api.sse import Watch
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.units import MIB

MOST_LOG_BYTES = MIB
# Control characters could play with the terminal of whoever reads the log there.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

Refusals = dict[int | str, dict[str, Any]]
ABSENT: Refusals = {404: {"model": Problems, "description": "The model or the data is not there."}}
MISSING: Refusals = {404: {"model": Problems, "description": "There is no such run."}}
UNLISTED: Refusals = {
    404: {"model": Problems, "description": "The run of `before` is not in the list."}
}
BUSY: Refusals = {
    409: {"model": Problems, "description": "A run holds the machine; `holder` names it."}
}
REFUSED: Refusals = {
    422: {"model": Problems, "description": "The settings cannot be run; every reason is given."}
}
STREAM: Refusals = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "A stream, or one page for `Accept: application/json`.",
        "model": EventPage,
    },
    204: {"description": "The run is over and everything was read."},
}


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router."""
    _starting(api, forge)
    _watching(api, forge)
    _following(api, forge)
    _ending(api, forge)


def _starting(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get("/runs", responses=UNLISTED)
    def runs(response: Response, asked: Annotated[RunQuery, Query()]) -> list[RunRow]:
        """List the runs, newest first; `X-Total-Count` says how many are wanted in all."""
        page = forge().archive.page(
            asked.wanted(), limit=asked.limit, offset=asked.offset, before=asked.before
        )
        response.headers["x-total-count"] = str(page.total)
        return [RunRow.of(row) for row in page.rows]

    @api.post(
        "/runs",
        status_code=202,
        openapi_extra=SETTINGS_BODY,
        responses={**ABSENT, **BUSY, **REFUSED},
    )
    async def start(
        request: Request,
        response: Response,
        idempotency_key: Annotated[
            str | None, Header(description="The same, as programs usually say it.")
        ] = None,
        request_id: Annotated[
            str | None, Query(description="The same text never starts a second run.")
        ] = None,
    ) -> Started:
        """Start a run. Nothing is created when it is refused; `logging.run_name` names it."""
        said = await said_in(request)
        key = checked_key(request_id if idempotency_key is None else idempotency_key)
        run_id = await to_thread.run_sync(
            lambda: forge().start(Layer("body", said), request_id=key)
        )
        response.headers["location"] = f"{request.url.path.rstrip('/')}/{run_id}"
        state = await to_thread.run_sync(lambda: forge().state(run_id))
        return Started(id=run_id, state=state)


def _watching(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get("/runs/{run_id}", responses=MISSING)
    def run(run_id: str) -> RunFacts:
        """Tell all about one run, `state` included."""
        verdict = forge().aid.verdict(run_id)
        told = forge().run(run_id).as_dict()
        return RunFacts(**told, verdict=verdict.as_dict() if verdict else None)

    @api.get("/runs/{run_id}/log", responses=MISSING, response_class=PlainTextResponse)
    def log(
        run_id: str,
        tail: Annotated[
            int, Query(ge=1, le=MOST_LOG_BYTES, description="Bytes from the end.")
        ] = 16_384,
    ) -> str:
        """Give the end of the worker's log as plain text."""
        return _CONTROL.sub("�", forge().log(run_id, tail))


def _following(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get(
        "/runs/{run_id}/events",
        responses={**MISSING, **STREAM},
        response_model=None,
        response_class=StreamingResponse,
    )
    async def events(
        run_id: str,
        accept: Annotated[str, Header()] = "text/event-stream",
        last_event_id: Annotated[
            str | None, Header(description="The same; browsers send it when they come back.")
        ] = None,
        after: Annotated[int, Query(ge=0, description="Number of the last event seen.")] = 0,
    ) -> Response:
        """Follow a run: what was said after `after`, then all that follows, until it is over.

        Each event has its number as `id` and its kind as `event`; the last one is `over`.
        A comment every 15 s keeps the line open.
        """
        again = last_event_id is not None and last_event_id.isdecimal()
        watch = Watch(forge(), run_id, int(last_event_id or 0) if again else after)
        first = await to_thread.run_sync(watch.look)
        if "application/json" in accept:
            page = EventPage(events=first.events, last=watch.seen, state=first.state)
            return JSONResponse(page.model_dump(mode="json"))
        if again and first.state.is_over and not first.events:
            # Tells an EventSource not to come back.
            return Response(status_code=204)
        return _stream(watch.lines(first))


def _ending(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.post("/runs/{run_id}/stop", responses=MISSING)
    def stop(
        run_id: str,
        keep: Annotated[
            bool, Body(embed=True, description="Whether to keep what it has learned so far.")
        ] = True,
    ) -> StateOnly:
        """Ask a run to stop; it is `stopping` until its worker has obeyed or was ended."""
        return StateOnly(id=run_id, state=forge().stop(run_id, keep=keep))

    @api.delete("/runs/{run_id}", status_code=204, responses={**MISSING, **BUSY})
    def delete(run_id: str) -> None:
        """Delete a run that is over, with everything it made."""
        forge().delete(run_id)


def _stream(lines: AsyncIterator[str]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)
