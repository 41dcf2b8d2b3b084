"""The JSONL protocol of the chat process: load, ask and stop requests, and their replies."""

from __future__ import annotations

import json
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.config.methods import Head
from modelforge.errors import ForgeError, Problem

Send = Callable[[dict[str, object]], None]

ROLES = ("system", "user", "assistant")
MAX_NEW_TOKENS = 8192
DEFAULT_TOP_P = 0.95
MAX_STOP_TEXTS = 8
GGUF = ".gguf"
# Where the problem of a too long request is.
TOO_LONG = "context"


@dataclass(frozen=True)
class LoadRequest:
    """Which model to load.

    `model_path` is a folder, a Hub id or a GGUF file, `adapter` a folder. `run` is the folder of
    the run that trained the adapter, whose quantization is used again.
    """

    model_path: str
    adapter: str | None = None
    device: str = "cpu"
    revision: str | None = None
    head: Head = "causal"
    run: str | None = None


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to continue, or without messages a `prompt`; `stop` ends the reply early.

    `top_p` is the share of probability that tokens are sampled from, with a temperature above 0.
    The reply ends before any of the `stop_texts`.
    """

    messages: list[dict[str, str]]
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = DEFAULT_TOP_P
    adapter: bool = True
    prompt: str = ""
    seed: int | None = None
    stop_texts: tuple[str, ...] = ()
    stop: threading.Event = field(default_factory=threading.Event)


class StopTexts:
    """Ends a streamed text before the first stop text. What may begin one is held back."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Return what certainly comes before a stop text; nothing after one was found."""
        if self.found:
            return ""
        held = self._held + text
        places = [place for each in self._texts if (place := held.find(each)) >= 0]
        self.found = bool(places)
        sure = min(places) if places else len(held) - self._undecided(held)
        self._held = held[sure:]
        return held[:sure]

    def rest(self) -> str:
        """Return what was held back, at the end of the text."""
        return "" if self.found else self._held

    def _undecided(self, text: str) -> int:
        """Return how many characters at the end may be the beginning of a stop text."""
        beginnings = (each[:count] for each in self._texts for count in range(1, len(each)))
        return max((len(each) for each in beginnings if text.endswith(each)), default=0)


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
        request = _parse(line)
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


def _parse(line: str) -> Any:
    """Return the request in a line, "stop", or the problem with it."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem("request", f"Invalid JSON: {error}.", "Send one JSON object per line.")
    match message:
        case {"stop": True}:
            return "stop"
        case {"load": dict(load)}:
            return _load_request(load)
        case {"ask": dict(ask)}:
            return _chat_request(ask)
    return Problem("request", "Unknown request.", "Send load, ask or stop.")


def _load_request(load: dict[str, Any]) -> LoadRequest | Problem:
    fields = LoadRequest.__dataclass_fields__
    values = {name: load[name] for name in fields if load.get(name) is not None}
    if not values.get("model_path") or not all(isinstance(v, str) for v in values.values()):
        return Problem("load", "model_path and the other fields must be text.", "Name a model.")
    return LoadRequest(**values)


def _chat_request(ask: dict[str, Any]) -> ChatRequest | Problem:
    prompt = ask.get("prompt", "")
    messages: Any = ask.get("messages", []) if prompt else ask.get("messages")
    is_list = isinstance(messages, list) and isinstance(prompt, str)
    if not is_list or not (messages or prompt) or not all(map(_is_message, messages)):
        return Problem(
            "messages",
            "A conversation is a list of messages with role and content.",
            f"Use the roles {', '.join(ROLES)}.",
        )
    sampling: dict[str, Any] = {
        "max_new_tokens": 256,
        "temperature": 0.0,
        "top_p": DEFAULT_TOP_P,
    }
    sampling = {name: ask.get(name, usual) for name, usual in sampling.items()}
    seed, stop_texts = ask.get("seed"), ask.get("stop_texts", [])
    if problem := _sampling_problem(**sampling) or _ending_problem(seed, stop_texts):
        return problem
    return ChatRequest(
        [{"role": each["role"], "content": each["content"]} for each in messages],
        **sampling,
        adapter=ask.get("adapter", True) is not False,
        prompt=prompt,
        seed=seed,
        stop_texts=tuple(stop_texts),
    )


def _ending_problem(seed: Any, stop_texts: Any) -> Problem | None:
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**32):
        return Problem("seed", f"{seed!r:.50} is not possible.", "Give a whole number below 2**32.")
    are_texts = isinstance(stop_texts, list) and all(isinstance(each, str) for each in stop_texts)
    if not are_texts or not all(stop_texts) or len(stop_texts) > MAX_STOP_TEXTS:
        what = "The stop texts are not a list of texts that are not empty."
        return Problem("stop_texts", what, f"Give at most {MAX_STOP_TEXTS} texts.")
    return None


def _sampling_problem(max_new_tokens: Any, temperature: Any, top_p: Any) -> Problem | None:
    limit = max_new_tokens
    if type(limit) is not int or not 1 <= limit <= MAX_NEW_TOKENS:
        return Problem(
            "max_new_tokens",
            f"{limit} is not possible.",
            f"Give a whole number from 1 to {MAX_NEW_TOKENS}.",
        )
    if not _is_number(temperature) or not 0 <= temperature <= 2:
        what = f"{temperature} is not possible."
        return Problem("temperature", what, "Give a number from 0 to 2.")
    if not _is_number(top_p) or not 0 < top_p <= 1:
        what = f"{top_p} is not possible."
        return Problem("top_p", what, "Give a number above 0 and at most 1.")
    return None


def too_long(request: ChatRequest, used: int, limit: int, what: str = "") -> Problem:
    """Return the problem of a request with more tokens than the model reads."""
    text = what or ("prompt" if request.prompt else "conversation")
    remedy = "Start a new conversation." if text == "conversation" else "Send a part of it."
    return Problem(
        TOO_LONG, f"The {text} has {used} tokens; the model reads at most {limit}.", remedy
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_message(value: object) -> bool:
    match value:
        case {"role": str(role), "content": str()}:
            return role in ROLES
    return False


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
