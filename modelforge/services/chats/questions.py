"""Questions that were asked while the computer was in use: kept, and answered when it is free."""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from modelforge.config.schema.base import about
from modelforge.errors import BusyError, ConfigError, ForgeError, NotFoundError, Problem
from modelforge.runs.atomic_files import disk_error, find_json, write_text
from modelforge.services.chat import ChatService
from modelforge.services.chats.cpu import CpuFit
from modelforge.services.chats.requests import ChatAsk
from modelforge.services.chats.sides import error_of

log = logging.getLogger(__name__)

FORMAT = 1
MAX_KEPT = 20
_ID = re.compile(r"[0-9a-f]{12}")

QuestionState = Literal["waiting", "answering", "answered", "failed"]


@dataclass
class KeptAnswer:
    """The answer of a side so far; `done` is the last part of its stream."""

    side: int
    text: str = ""
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class KeptQuestion:
    """A question that waits, is being answered, or was answered."""

    id: str
    state: QuestionState
    since: Annotated[float, about("When it was asked, in Unix seconds.")]
    ended: Annotated[float | None, about("When it was answered; null before.")]
    holder: Annotated[
        str, about("What uses the computer: a run's id, `export` and so on; empty if it is free.")
    ]
    reason: Annotated[str, about("The same as a sentence.")]
    seconds_left: Annotated[
        float | None, about("Seconds until that run ends; null if unknown or nothing waits.")
    ]
    expected: Annotated[float | None, about("When it will be answered, in Unix seconds.")]
    cpu: Annotated[CpuFit, about("Whether it can be asked on the CPU at once.")]
    ask: ChatAsk
    answers: tuple[KeptAnswer, ...]


@dataclass
class _Kept:
    """A question in memory, which is also a file until it is taken back."""

    id: str
    ask: ChatAsk
    since: float
    state: QuestionState = "waiting"
    ended: float | None = None
    answers: list[KeptAnswer] = field(default_factory=list)

    def clear(self) -> None:
        self.answers = [KeptAnswer(side) for side in range(len(self.ask.sides))]

    def as_record(self) -> dict[str, Any]:
        """Return what is stored: a question that is being answered waits again after a restart."""
        state = "waiting" if self.state == "answering" else self.state
        return {
            "format": FORMAT,
            "id": self.id,
            "ask": self.ask.as_dict(),
            "since": self.since,
            "state": state,
            "ended": self.ended,
            "answers": [asdict(each) for each in self.answers],
        }


class QuestionService:
    """The questions of a home that wait. Thread-safe.

    `time_left` returns the seconds until a run ends, or None. `tend` starts the answers.
    """

    def __init__(
        self, folder: Path, chat: ChatService, time_left: Callable[[str], float | None]
    ) -> None:
        self._folder = folder
        self._chat = chat
        self._time_left = time_left
        self._lock = threading.RLock()
        self._kept: dict[str, _Kept] | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def keep(self, ask: ChatAsk) -> KeptQuestion:
        """Keep a question until the computer is free.

        Raises ConfigError, NotFoundError for an unknown model, and ConfigError for too many.
        """
        ask = ask.checked()
        if ask.blind:
            what = "A question for a vote cannot wait."
            raise ConfigError(Problem("blind", what, "Ask it when the computer is free."))
        for side in ask.sides:
            self._chat.find_model(side.model)
        with self._lock:
            kept = self._questions()
            if len(kept) >= MAX_KEPT:
                self._forget_oldest(kept)
            question = _Kept(secrets.token_hex(6), ask, time.time())
            question.clear()
            self._write(question)
            kept[question.id] = question
        return self._view(question)

    def list(self) -> list[KeptQuestion]:
        """Return all questions, the oldest first."""
        with self._lock:
            kept = list(self._questions().values())
        return [self._view(question) for question in kept]

    def view(self, question_id: str) -> KeptQuestion:
        """Return a question with its answers so far; raises NotFoundError."""
        return self._view(self._find(question_id))

    def take_back(self, question_id: str) -> None:
        """Delete a question; one that is being answered is stopped. Raises NotFoundError."""
        with self._lock:
            question = self._find(question_id)
            del self._questions()[question_id]
            with suppress(OSError):
                self._file(question).unlink(missing_ok=True)

    def ask_on_cpu(self, question_id: str) -> KeptQuestion:
        """Answer a waiting question on the CPU at once, in the background.

        Raises NotFoundError, ConfigError if a model is too large, BusyError while another
        question is being answered.
        """
        with self._lock:
            question = self._find(question_id)
            if question.state not in ("waiting", "failed"):
                what = f"The question is {question.state}."
                raise ConfigError(Problem("question", what, "Ask it again."))
            fit = self._chat.cpu_fit(question.ask)
            if not fit.possible:
                raise ConfigError(Problem("device", fit.why, "Wait until the GPU is free."))
            self._start(question, replace(question.ask, device="cpu"))
        return self._view(question)

    def tend(self) -> None:
        """Answer the next question if the computer is free. Call it every second."""
        with self._lock:
            waiting = [each for each in self._questions().values() if each.state == "waiting"]
            if not waiting or self._is_answering or self._closing:
                return
            try:
                self._chat.require_free()
            except ForgeError:
                return
            self._chat.reserved = True
            self._start(waiting[0], waiting[0].ask)

    def close(self) -> None:
        """Start no more answers. One in progress ends with the chat process, and waits again."""
        self._closing = True

    @property
    def _is_answering(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self, question: _Kept, ask: ChatAsk) -> None:
        if self._is_answering:
            what = "Another question is being answered."
            raise BusyError(Problem("question", what, "Wait until it is answered."), "chat")
        question.state = "answering"
        question.clear()
        self._thread = threading.Thread(target=self._answer, args=(question, ask), daemon=True)
        self._thread.start()

    def _answer(self, question: _Kept, ask: ChatAsk) -> None:
        try:
            self._receive(question, ask)
            failed = all(answer.error for answer in question.answers)
            state: QuestionState = "failed" if failed else "answered"
        except ForgeError as error:
            question.answers[0].error = error_of(error)
            state = "failed"
        finally:
            self._chat.reserved = False
        if state == "failed" and ask.device != "cpu" and self._is_interrupted():
            state = "waiting"
            question.clear()
        with self._lock:
            question.state = state
            question.ended = None if state == "waiting" else time.time()
            if self._questions().get(question.id) is question:
                with suppress(ForgeError):  # the disk is full: it is still in memory
                    self._write(question)

    def _receive(self, question: _Kept, ask: ChatAsk) -> None:
        with closing(self._chat.ask_sides(ask)) as parts:
            for part in parts:
                if self._questions().get(question.id) is not question:
                    return  # taken back, which stops the answer
                answer = question.answers[part.get("side", 0)]
                if "done" in part:
                    answer.done = part["done"]
                elif "error" in part:
                    answer.error = part["error"]
                elif "phase" not in part:
                    answer.text += part["text"]

    def _is_interrupted(self) -> bool:
        """Return whether a run has started meanwhile, or this process ends."""
        try:
            self._chat.require_free()
        except ForgeError:
            return True
        return self._closing

    def _view(self, question: _Kept) -> KeptQuestion:
        holder, reason = self._holder() if question.state == "waiting" else ("", "")
        left = self._time_left(holder) if holder else None
        try:
            cpu = self._chat.cpu_fit(question.ask)
        except ForgeError as error:  # its run was deleted
            cpu = CpuFit(False, error.problems[0].sentence)
        return KeptQuestion(
            id=question.id,
            state=question.state,
            since=question.since,
            ended=question.ended,
            holder=holder,
            reason=reason,
            seconds_left=left,
            expected=time.time() + left if left is not None else None,
            cpu=cpu,
            ask=question.ask,
            answers=tuple(replace(each) for each in question.answers),
        )

    def _holder(self) -> tuple[str, str]:
        try:
            self._chat.require_free()
        except BusyError as error:
            return error.holder, error.problems[0].sentence
        except ForgeError as error:
            return "", error.problems[0].sentence
        return "", ""

    def _find(self, question_id: str) -> _Kept:
        with self._lock:
            question = self._questions().get(question_id)
        if question is None:
            what = f"There is no question {question_id[:40]!r}."
            raise NotFoundError(Problem("question", what, "It was taken back. Ask it again."))
        return question

    def _forget_oldest(self, kept: dict[str, _Kept]) -> None:
        """Delete the oldest question that was answered; raises ConfigError if all wait."""
        over = [each for each in kept.values() if each.state in ("answered", "failed")]
        if not over:
            what = f"{MAX_KEPT} questions wait, as many as are kept."
            raise ConfigError(Problem("question", what, "Take one back first."))
        self.take_back(over[0].id)

    def _questions(self) -> dict[str, _Kept]:
        """Return the questions by their id, the oldest first; they are read once."""
        if self._kept is None:
            try:
                files = [path for path in self._folder.iterdir() if path.suffix == ".json"]
            except OSError:
                files = []
            found = [each for each in map(_read, files) if each is not None]
            self._kept = {each.id: each for each in sorted(found, key=lambda each: each.since)}
        return self._kept

    def _write(self, question: _Kept) -> None:
        path = self._file(question)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        write_text(path, json.dumps(question.as_record()) + "\n")

    def _file(self, question: _Kept) -> Path:
        return self._folder / f"{question.id}.json"


def _read(path: Path) -> _Kept | None:
    """Return the question in a file, None if it cannot be read."""
    data = find_json(path)
    if data is None or not _ID.fullmatch(path.stem):
        return None
    try:
        ask = ChatAsk.from_dict(data["ask"])
        answers = [KeptAnswer(**answer) for answer in data["answers"]]
        state: QuestionState = data["state"]
        question = _Kept(path.stem, ask, float(data["since"]), state, data["ended"], answers)
    except (KeyError, TypeError, ValueError, AttributeError, ForgeError):
        log.warning("The question in %s cannot be read.", path.name)
        return None
    if len(answers) != len(ask.sides):
        question.clear()
    return question
