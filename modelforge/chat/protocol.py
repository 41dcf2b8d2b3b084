"""The order of a conversation: one line in, the lines of its reply out, and a stop in between."""

from __future__ import annotations

import json
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelforge.errors import ForgeError, Problem

Send = Callable[[dict[str, object]], None]

ROLES = ("system", "user", "assistant")
MOST_NEW_TOKENS = 8192


@dataclass(frozen=True)
class LoadRequest:
    """Which model to load. `quantization` matters on CUDA only.

    The `head` is causal for a conversation, seq2seq for one text out of another, or span for an
    answer that stands in a text.
    """

    model_path: str
    adapter: str | None = None
    device: str = "cpu"
    quantization: str = "none"
    revision: str | None = None
    head: str = "causal"


@dataclass(frozen=True)
class ChatRequest:
    """One question, with all that was said before it; `stop` ends the reply early."""

    messages: list[dict[str, str]]
    max_new_tokens: int = 256
    temperature: float = 0.0
    adapter: bool = True
    stop: threading.Event = field(default_factory=threading.Event)


class ChatModelProtocol(Protocol):
    """What the desk needs of a talker."""

    def load(self, order: LoadRequest) -> Iterator[dict[str, object]]:
        """Load a model and yield what happens."""

    def reply(self, ask: ChatRequest) -> Iterator[dict[str, object]]:
        """Yield the pieces of the answer, then how it ended."""


class ChatServer:
    """Hands each line to the talker in turn; a stop line overtakes the queue."""

    def __init__(self, say: Send, *, load: Callable[[], ChatModelProtocol]) -> None:
        self._say = say
        self._make = load
        self._speaker: ChatModelProtocol | None = None
        self._orders: queue.Queue[LoadRequest | ChatRequest | Problem | None] = queue.Queue()
        self._open: ChatRequest | None = None

    def serve(self, lines: Iterable[str]) -> None:
        """Answer every line until there are no more."""
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        while (order := self._orders.get()) is not None:
            self._carry_out(order)

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line.strip():
                self._sort(line)
        self._stop()
        self._orders.put(None)

    def _sort(self, line: str) -> None:
        order = _parse(line)
        if order == "stop":
            self._stop()
            return
        if isinstance(order, ChatRequest):
            self._open = order
        self._orders.put(order)

    def _stop(self) -> None:
        # The event belongs to the ask, so a stop can never hit the question after it.
        if self._open is not None:
            self._open.stop.set()

    def _carry_out(self, order: LoadRequest | ChatRequest | Problem) -> None:
        try:
            for message in self._messages(order):
                self._say(message)
        except ForgeError as error:
            self._say({"error": error.problems[0].as_dict()})
        except Exception as error:  # noqa: BLE001  # the process's outermost frame: it must go on
            traceback.print_exc(file=sys.stderr)
            self._say({"error": _in_words(error).as_dict()})

    def _messages(self, order: LoadRequest | ChatRequest | Problem) -> Iterator[dict[str, object]]:
        if isinstance(order, Problem):
            yield {"error": order.as_dict()}
        elif isinstance(order, LoadRequest):
            if self._speaker is None:
                yield {"phase": "loading", "text": "Loading the libraries."}
                self._speaker = self._make()
            yield from self._speaker.load(order)
        elif self._speaker is None:
            yield {"error": Problem("chat", "No model is loaded.", "Load one first.").as_dict()}
        else:
            yield from self._speaker.reply(order)


def _parse(line: str) -> Any:
    """Return the Order or Ask of a line, the word stop, or the Problem with it."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem("request", f"The line is no JSON: {error}.", "Send one JSON object a line.")
    match said:
        case {"stop": True}:
            return "stop"
        case {"load": dict(load)}:
            return _order(load)
        case {"ask": dict(ask)}:
            return _ask(ask)
    return Problem("request", "The line asks for nothing known.", "Send load, ask or stop.")


def _order(load: dict[str, Any]) -> LoadRequest | Problem:
    known = {
        name: load[name] for name in LoadRequest.__dataclass_fields__ if load.get(name) is not None
    }
    if not known.get("model_path") or not all(isinstance(value, str) for value in known.values()):
        return Problem("load", "model_path and what goes with it must be text.", "Name a model.")
    return LoadRequest(**known)


def _ask(ask: dict[str, Any]) -> ChatRequest | Problem:
    messages = ask.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        return Problem(
            "messages",
            "A conversation is a list of messages with a role and a text.",
            f"Use the roles {', '.join(ROLES)}.",
        )
    most = ask.get("max_new_tokens", 256)
    if type(most) is not int or not 1 <= most <= MOST_NEW_TOKENS:
        return Problem(
            "max_new_tokens",
            f"{most} is not possible.",
            f"Give a whole number from 1 to {MOST_NEW_TOKENS}.",
        )
    warmth = ask.get("temperature", 0.0)
    if isinstance(warmth, bool) or not isinstance(warmth, int | float) or not 0 <= warmth <= 2:
        return Problem("temperature", f"{warmth} is not possible.", "Give a number from 0 to 2.")
    plain = [{"role": each["role"], "content": each["content"]} for each in messages]
    return ChatRequest(plain, most, float(warmth), ask.get("adapter", True) is not False)


def _is_message(said: object) -> bool:
    match said:
        case {"role": str(role), "content": str()}:
            return role in ROLES
    return False


def _in_words(error: Exception) -> Problem:
    if "out of memory" in str(error).lower():
        return Problem(
            "chat",
            "The memory of the device is used up.",
            "Ask for a shorter reply, or choose a smaller model.",
        )
    return Problem(
        "chat",
        f"The talker failed with {type(error).__name__}.",
        "The log of the talker holds the details.",
    )
