"""Talking: who answers for a run or a base model, and when the talker has to go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from modelforge.asking import Inquiry
from modelforge.errors import NotFoundError, Problem
from modelforge.machine import Machine
from modelforge.runs.layout import RunFolder
from modelforge.runs.store import Store
from modelforge.runs.supervisor import Supervisor
from modelforge.sight import view_run
from modelforge.talk import Talk, Voice

IDLE_S = 900.0


class ChatDesk:
    """Finds the voice that is asked for and lets it answer, while no run holds the machine."""

    def __init__(
        self,
        talk: Talk,
        store: Store,
        supervisor: Supervisor,
        inquiry: Inquiry,
        machine: Callable[[], Machine],
    ) -> None:
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
        voice = self._voice(target)
        self._supervisor.require_free("Chat waits until it is over.")
        return self._talk.ask(
            voice,
            messages,
            tuned=tuned,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )

    def let_go_of(self, folder: RunFolder) -> None:
        """End the talker if it speaks with what lies in this run."""
        if self._talk.loaded and str(folder.output) in self._talk.loaded.folders:
            self._talk.close()

    def tend(self) -> None:
        """End a talker that nobody has asked for long."""
        if self._talk.loaded and time.monotonic() - self._talk.last_used > IDLE_S:
            self._talk.close()

    def close(self) -> None:
        """End the talker."""
        self._talk.close()

    def _voice(self, target: str) -> Voice:
        device = self._machine().device
        if not self._store.exists(target):
            facts = self._inquiry.model(target)
            shape = facts.kind, facts.architecture
            voice = Voice.of_model(facts.path, facts.revision, device, shape)
            if voice is None:
                what = f"{facts.name} reads text, and has learned to say nothing about it."
                remedy = "Choose a finished run of it, or another model."
                raise NotFoundError(Problem("model", what, remedy))
            return voice
        folder = self._store.get(target)
        view = view_run(folder, self._supervisor.state(folder))
        system = view.config.get("model", {}).get("system_prompt")
        task = view.config.get("task", "text-generation")
        voice = Voice.of_run(folder, view.plan, device, system, task)
        if voice is None:
            what = f"{view.name} has left no model: it is {view.state}."
            remedy = "Choose a finished run, or a base model."
            raise NotFoundError(Problem("run", what, remedy))
        return voice
