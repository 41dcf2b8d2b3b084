"""The requests of the chat process: which model to load, and what to answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelforge.config.methods import Head
from modelforge.config.sampling import Sampling, read_sampling
from modelforge.data.canonical.messages import UnusableRowError, to_messages, to_tools
from modelforge.errors import Problem

ROLES = ("system", "user", "assistant", "tool")
MAX_STOP_TEXTS = 8
# Further adapters that are loaded beside the first.
MAX_OTHERS = 4
# Where the problem of a too long request is.
TOO_LONG = "context"

Message = dict[str, Any]


@dataclass(frozen=True)
class LoadRequest:
    """Which model to load.

    `model_path` is a folder, a Hub id or a GGUF file, `adapter` a folder. `run` is the folder of
    the run that trained the adapter, whose quantization is used again. `others` are the folders of
    further adapters of the same base model; one that does not fit beside the first is left out.
    A model that `continues` was trained from nothing: it knows texts and no conversations.
    """

    model_path: str
    adapter: str | None = None
    device: str = "cpu"
    revision: str | None = None
    head: Head = "causal"
    run: str | None = None
    others: tuple[str, ...] = ()
    continues: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to continue, or without messages a `prompt`; `stop` ends the reply early.

    `adapter` is the folder of a loaded adapter, or whether the first one is on. The reply ends
    before any of the `stop_texts`. `tools` are the functions that the model may call.
    """

    messages: list[Message]
    sampling: Sampling = field(default_factory=Sampling)
    adapter: bool | str = True
    prompt: str = ""
    stop_texts: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    stop: threading.Event = field(default_factory=threading.Event)


def as_beginning(request: ChatRequest) -> ChatRequest:
    """Return a request whose last message is the beginning of a text that is continued."""
    if request.prompt:
        return request
    return replace(request, prompt=str(request.messages[-1]["content"]), messages=[])


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


def parse(line: str) -> Any:
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


def too_long(request: ChatRequest, used: int, limit: int, what: str = "") -> Problem:
    """Return the problem of a request with more tokens than the model reads."""
    text = what or ("prompt" if request.prompt else "conversation")
    remedy = "Start a new conversation." if text == "conversation" else "Send a part of it."
    return Problem(
        TOO_LONG, f"The {text} has {used} tokens; the model reads at most {limit}.", remedy
    )


def _load_request(load: dict[str, Any]) -> LoadRequest | Problem:
    fields = LoadRequest.__dataclass_fields__
    values = {name: load[name] for name in fields if load.get(name) is not None}
    others, continues = values.pop("others", []), values.pop("continues", False) is True
    if not values.get("model_path") or not all(isinstance(v, str) for v in values.values()):
        return Problem("load", "model_path and the other fields must be text.", "Name a model.")
    if not _are_texts(others) or len(others) > MAX_OTHERS:
        what = "The other adapters are not a list of folders."
        return Problem("others", what, f"Give at most {MAX_OTHERS} folders.")
    return LoadRequest(**values, others=tuple(others), continues=continues)


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
    sampling = read_sampling(ask)
    if isinstance(sampling, Problem):
        return sampling
    stop_texts = ask.get("stop_texts", [])
    if not _are_texts(stop_texts) or not all(stop_texts) or len(stop_texts) > MAX_STOP_TEXTS:
        what = "The stop texts are not a list of texts that are not empty."
        return Problem("stop_texts", what, f"Give at most {MAX_STOP_TEXTS} texts.")
    try:
        tools = to_tools(ask.get("tools"))
        messages = to_messages(messages, {}) if messages else []
    except UnusableRowError as error:
        what = f"The tools or the tool calls cannot be read ({error.code})."
        return Problem("tools", what, 'Write [{"name": "…", "parameters": {…}}].')
    adapter = ask.get("adapter", True)
    return ChatRequest(
        messages,
        sampling,
        adapter if isinstance(adapter, str) else adapter is not False,
        prompt,
        tuple(stop_texts),
        tuple(tools),
    )


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


def _is_message(value: object) -> bool:
    match value:
        case {"role": str(role), "content": str()}:
            return role in ROLES
    return False
