"""Follow a run live: send the parts and charts of its page that changed, as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from fastapi.sse import ServerSentEvent
from pydantic_core import to_json

from modelforge.config.command_line import train_command
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.preflight.report import Report
from modelforge.runs.atomic_files import find_json
from modelforge.runs.view import RunView
from modelforge.services.layers import FormInput
from ui.contract import RunUpdate, error_text
from ui.html.components import machine_brief
from ui.html.markup import join
from ui.pages.run import page, side_panel
from ui.pages.run.pretraining import chat_settings
from ui.pages.run.side_panel import RunSnapshot

POLL_S = 0.2
STATE_S = 1.0
CHARTS_S = 1.0
MACHINE_S = 10.0


class RunFollower:
    """The view of one tab on one run; remembers what it sent, and returns only changes."""

    def __init__(self, forge: Forge, run_id: str) -> None:
        self._forge, self._id = forge, run_id
        self._reader = forge.runs.timeline(run_id)
        self._sent: dict[str, Any] = {}
        self._version = self._charts_version = -1
        self._charts_at = self._checked_at = 0.0
        self._machine_at = -MACHINE_S
        self._planned = find_json(forge.runs.folder(run_id).preflight) or {}

    def update(self) -> RunUpdate | None:
        """Return what changed since the last call, or None. An unchanged run costs one `stat`."""
        now = time.monotonic()
        version = self._reader.poll()
        if version == self._version and now - self._checked_at < STATE_S:
            return None
        snapshot = self._snapshot()
        is_over = snapshot.run.state.is_over
        parts: dict[str, Any] = dict(page.fast_parts(snapshot))
        charts: dict[str, Any] = {}
        if is_over or (version != self._charts_version and now - self._charts_at >= CHARTS_S):
            parts |= page.slow_parts(snapshot)
            command = train_command(snapshot.run.config, self._forge.home.root)
            parts["run-command"] = join([command])
            charts = page.charts(snapshot.timeline, snapshot.run.plan)
            self._charts_version, self._charts_at = version, now
        if now - self._machine_at >= MACHINE_S:
            parts["machine-brief"] = machine_brief(self._forge.machine.current())
            parts["run-queue"] = side_panel.next_runs(self._forge.queue.view(), self._id)
            self._machine_at = now
        self._version, self._checked_at = version, now
        parts, charts = self._changed("part", parts), self._changed("chart", charts)
        if not parts and not charts:
            return None
        return RunUpdate(
            parts=parts,
            charts=charts,
            title=page.title(snapshot),
            state=str(snapshot.run.state),
            is_over=is_over,
        )

    def _changed(self, kind: str, items: dict[str, Any]) -> dict[str, Any]:
        changed = {
            name: item for name, item in items.items() if self._sent.get(f"{kind} {name}") != item
        }
        self._sent.update({f"{kind} {name}": item for name, item in changed.items()})
        return changed

    def _snapshot(self) -> RunSnapshot:
        # Read the state before the events: a worker that ends in between must not look lost.
        run = self._forge.runs.view(self._id)
        self._reader.poll()
        is_over, folder = run.state.is_over, self._forge.runs.folder(self._id)
        return RunSnapshot(
            run=run,
            timeline=self._reader.timeline,
            planned=self._planned,
            printed=self._forge.runs.log(self._id),
            has_result=folder.has_result,
            cause=self._forge.diagnosis.cause(self._id) if is_over else None,
            changes=self._forge.diagnosis.changes(self._id) if is_over else [],
            offers=self._forge.resume.options(self._id) if is_over else None,
            trackers=folder.trackers,
            merged=folder.merged,
            output=folder.output,
            chat=self._chat(run) if is_over and folder.has_result else None,
            comparisons=self._forge.growth_comparisons.comparisons(self._id) if is_over else [],
        )

    def _chat(self, run: RunView) -> Report | None:
        """Return the report of the run that teaches a new model to chat; None for other models."""
        if run.plan.pretraining is None:
            return None
        settings = chat_settings(self._forge.runs.folder(self._id).output)
        try:
            found = self._forge.layers.stack(FormInput(values=settings))
            return self._forge.preflight.check(*found.layers).report
        except ForgeError:
            return None


async def run_updates(forge: Forge, run_id: str) -> AsyncIterator[ServerSentEvent]:
    """Yield what changed on the page of a run, at most five times per second, until it is over."""
    yield ServerSentEvent(retry=1000)
    follower: RunFollower | None = None
    while True:
        try:
            follower = follower or RunFollower(forge, run_id)
            update = await anyio.to_thread.run_sync(follower.update)
        except ForgeError as error:
            parts = {"run-head": page.unavailable(error_text(error))}
            update = RunUpdate(parts=dict(parts), state="gone", is_over=True)
        if update is not None:
            yield ServerSentEvent(raw_data=to_json(update).decode())
            if update.is_over:
                return
        await asyncio.sleep(POLL_S)
