"""Follow a run as server-sent events. Clients resume by the number of the last event."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import Header, Query, Response
from fastapi.responses import JSONResponse
from fastapi.sse import ServerSentEvent

from modelforge.api.dependencies import ForgeDep
from modelforge.api.errors import EarlyResponse
from modelforge.api.schemas import EventPage
from modelforge.errors import NotFoundError
from modelforge.forge import Forge
from modelforge.runs.states import RunState

POLL_S = 0.25
RETRY_MS = 2000
_EVENT_NUMBER = re.compile(r"[0-9]{1,15}")


class RunFollower:
    """Reads the events of a run for one client. `last` is the number of the last event read."""

    def __init__(self, forge: Forge, run_id: str, last: int) -> None:
        self._forge = forge
        self._run_id = run_id
        self._cursor = 0
        self.last = last
        self.first = self._poll()

    async def stream(self) -> AsyncIterator[ServerSentEvent]:
        """Yield all events after `last` until the run is over or deleted."""
        yield ServerSentEvent(retry=RETRY_MS)
        events, state = self.first
        while True:
            for event in events:
                yield ServerSentEvent(data=event, event=event["kind"], id=str(event["n"]))
            if state.is_over and not events:
                yield ServerSentEvent(data={"state": str(state)}, event="over", id=str(self.last))
                return
            if not state.is_over:
                await anyio.sleep(POLL_S)
            try:
                events, state = await to_thread.run_sync(self._poll)
            except NotFoundError:
                return

    def _poll(self) -> tuple[list[dict[str, Any]], RunState]:
        """Return the events since the last poll, and the state before they were read."""
        # Read the state first: an event written in between is then in this poll or the next.
        state = self._forge.runs.state(self._run_id)
        events, self._cursor = self._forge.runs.events(self._run_id, self._cursor)
        new = [event.as_dict() for event in events if event.n > self.last]
        self.last = max([self.last, *(event["n"] for event in new)])
        return new, state


async def follow_run(
    run_id: str,
    forge: ForgeDep,
    accept: Annotated[str, Header()] = "text/event-stream",
    last_event_id: Annotated[
        str | None,
        Header(description="The same as `after`; browsers send it when they reconnect."),
    ] = None,
    after: Annotated[int, Query(ge=0, description="The number of the last known event.")] = 0,
) -> RunFollower:
    """Return a follower that has read the events so far.

    Raises:
        EarlyResponse: The client accepts JSON, or has all events of a run that is over.
        NotFoundError: There is no such run.
    """
    # More digits than any number of events would not even be converted.
    reconnects = last_event_id is not None and bool(_EVENT_NUMBER.fullmatch(last_event_id))
    last = int(last_event_id or 0) if reconnects else after
    follower = await to_thread.run_sync(lambda: RunFollower(forge, run_id, last))
    events, state = follower.first
    if "application/json" in accept:
        page = {"events": events, "last": follower.last, "state": state}
        content = EventPage.model_validate(page).model_dump(mode="json")
        raise EarlyResponse(JSONResponse(content))
    if reconnects and state.is_over and not events:
        raise EarlyResponse(Response(status_code=204))  # an EventSource stops reconnecting
    return follower
