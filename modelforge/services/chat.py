"""Talking: who answers for a run or a base model, and when the talker has to go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modelforge.errors import NotFoundError, Problem
from modelforge.hardware.machine import Machine
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.machine_lease import Lease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.store import Store
from modelforge.runs.view import view_run
from modelforge.services.chat_client import Talk, Voice
from modelforge.services.preflight import Inquiry

IDLE_S = 900.0
# For how long after an answer somebody is taken to be reading it.
PAUSE_S = 120.0
WAITS = "Chat waits until it is over."


class ChatDesk:
    """Finds the voice that is asked for and lets it answer, while nobody holds the machine.

    The lease of the machine is held for as long as the talker lives.
    """

    def __init__(
        self,
        talk: Talk,
        store: Store,
        supervisor: Supervisor,
        inquiry: Inquiry,
        machine: Callable[[], Machine],
        lease: Lease,
    ) -> None:
        self._lease = lease
        self._talk = talk
        self._store = store
        self._supervisor = supervisor
        self._inquiry = inquiry
        self._machine = machine

    def ask(
        self,
        target: str,
        messages: Sequence[dict[str, str]],
        *,
        tuned: bool,
        max_new_tokens: int,
        temperature: float,
    ) -> Iterator[dict[str, Any]]:
        """Yield the answer of a run's model or of a base model, as `Forge.chat` describes it."""
        voice, name = self._voice(target)
        self._supervisor.require_free(WAITS)
        self._lease.require_free()
        asked = self._talk.ask(
            voice,
            messages,
            tuned=tuned,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            admit=lambda: self._admitted(name),
        )
        return self._heard(asked)

    @property
    def in_use(self) -> str:
        """Who is talked to just now, in words; empty while nobody is."""
        since = time.monotonic() - self._talk.last_used
        in_use = since < (IDLE_S if self._talk.answering else PAUSE_S)
        holder = self._lease.holder() if in_use and self._talk.alive else None
        return holder.sentence if holder else ""

    def let_go_of(self, folder: RunFolder) -> None:
        """End the talker if it speaks with what lies in this run."""
        if self._talk.loaded and str(folder.output) in self._talk.loaded.folders:
            self.close()

    def tend(self) -> None:
        """End a talker that nobody has asked for long; give back what a dead one held."""
        if self._talk.loaded and time.monotonic() - self._talk.last_used > IDLE_S:
            self._talk.close()
        self._give_back()

    def close(self) -> None:
        """End the talker, and let go of the machine."""
        self._talk.close()
        self._give_back()

    @contextmanager
    def _admitted(self, name: str) -> Iterator[None]:
        """Hold the machine while the talker is started: no run can begin in between."""
        with self._supervisor.claim():
            self._supervisor.require_free(WAITS)
            self._lease.take("chat", name)
            yield

    def _heard(self, asked: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        try:
            yield from asked
        finally:
            self._give_back()

    def _give_back(self) -> None:
        if self._talk.alive or not self._lease.mine:
            return
        with self._supervisor.claim():  # a talker may be starting just now
            if not self._talk.alive:
                self._lease.give_back()

    def _voice(self, target: str) -> tuple[Voice, str]:
        """Return who answers for a run or a model, and by what name people know it."""
        device = self._machine().device
        if not self._store.exists(target):
            facts = self._inquiry.model(target)
            shape = facts.kind, facts.architecture
            voice = Voice.of_model(facts.path, facts.revision, device, shape)
            if voice is None:
                what = f"{facts.name} reads text, and has learned to say nothing about it."
                remedy = "Choose a finished run of it, or another model."
                raise NotFoundError(Problem("model", what, remedy))
            return voice, facts.name.replace("\\", "/").rsplit("/", 1)[-1]
        folder = self._store.get(target)
        view = view_run(folder, self._supervisor.state(folder))
        system = view.config.get("model", {}).get("system_prompt")
        task = view.config.get("task", "text-generation")
        voice = Voice.of_run(folder, view.plan, device, system, task)
        if voice is None:
            what = f"{view.name} has left no model: it is {view.state}."
            remedy = "Choose a finished run, or a base model."
            raise NotFoundError(Problem("run", what, remedy))
        return voice, view.name
