"""What flows to the browser by itself: a run's parts as they change, and answers word by word."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from queue import SimpleQueue
from typing import Any

import anyio.to_thread
from fastapi.sse import ServerSentEvent

from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.atomic_files import find_json
from ui.html.gradio_page import sentence
from ui.html.markup import Safe, join
from ui.pages.run import page
from ui.pages.run.side_panel import Seen
from ui.pages.run.state import READ_BYTES, RunWatcher
from ui.pages.train import cards

LOOK_S = 0.2
STATE_S = 1.0
CURVES_S = 1.0
BRIEF_S = 10.0
REMEMBERED = 8


class Watchers:
    """One watcher a run, shared by every tab that looks at it."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge
        self._watchers: OrderedDict[str, RunWatcher] = OrderedDict()
        self._turn = threading.Lock()

    def of(self, run_id: str) -> RunWatcher:
        """Return the watcher of a run; raises NotFoundError where there is no such run."""
        self._forge.folder(run_id)
        with self._turn:
            known = self._watchers.get(run_id)
            if known is None:
                known = RunWatcher(lambda after: self._forge.events(run_id, after, READ_BYTES))
                self._watchers[run_id] = known
                while len(self._watchers) > REMEMBERED:
                    self._watchers.popitem(last=False)
            self._watchers.move_to_end(run_id)
            return known


class Following:
    """One tab's view of one run: knows what it has sent, and sends only what is new."""

    def __init__(self, forge: Forge, watcher: RunWatcher, run_id: str) -> None:
        self._forge, self._watcher, self._id = forge, watcher, run_id
        self._sent: dict[str, Safe] = {}
        self._version = -1
        self._drawn = -1
        self._drawn_at = self._looked_at = 0.0
        self._briefed_at = -BRIEF_S
        self._planned = find_json(forge.folder(run_id).preflight) or {}

    def news(self) -> dict[str, Any] | None:
        """Return what the tab should change, or None. Nothing new costs one `stat`."""
        now = time.monotonic()
        version = self._watcher.poll()
        fresh = version != self._version
        if not fresh and now - self._looked_at < STATE_S:
            return None
        seen = self._see()
        parts = page.fast(seen)
        if seen.run.state.is_over or (version != self._drawn and now - self._drawn_at >= CURVES_S):
            parts |= page.slow(seen)
            self._drawn, self._drawn_at = version, now
        if now - self._briefed_at >= BRIEF_S:
            parts["machine-brief"] = join([cards.machine_brief(self._forge.machine())])
            self._briefed_at = now
        self._version, self._looked_at = version, now
        changed = {name: part for name, part in parts.items() if self._sent.get(name) != part}
        self._sent.update(changed)
        if not changed:
            return None
        told: dict[str, Any] = {"parts": changed, "title": page.title(seen)}
        told["state"] = str(seen.run.state)
        told["over"] = seen.run.state.is_over
        return told

    def _see(self) -> Seen:
        # The state first: a worker that ends in between must not look lost.
        view = self._forge.run(self._id)
        self._watcher.poll()
        return Seen(
            run=view,
            picture=self._watcher.picture,
            planned=self._planned,
            printed=self._forge.log(self._id),
            has_result=self._forge.folder(self._id).has_result,
            cause=self._forge.aid.diagnosis(self._id) if view.state.is_over else None,
            changes=self._forge.aid.changes(self._id) if view.state.is_over else [],
            offers=self._forge.again.offers(self._id) if view.state.is_over else None,
        )


async def pictures(forge: Forge, watchers: Watchers, run_id: str) -> AsyncIterator[ServerSentEvent]:
    """Yield server-sent events with the parts of a run that have changed, until it is over.

    At most five a second.
    """
    yield ServerSentEvent(retry=1000)
    following: Following | None = None
    while True:
        try:
            following = following or Following(forge, watchers.of(run_id), run_id)
            told = await anyio.to_thread.run_sync(following.news)
        except ForgeError as error:
            told = {
                "parts": {"run-head": page.absent(sentence(error))},
                "state": "gone",
                "over": True,
            }
        if told is not None:
            yield ServerSentEvent(raw_data=json.dumps(told, ensure_ascii=False))
            if told["over"]:
                return
        await asyncio.sleep(LOOK_S)


def answers(forge: Forge, asked: dict[str, Any]) -> Iterator[str]:
    """Yield JSON lines of one answer: phases, pieces of text, done, or what went wrong."""
    try:
        for said in forge.chat(
            asked["target"],
            asked["messages"],
            tuned=asked["tuned"],
            temperature=asked["temperature"],
        ):
            yield f"{json.dumps(said, ensure_ascii=False)}\n"
    except ForgeError as error:
        yield f"{json.dumps({'error': error.problems[0].as_dict()}, ensure_ascii=False)}\n"


def fetched(forge: Forge, name: str, subset: str | None, split: str | None) -> Iterator[str]:
    """Yield JSON lines of a fetch from the Hub: progress, then the data set, or what was wrong."""
    told: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def work() -> None:
        try:
            kept = forge.data.fetch(
                name,
                subset=subset,
                split=split,
                on_progress=lambda progress: told.put({"progress": progress}),
            )
            told.put({"done": kept.as_dict()})
        except ForgeError as error:
            told.put({"error": error.problems[0].as_dict()})

    threading.Thread(target=work, daemon=True).start()
    while True:
        one = told.get()
        yield f"{json.dumps(one, ensure_ascii=False, default=str)}\n"
        if "progress" not in one:
            return
