"""The JSONL protocol of the chat process: load, ask and stop requests, and their replies."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from modelforge.chat.requests import ChatRequest, LoadRequest, parse
from modelforge.errors import ForgeError, Problem

Send = Callable[[dict[str, object]], None]

GGUF = ".gguf"


class ChatServer:
    """Handles requests one after the other; a stop request is handled at once.

    The model, such as `ChatModel`, is made at the first load request of its kind, GGUF file or
    other: that imports torch.
    """

    def __init__(self, send: Send, *, make_model: Callable[[bool], Any]) -> None:
        self._send = send
        self._make_model = make_model
        self._model: Any = None
        self._is_gguf = False
        self._requests: queue.Queue[LoadRequest | ChatRequest | Problem | None] = queue.Queue()
        self._current: ChatRequest | None = None

    def serve(self, lines: Iterable[str]) -> None:
        """Handle all lines, and return after the last one."""
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        while (request := self._requests.get()) is not None:
            self._handle(request)

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line.strip():
                self._enqueue(line)
        self._stop()
        self._requests.put(None)

    def _enqueue(self, line: str) -> None:
        request = parse(line)
        if request == "stop":
            self._stop()
            return
        if isinstance(request, ChatRequest):
            self._current = request
        self._requests.put(request)

    def _stop(self) -> None:
        # The event belongs to one request, so a stop never ends the reply after it.
        if self._current is not None:
            self._current.stop.set()

    def _handle(self, request: LoadRequest | ChatRequest | Problem) -> None:
        try:
            for message in self._replies(request):
                self._send(message)
        except ForgeError as error:
            self._send({"error": error.problems[0].as_dict()})
        except Exception as error:  # noqa: BLE001  # outermost frame: the process must survive
            traceback.print_exc(file=sys.stderr)
            self._send({"error": _problem_of(error).as_dict()})

    def _replies(self, request: LoadRequest | ChatRequest | Problem) -> Iterator[dict[str, object]]:
        if isinstance(request, Problem):
            yield {"error": request.as_dict()}
        elif isinstance(request, LoadRequest):
            is_gguf = request.model_path.endswith(GGUF)
            if self._model is None or is_gguf != self._is_gguf:
                yield {"phase": "loading", "text": "Importing the libraries."}
                self._model, self._is_gguf = self._make_model(is_gguf), is_gguf
            yield from self._model.load(request)
        elif self._model is None:
            yield {"error": Problem("chat", "No model is loaded.", "Load one first.").as_dict()}
        else:
            yield from self._model.reply(request)


def _problem_of(error: Exception) -> Problem:
    if "out of memory" in str(error).lower():
        return Problem(
            "chat",
            "The device is out of memory.",
            "Ask for a shorter reply, or choose a smaller model.",
        )
    lines = str(error).strip().splitlines()
    cause = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    return Problem(
        "chat",
        f"The model could not answer: {cause.rstrip('.')}.",
        "Run the checks on the Machine page; the log of the chat has the details.",
    )
