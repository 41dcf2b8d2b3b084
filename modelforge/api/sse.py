"""A run followed as server-sent events; resumable, since every event has its number."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
from anyio import to_thread

from modelforge.forge import Forge
from modelforge.runs.states import RunState

POLL_S = 0.25
HEARTBEAT_S = 15.0
RETRY_MS = 2000


@dataclass(frozen=True)
class Sight:
    """What one look found."""

    events: list[Any]
    state: RunState


class Watch:
    """Remembers how far one reader has come. `seen` is the number of the last event given."""

    def __init__(self, forge: Forge, run_id: str, seen: int) -> None:
        self._forge = forge
        self._run_id = run_id
        self._cursor = 0
        self.seen = seen

    def look(self) -> Sight:
        """Return what is new; raises NotFoundError when the run is gone."""
        # The state first: an event written between the two is then found by this look or the next.
        state = self._forge.state(self._run_id)
        events, self._cursor = self._forge.events(self._run_id, self._cursor)
        fresh = [event.as_dict() for event in events if event.n > self.seen]
        self.seen = max([self.seen, *(event["n"] for event in fresh)])
        return Sight(fresh, state)

    async def lines(self, sight: Sight) -> AsyncIterator[str]:
        """Yield what `sight` holds and all that follows, as server-sent events."""
        yield f"retry: {RETRY_MS}\n\n"
        quiet = 0.0
        while True:
            for event in sight.events:
                yield _message(event)
            if sight.state.is_over and not sight.events:
                said = json.dumps({"state": str(sight.state)})
                yield f"id: {self.seen}\nevent: over\ndata: {said}\n\n"
                return
            quiet = 0.0 if sight.events else quiet + POLL_S
            if quiet >= HEARTBEAT_S:
                quiet = 0.0
                yield ": still here\n\n"
            if not sight.state.is_over:
                await anyio.sleep(POLL_S)
            sight = await to_thread.run_sync(self.look)


def _message(event: dict[str, Any]) -> str:
    return f"id: {event['n']}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n"
