"""Client of the chat process, which has one model loaded at a time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelforge.config.methods import Head
from modelforge.config.sampling import Sampling
from modelforge.config.visible_gpu import visible_gpu
from modelforge.data.canonical.convert import SUMMARIZE_PROMPT
from modelforge.data.canonical.qa import QA_PROMPT
from modelforge.errors import Problem, RunError
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home, folder_stamp
from modelforge.runs.layout import RunFolder, holds_adapter, holds_model
from modelforge.runs.process.identity import ProcessIdentity, child_environment
from modelforge.runs.process.jsonl_process import JsonlProcess
from modelforge.runs.view import RunView

COMMAND = (sys.executable, "-m", "modelforge.chat")
LOAD_TIMEOUT_S = 300.0
REPLY_TIMEOUT_S = 120.0

Admit = Callable[[], AbstractContextManager[None]]
# Role and content; of an answer also `tool_calls`, of the result of a tool also its `name`.
Message = dict[str, Any]


@dataclass(frozen=True)
class ChatModelSpec:
    """A model to chat with, a folder or a GGUF file, and for a trained one its adapter folder.

    `system` is the system message of the training; it starts every conversation that has none.
    `head` is the kind of input: a conversation, a text to rewrite (the last message), or a
    question about a passage (the system message). `gpu_index` only counts when the model is loaded.
    `stamp` is the state of its files, so that a changed model is loaded again. `quantization` is
    that of the weights while the adapter was trained, `rope` type and factor of the rope scaling.
    `others` are further specs of the same base model whose adapters are loaded as well. A model
    that `continues` was trained from nothing: it continues the last message. With `gpu_chosen` the
    model is loaded again where it is on another GPU.
    """

    model_path: str
    adapter: str | None = None
    device: str = "cpu"
    revision: str | None = None
    run: str | None = None
    system: str | None = None
    head: Head = "causal"
    task: str = "text-generation"
    quantization: str = "none"
    rope: tuple[str, float] = ("none", 1.0)
    others: tuple[ChatModelSpec, ...] = ()
    continues: bool = False
    gpu_index: int = field(default=0, compare=False)
    gpu_chosen: bool = field(default=False, compare=False)
    stamp: tuple[object, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        folders = (self.model_path, self.adapter)
        stamp = tuple(folder_stamp(folder) for folder in folders if folder)
        object.__setattr__(self, "stamp", stamp)

    @classmethod
    def of_run(
        cls, folder: RunFolder, view: RunView, device: str, weights: Path | None = None
    ) -> ChatModelSpec | None:
        """Return the result of a run, an adapter or a whole model, or None if it has none.

        `weights` is the folder of a checkpoint, in place of the result.
        """
        weights = weights or folder.output
        head: Head = view.plan.facts.head
        system = view.config.get("model", {}).get("system_prompt") if head == "causal" else None
        task = view.config.get("task", "text-generation")
        output = str(weights)
        if holds_adapter(weights):
            base, revision = view.plan.model_path, view.plan.model_revision
            run, quantization = str(folder.path), view.plan.quantization
            rope = (view.plan.rope_type, view.plan.rope_factor)
            return cls(base, output, device, revision, run, system, head, task, quantization, rope)
        if holds_model(weights):
            is_new = view.plan.pretraining is not None
            return cls(output, None, device, system=system, head=head, task=task, continues=is_new)
        return None

    @classmethod
    def of_model(cls, facts: ModelInfo, device: str) -> ChatModelSpec | None:
        """Return the spec of a base model; None for an encoder without a QA head."""
        head: Head = "seq2seq" if facts.kind == "encoder-decoder" else "causal"
        if facts.kind == "encoder":
            if not facts.architecture.endswith("ForQuestionAnswering"):
                return None
            head = "span"
        return cls(facts.path, None, device, facts.revision, head=head)

    @property
    def folders(self) -> tuple[str | None, ...]:
        """Return the folders that must exist while the model is loaded."""
        return self.model_path, self.adapter, *(other.adapter for other in self.others)

    def fits_beside(self, other: ChatModelSpec) -> bool:
        """Return whether both adapters are of the same base model, loaded in the same way."""
        both = (self, other)
        return all(spec.adapter and spec.head == "causal" for spec in both) and (
            self._base == other._base
        )

    def serves(self, spec: ChatModelSpec) -> bool:
        """Return whether this model, when it is loaded, answers for `spec`."""
        is_moved = spec.gpu_chosen and spec.gpu_index != self.gpu_index
        if is_moved or self._base != spec._base:
            return False
        adapters = {(each.adapter, each.stamp[1:]) for each in (self, *self.others)}
        wanted = {(each.adapter, each.stamp[1:]) for each in (spec, *spec.others)}
        return wanted <= adapters

    @property
    def _base(self) -> tuple[object, ...]:
        names = (self.model_path, self.device, self.revision, self.head, self.quantization)
        return *names, self.rope, self.continues, self.stamp[0]

    @property
    def is_gguf(self) -> bool:
        """Whether llama.cpp loads it."""
        return self.model_path.endswith(".gguf")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of the load request."""
        names = ("model_path", "adapter", "device", "revision", "head", "run", "continues")
        others = [other.adapter for other in self.others]
        return {**{name: getattr(self, name) for name in names}, "others": others}

    def prepare_messages(self, messages: Sequence[Message]) -> list[Message]:
        """Return the conversation in the form of the training data of the task."""
        if self.head == "causal":
            messages = _TASKS.get(self.task, list)(messages)
        if self.system and not any(message["role"] == "system" for message in messages):
            return [{"role": "system", "content": self.system}, *messages]
        return list(messages)


def _with_summarize_prefix(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the summarization prefix of the training data."""
    *before, last = messages
    text = last["content"].removeprefix(SUMMARIZE_PROMPT)
    return [*before, last | {"content": f"{SUMMARIZE_PROMPT}{text}"}]


def _as_qa_prompt(messages: Sequence[Message]) -> list[Message]:
    """Return one message of the question and its passage, which is the system message."""
    texts = [each["content"] for each in messages if each["role"] == "system"]
    if not texts:
        return list(messages)
    asked = QA_PROMPT.format(context=texts[0], question=messages[-1]["content"])
    return [{"role": "user", "content": asked}]


_TASKS: dict[str, Callable[[Sequence[Message]], list[Message]]] = {
    "summarization": _with_summarize_prefix,
    "extractive-question-answering": _as_qa_prompt,
}


class ChatClient:
    """Start the chat process when needed, and send requests to it. Thread-safe."""

    def __init__(
        self, home: Home, command: Sequence[str] = COMMAND, *, log: str = "chat.log"
    ) -> None:
        self._home = home
        self._log = home.logs / log
        self._command = list(command)
        self._process: JsonlProcess | None = None
        self._spec: ChatModelSpec | None = None
        self._lock = threading.Lock()
        self.last_used = 0.0

    @property
    def alive(self) -> bool:
        """Whether the chat process is running."""
        return self._process is not None and self._process.alive

    @property
    def identity(self) -> ProcessIdentity | None:
        """The chat process, or None if it is not running."""
        return self._process.identity if self._process is not None and self.alive else None

    @property
    def answering(self) -> bool:
        """Whether a reply is being generated."""
        return self._lock.locked()

    @property
    def loaded(self) -> ChatModelSpec | None:
        """Return the loaded model, or None."""
        return self._spec if self.alive else None

    def ask(
        self,
        spec: ChatModelSpec,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        tuned: bool = True,
        tools: Sequence[dict[str, Any]] = (),
        admit: Admit = nullcontext,
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the messages of one reply: {"phase"}, {"text"} and at last {"done"}.

        Requests are handled one after the other. `tuned` false switches the adapter off. The
        process is started inside `admit`, which may raise BusyError. Raises RunError if the
        process fails.
        """
        request = {
            "messages": spec.prepare_messages(messages),
            **(sampling or Sampling()).as_dict(),
            "adapter": spec.adapter if tuned and spec.adapter else False,
            **({"tools": list(tools)} if tools else {}),
        }
        yield from self.request(spec, request, admit)

    def load(self, spec: ChatModelSpec, admit: Admit = nullcontext) -> Iterator[dict[str, Any]]:
        """Load a model unless it is loaded; yield its phases, and raise as `ask` does."""
        with self._lock:
            yield from self._load(spec, admit)

    def request(
        self, spec: ChatModelSpec, request: dict[str, Any], admit: Admit = nullcontext
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the messages of the reply to a request of the chat process, as `ask` does."""
        with self._lock:
            yield from self._load(spec, admit)
            self._require().send({"ask": request})
            try:
                yield from self._receive_until("done", REPLY_TIMEOUT_S)
            except GeneratorExit:  # the client has closed the stream early
                self._discard_reply()
                raise

    def stop(self) -> None:
        """End the current reply early."""
        if self._process is not None and self._process.alive:
            self._process.send({"stop": True})

    def close(self) -> None:
        """End the process and free its memory."""
        if self._process is not None:
            self._process.close()
        self._process, self._spec = None, None

    def _load(self, spec: ChatModelSpec, admit: Admit) -> Iterator[dict[str, Any]]:
        self.last_used = time.monotonic()
        if self.loaded is not None and self.loaded.serves(spec):
            return
        yield {"phase": "loading", "text": f"Loading {Path(spec.model_path).name}"}
        with admit():
            self._prepare_process(spec)
        self._require().send({"load": spec.as_dict()})
        for message in self._receive_until("loaded", LOAD_TIMEOUT_S):
            if "loaded" in message:
                self._spec = _as_loaded(spec, message["loaded"])
            yield message

    def _prepare_process(self, spec: ChatModelSpec) -> None:
        """Start a process, unless one runs that can load this model in place of its own."""
        loaded, self._spec = self.loaded, None
        place = (spec.device, spec.gpu_index, spec.is_gguf)
        if loaded is not None and place == (loaded.device, loaded.gpu_index, loaded.is_gguf):
            return
        self.close()
        gpu = visible_gpu(spec.gpu_index if spec.device == "cuda" else None)
        variables = {**child_environment(self._home), **gpu}
        self._process = JsonlProcess(self._command, self._log, environment=variables)

    def _receive_until(self, last: str, timeout_s: float) -> Iterator[dict[str, Any]]:
        while True:
            message = self._require().receive(timeout_s)
            if message is None:
                self.close()
                raise RunError(
                    Problem(
                        "chat",
                        f"The model did not answer within {timeout_s:.0f} s, or its process ended.",
                        f"Try again; its output is in {self._log}.",
                    )
                )
            if "error" in message:
                if last == "loaded":
                    self.close()
                raise RunError(Problem(**message["error"]))
            yield message
            if last in message:
                return

    def _discard_reply(self) -> None:
        """Stop a reply that is not read any more, and read its remaining messages."""
        try:
            self.stop()
            for _message in self._receive_until("done", 10.0):
                pass
        except RunError:
            self.close()

    def _require(self) -> JsonlProcess:
        if self._process is None:
            raise RunError(
                Problem("chat", "The chat process has ended.", "Try again; this starts a new one.")
            )
        return self._process


class ChatClients:
    """The client of the chat process that holds the GPU lease, and of one on the CPU."""

    def __init__(self, home: Home, command: Sequence[str] = COMMAND) -> None:
        self.main = ChatClient(home, command)
        self.cpu = ChatClient(home, command, log="chat-cpu.log")


def _as_loaded(spec: ChatModelSpec, loaded: Any) -> ChatModelSpec:
    """Return the spec with those further adapters that the process has loaded."""
    adapters = loaded.get("adapters", ()) if isinstance(loaded, dict) else ()
    return replace(spec, others=tuple(each for each in spec.others if each.adapter in adapters))
