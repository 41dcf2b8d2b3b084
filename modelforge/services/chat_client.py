"""Chat with a base or tuned model: one talker process, loaded with one model at a time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.data.canonical.convert import SUMMARIZE_PROMPT
from modelforge.data.canonical.qa import QA_PROMPT
from modelforge.errors import Problem, RunError
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import child_environment
from modelforge.runs.process.jsonl_process import JsonlProcess

COMMAND = (sys.executable, "-m", "modelforge.chat")
LOADING_S = 300.0
ANSWER_S = 120.0

Shape = tuple[str, str]
Admit = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class ChatModelSpec:
    """What is to speak: a model and, for a tuned one, its adapter folder.

    `system` is the system message that the rows were trained with; it opens every conversation
    that brings none of its own. The `head` says what the model answers to: a conversation, a text
    to rewrite (the last message), or a question about a text (the system message).
    """

    model_path: str
    adapter: str | None = None
    device: str = "cpu"
    revision: str | None = None
    run: str | None = None
    system: str | None = None
    head: Head = "causal"
    task: str = "text-generation"

    @classmethod
    def of_run(
        cls,
        folder: RunFolder,
        plan: Plan,
        device: str,
        system: str | None,
        task: str = "text-generation",
    ) -> ChatModelSpec | None:
        """Return what a run has left to speak with, an adapter or a whole model, or None."""
        head: Head = plan.facts.head
        said = system if head == "causal" else None
        output = str(folder.output)
        if folder.has_adapter:
            place = plan.model_path, output, device, plan.model_revision, str(folder.path)
            return cls(*place, said, head, task)
        if folder.has_model:
            return cls(output, None, device, system=said, head=head, task=task)
        return None

    @classmethod
    def of_model(
        cls, path: str, revision: str | None, device: str, shape: Shape
    ) -> ChatModelSpec | None:
        """Return a base model as a voice, or None for one that has learned to say nothing.

        Its `shape` is its kind and its architecture.
        """
        kind, architecture = shape
        head: Head = "seq2seq" if kind == "encoder-decoder" else "causal"
        if kind == "encoder":
            if not architecture.endswith("ForQuestionAnswering"):
                return None
            head = "span"
        return cls(path, None, device, revision, head=head)

    @property
    def folders(self) -> tuple[str | None, ...]:
        """Return the folders that must stay while it speaks."""
        return self.model_path, self.adapter

    def as_dict(self) -> dict[str, Any]:
        """Return what the talker is told to load."""
        ours = ("system", "task")
        return {name: value for name, value in asdict(self).items() if name not in ours}

    def prepare_messages(self, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """Return the conversation as it was trained: task in words, system message first."""
        if self.head == "causal":
            messages = _TASKS.get(self.task, list)(messages)
        if self.system and not any(message["role"] == "system" for message in messages):
            return [{"role": "system", "content": self.system}, *messages]
        return list(messages)


def _to_summarise(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the last text with the words that stood before every text in training."""
    *before, last = messages
    text = last["content"].removeprefix(SUMMARIZE_PROMPT)
    return [*before, last | {"content": f"{SUMMARIZE_PROMPT}{text}"}]


def _to_answer(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the question with its text, which comes as the system message, in one message."""
    texts = [each["content"] for each in messages if each["role"] == "system"]
    if not texts:
        return list(messages)
    asked = QA_PROMPT.format(context=texts[0], question=messages[-1]["content"])
    return [{"role": "user", "content": asked}]


_TASKS: dict[str, Callable[[Sequence[dict[str, str]]], list[dict[str, str]]]] = {
    "summarization": _to_summarise,
    "extractive-question-answering": _to_answer,
}


class ChatClient:
    """Keeps the talker: starts it when somebody asks, ends it when the machine is needed."""

    def __init__(self, home: Home, command: Sequence[str] = COMMAND) -> None:
        self._home = home
        self._log = home.logs / "talker.log"
        self._command = list(command)
        self._companion: JsonlProcess | None = None
        self._voice: ChatModelSpec | None = None
        self._turn = threading.Lock()
        self.last_used = 0.0

    @property
    def alive(self) -> bool:
        """Whether there is a talker, loaded or not."""
        return self._companion is not None and self._companion.alive

    @property
    def answering(self) -> bool:
        """Whether a reply is being given."""
        return self._turn.locked()

    @property
    def loaded(self) -> ChatModelSpec | None:
        """Return what is loaded now, or None."""
        return self._voice if self.alive else None

    def ask(
        self,
        voice: ChatModelSpec,
        messages: Sequence[dict[str, str]],
        *,
        tuned: bool = True,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        admit: Admit = nullcontext,
    ) -> Iterator[dict[str, Any]]:
        """Yield {"phase"}, {"text"} and at last {"done"} of one answer; questions wait their turn.

        With `tuned` false the adapter is switched off, so the base answers from the same weights.
        A talker is started inside of `admit`, which may refuse. Raises RunError when the talker
        fails.
        """
        with self._turn:
            yield from self._load(voice, admit)
            companion = self._require()
            companion.send(
                {
                    "ask": {
                        "messages": voice.prepare_messages(messages),
                        "max_new_tokens": max_new_tokens,
                        "temperature": temperature,
                        "adapter": tuned and voice.adapter is not None,
                    }
                }
            )
            try:
                yield from self._until("done", ANSWER_S)
            except GeneratorExit:  # the listener has left in the middle of the answer
                self._hush()
                raise

    def stop(self) -> None:
        """Ask the talker to end the reply it is giving."""
        if self._companion is not None and self._companion.alive:
            self._companion.send({"stop": True})

    def close(self) -> None:
        """End the talker and give its memory back."""
        if self._companion is not None:
            self._companion.close()
        self._companion, self._voice = None, None

    def _load(self, voice: ChatModelSpec, admit: Admit) -> Iterator[dict[str, Any]]:
        self.last_used = time.monotonic()
        if self.loaded == voice:
            return
        self.close()
        yield {"phase": "loading", "text": f"Loading {Path(voice.model_path).name}"}
        with admit():
            log, variables = self._log, child_environment(self._home)
            self._companion = JsonlProcess(self._command, log, environment=variables)
        self._require().send({"load": voice.as_dict()})
        yield from self._until("loaded", LOADING_S)
        self._voice = voice

    def _until(self, last: str, limit_s: float) -> Iterator[dict[str, Any]]:
        while True:
            said = self._require().receive(limit_s)
            if said is None:
                self.close()
                raise RunError(
                    Problem(
                        "chat",
                        f"The model did not answer within {limit_s:.0f} s, or its process ended.",
                        f"Ask again; what it printed is in {self._log}.",
                    )
                )
            if "error" in said:
                if last == "loaded":
                    self.close()
                raise RunError(Problem(**said["error"]))
            yield said
            if last in said:
                return

    def _hush(self) -> None:
        """End a reply nobody listens to any more, so that the next question finds silence."""
        try:
            self.stop()
            for _said in self._until("done", 10.0):
                pass
        except RunError:
            self.close()

    def _require(self) -> JsonlProcess:
        if self._companion is None:
            raise RunError(Problem("chat", "The talker is gone.", "Ask again to start it anew."))
        return self._companion
