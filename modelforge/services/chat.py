"""Chat with the model of a run or with a base model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from modelforge.errors import NotFoundError, Problem
from modelforge.hardware.machine import Machine
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.store import Store
from modelforge.runs.view import view_run
from modelforge.services.chat_client import ChatClient, ChatModelSpec
from modelforge.services.machine import MachineService
from modelforge.services.preflight import PreflightService

IDLE_S = 900.0
# A chat counts as in use this long after a completion, while the user reads it.
READING_S = 120.0
BUSY_REMEDY = "Chat is available when it is over."


class ChatService:
    """Generate replies while no run uses the GPU. The chat process holds the GPU lease."""

    def __init__(
        self,
        client: ChatClient,
        store: Store,
        supervisor: Supervisor,
        preflight: PreflightService,
        machine: MachineService,
        lease: MachineLease,
    ) -> None:
        self._client = client
        self._store = store
        self._supervisor = supervisor
        self._preflight = preflight
        self._machine = machine
        self._lease = lease

    def ask(
        self,
        target: str,
        messages: Sequence[dict[str, str]],
        *,
        tuned: bool = True,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 0.95,
    ) -> Iterator[dict[str, Any]]:
        """Yield the parts of a reply of a run's model (run id) or of a base model (name).

        Raises NotFoundError for an unknown model, BusyError while a run is active.
        """
        spec, name = self.find_model(target)
        self._supervisor.require_free(BUSY_REMEDY)
        parts = self._client.ask(
            spec,
            messages,
            tuned=tuned,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            admit=lambda: self._admit(name),
        )
        return self._stream(parts)

    def find_model(self, target: str) -> tuple[ChatModelSpec, str]:
        """Return the model of a run id or a model name, and its display name.

        Raises NotFoundError if the run has no result, or the model cannot generate.
        """
        machine = self._machine.current()
        device = machine.device
        if self._store.exists(target):
            folder = self._store.get(target)
            view = view_run(folder, self._supervisor.state(folder))
            if spec := ChatModelSpec.of_run(folder, view, device):
                trained_on = view.config.get("hardware", {}).get("gpu_index", 0)
                return replace(spec, gpu_index=_chat_gpu(machine, trained_on)), view.name
            what = f"{view.name} has no model: it is {view.state}."
            raise NotFoundError(Problem("run", what, "Choose a finished run, or a base model."))
        facts = self._preflight.model(target)
        if spec := ChatModelSpec.of_model(facts, device):
            spec = replace(spec, gpu_index=_chat_gpu(machine))
            return spec, facts.name.replace("\\", "/").rsplit("/", 1)[-1]
        what = f"{facts.name} is an encoder without a head that produces answers."
        raise NotFoundError(
            Problem("model", what, "Choose a finished run of it, or another model.")
        )

    @property
    def in_use(self) -> str:
        """Who uses the chat now, as a sentence; empty if it is not in use."""
        since = time.monotonic() - self._client.last_used
        in_use = since < (IDLE_S if self._client.answering else READING_S)
        holder = self._lease.holder() if in_use and self._client.alive else None
        return holder.sentence if holder else ""

    @property
    def is_answering(self) -> bool:
        """Whether a reply is being generated just now."""
        return self._client.answering

    def unload(self, model: str) -> None:
        """End the chat process if it has loaded this model or adapter: a folder or a Hub id."""
        if self._client.loaded and model in self._client.loaded.folders:
            self.close()

    def tend(self) -> None:
        """End an idle chat process; release the lease of one that has ended."""
        if self._client.loaded and time.monotonic() - self._client.last_used > IDLE_S:
            self._client.close()
        self._release()

    def close(self) -> None:
        """End the chat process and release the GPU lease."""
        self._client.close()
        self._release()

    def close_if_unmeasured(self) -> bool:
        """End the chat process if the driver does not tell its memory; return whether it did."""
        machine = self._machine.current()
        if not (self._client.alive and machine.gpus) or machine.tells_own_memory:
            return False
        self.close()
        self._machine.current(refresh=True)
        return True

    @contextmanager
    def _admit(self, name: str) -> Iterator[None]:
        """Hold the start lock and take the lease while the chat process starts."""
        with self._supervisor.claim():
            self._supervisor.require_free(BUSY_REMEDY)
            self._lease.take("chat", name)
            yield

    def _stream(self, parts: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        try:
            yield from parts
        finally:
            self._release()

    def _release(self) -> None:
        if self._client.alive or not self._lease.mine:
            return
        with self._supervisor.claim():  # another thread may be starting the chat process
            if not self._client.alive:
                self._lease.release()


def _chat_gpu(machine: Machine, trained_on: int | None = None) -> int:
    """Return the GPU to chat on: that of the run, else the one with the most free memory."""
    if any(gpu.index == trained_on for gpu in machine.gpus):
        return trained_on or 0
    free = {gpu.index: gpu.free_gib or 0.0 for gpu in machine.gpus}
    return max(free, key=free.__getitem__, default=0)
