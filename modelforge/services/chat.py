"""Chat with the model of a run or with a base model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelforge.config.sampling import Sampling
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.hardware.machine import Machine
from modelforge.runs.atomic_files import read_json
from modelforge.runs.feedback.corrections import CorrectionKind
from modelforge.runs.notes import short_model_name
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.store import Store
from modelforge.runs.view import view_run
from modelforge.services.chat_client import ChatClients, ChatModelSpec, Message
from modelforge.services.chats.cpu import CpuFit, fit_on_cpu
from modelforge.services.chats.models import (
    ChatGpu,
    ChatModelView,
    chat_format,
    first_tools,
)
from modelforge.services.chats.requests import ChatAsk, Side
from modelforge.services.chats.sides import Parts, PreparedSide, SideAnswers
from modelforge.services.machine import MachineService
from modelforge.services.preflight import PreflightService

IDLE_S = 900.0
# On the CPU beside a run, which needs the memory.
CPU_IDLE_S = 120.0
# A chat counts as in use this long after a completion, while the user reads it.
READING_S = 120.0
BUSY_REMEDY = "Chat is available when it is over."


class ChatService:
    """Generate replies while no run uses the GPU. The chat process holds the GPU lease."""

    def __init__(
        self,
        clients: ChatClients,
        store: Store,
        supervisor: Supervisor,
        preflight: PreflightService,
        machine: MachineService,
        lease: MachineLease,
    ) -> None:
        self._client, self._cpu_client = clients.main, clients.cpu
        self._answers = {client: SideAnswers(client) for client in (clients.main, clients.cpu)}
        self._store = store
        self._supervisor = supervisor
        self._preflight = preflight
        self._machine = machine
        self._lease = lease
        # While a question that has waited is answered, nothing else starts by itself.
        self.reserved = False

    def ask(
        self,
        target: str,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        tuned: bool = True,
    ) -> Parts:
        """Yield the parts of a reply of a run's model (run id) or of a base model (name).

        Raises NotFoundError for an unknown model, BusyError while a run is active.
        """
        side = Side(target, tuned, tuple(messages))
        parts = self.ask_sides(ChatAsk((side,), sampling or Sampling()))
        return _of_one_side(parts)

    def ask_sides(self, ask: ChatAsk) -> Parts:
        """Yield the parts of the answers of one or two models; each has its `side`.

        Raises ConfigError for an unusable request, NotFoundError for an unknown model, and
        BusyError while the computer is in use. Of two sides, an error of one is a part.
        """
        ask = ask.checked()
        sides = [self._prepare(number, ask) for number in range(len(ask.sides))]
        if ask.device == "cpu":
            self._require_cpu(ask)
            return self._answers[self._cpu_client].answer(sides, ask, nullcontext)
        self._supervisor.require_free(BUSY_REMEDY)
        name = " and ".join(dict.fromkeys(side.name for side in sides))
        parts = self._answers[self._client].answer(sides, ask, lambda: self._admit(name))
        return self._stream(parts)

    def find_model(self, target: str, checkpoint: Path | None = None) -> tuple[ChatModelSpec, str]:
        """Return the model of a run id or a model name, and its display name.

        With `checkpoint` the model in this folder of the run. Raises NotFoundError if the run has
        no result, or the model cannot generate.
        """
        machine = self._machine.current()
        device = machine.device
        if self._store.exists(target):
            folder = self._store.get(target)
            view = view_run(folder, self._supervisor.state(folder))
            if spec := ChatModelSpec.of_run(folder, view, device, checkpoint):
                trained_on = view.config.get("hardware", {}).get("gpu_index", 0)
                return replace(spec, gpu_index=_chat_gpu(machine, trained_on)), view.name
            what = f"{view.name} has no model: it is {view.state}."
            raise NotFoundError(Problem("run", what, "Choose a finished run, or a base model."))
        facts = self._preflight.model(target)
        if spec := ChatModelSpec.of_model(facts, device):
            spec = replace(spec, gpu_index=_chat_gpu(machine))
            return spec, short_model_name(facts.name)
        what = f"{facts.name} is an encoder without a head that produces answers."
        raise NotFoundError(
            Problem("model", what, "Choose a finished run of it, or another model.")
        )

    def side_name(self, target: str, *, tuned: bool) -> str:
        """Return the display name of a side; raises NotFoundError."""
        name = self.find_model(target)[1]
        return name if tuned or not self._store.exists(target) else f"the base model of {name}"

    def kind(self, target: str) -> tuple[str, CorrectionKind]:
        """Return the display name of a model and the rows that correct it; raises NotFoundError.

        An answer of a model that continues texts is corrected for the run that teaches it to chat.
        """
        spec, name = self.find_model(target)
        asked = chat_format(spec)
        return name, "conversation" if asked == "continuation" else asked

    def describe(self, target: str) -> ChatModelView:
        """Return how the model of a run, or a base model, is asked; raises NotFoundError."""
        spec, name = self.find_model(target)
        machine = self._machine.current()
        facts = self._preflight.model(self._base_name(target))
        gpus = tuple(ChatGpu(gpu.index, gpu.name, gpu.free_gib) for gpu in machine.gpus)
        return ChatModelView(
            model=target,
            name=name,
            format=chat_format(spec),
            tuned=self._store.exists(target),
            has_base=self._store.exists(target) and spec.head != "span" and not spec.continues,
            base_name="" if spec.continues else short_model_name(facts.name),
            system=spec.system or "",
            context=facts.context,
            gpu=spec.gpu_index if spec.device == "cuda" else None,
            gpus=gpus,
            cpu=fit_on_cpu(facts, machine),
            tools=self._tools(target),
        )

    def _tools(self, target: str) -> tuple[dict[str, Any], ...]:
        if not self._store.exists(target):
            return ()
        return first_tools(read_json(self._store.get(target).config).get("dataset"))

    def cpu_fit(self, ask: ChatAsk) -> CpuFit:
        """Return whether all models of a request fit the CPU together, one after the other."""
        machine, tokens = self._machine.current(), ask.sampling.max_new_tokens
        names = {self._base_name(side.model) for side in ask.sides}
        models = [self._preflight.model(name) for name in names]
        answers = len(ask.sides) if len(models) == 1 else 1
        fits = [fit_on_cpu(facts, machine, tokens, answers) for facts in models]
        refused = next((fit for fit in fits if not fit.possible), None)
        seconds = sum(fit.seconds or 0.0 for fit in fits)
        return refused or replace(fits[0], seconds=round(seconds, 1))

    def _require_cpu(self, ask: ChatAsk) -> None:
        fit = self.cpu_fit(ask)
        if not fit.possible and not self._cpu_client.alive:
            raise ConfigError(Problem("device", fit.why, "Wait until the GPU is free."))

    def _prepare(self, number: int, ask: ChatAsk) -> PreparedSide:
        side = ask.sides[number]
        spec, name = self.find_model(side.model)
        if not side.tuned and self._store.exists(side.model):
            name = self.side_name(side.model, tuned=False)
            if spec.continues:
                trained = self.side_name(side.model, tuned=True)
                what = f"“{trained}” was trained from nothing and has no base model."
                raise ConfigError(Problem("run", what, "Ask the trained model."))
            if not spec.adapter:  # every weight was trained
                base, _ = self.find_model(self._base_name(side.model))
                spec = replace(base, system=spec.system, task=spec.task)
        if ask.device == "cpu":
            spec = replace(spec, device="cpu")
        elif ask.gpu is not None:
            spec = replace(spec, gpu_index=self._chosen_gpu(ask.gpu), gpu_chosen=True)
        return PreparedSide(number, name, spec, side.tuned, side.messages)

    def _chosen_gpu(self, index: int) -> int:
        known = [gpu.index for gpu in self._machine.current().gpus]
        if index in known:
            return index
        listed = ", ".join(map(str, known))
        remedy = f"Choose one of {listed}." if known else "Leave it out: there is no GPU."
        raise ConfigError(Problem("gpu", f"There is no GPU {index}.", remedy))

    def _base_name(self, target: str) -> str:
        """Return the name of the base model of a run, or of the model itself.

        A run that trained from nothing has no other model than its own.
        """
        if not self._store.exists(target):
            return target
        folder = self._store.get(target)
        config = read_json(folder.config).get("config", {})
        if (config.get("pretraining") or {}).get("enabled"):
            return str(folder.output)
        return str(config.get("model_name", ""))

    def require_free(self) -> None:
        """Raise BusyError while something else uses the computer."""
        self._supervisor.require_free(BUSY_REMEDY)

    @property
    def in_use(self) -> str:
        """Who uses the chat now, as a sentence; empty if it is not in use."""
        if self.reserved:
            return "A question that has waited is being answered."
        since = time.monotonic() - self._client.last_used
        in_use = since < (IDLE_S if self._client.answering else READING_S)
        holder = self._lease.holder() if in_use and self._client.alive else None
        return holder.sentence if holder else ""

    @property
    def is_answering(self) -> bool:
        """Whether a reply is being generated just now."""
        return self.reserved or self._client.answering

    def unload(self, model: str) -> None:
        """End the chat process if it has loaded this model or adapter: a folder or a Hub id."""
        for client in (self._client, self._cpu_client):
            if client.loaded and model in client.loaded.folders:
                client.close()
        self._release()

    def tend(self) -> None:
        """End an idle chat process; release the lease of one that has ended."""
        for client, idle_s in ((self._client, IDLE_S), (self._cpu_client, CPU_IDLE_S)):
            if client.loaded and time.monotonic() - client.last_used > idle_s:
                client.close()
        self._release()

    def close(self) -> None:
        """End the chat processes and release the GPU lease."""
        self._client.close()
        self._cpu_client.close()
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

    def _stream(self, parts: Parts) -> Parts:
        try:
            with closing(parts):
                yield from parts
        finally:
            self._release()

    def _release(self) -> None:
        if self._client.alive or not self._lease.mine:
            return
        with self._supervisor.claim():  # another thread may be starting the chat process
            if not self._client.alive:
                self._lease.release()


def _of_one_side(parts: Parts) -> Parts:
    """Yield the parts of the only side without its number."""
    with closing(parts):
        for part in parts:
            yield {key: value for key, value in part.items() if key != "side"}


def _chat_gpu(machine: Machine, trained_on: int | None = None) -> int:
    """Return the GPU to chat on: that of the run, else the one with the most free memory."""
    if any(gpu.index == trained_on for gpu in machine.gpus):
        return trained_on or 0
    free = {gpu.index: gpu.free_gib or 0.0 for gpu in machine.gpus}
    return max(free, key=free.__getitem__, default=0)
