"""Replies in the form of the OpenAI API, whole and as a stream of server-sent events."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from modelforge.serving.requests import ApiError, ApiRequest

DONE = "data: [DONE]\n\n"
# Why a reply of the chat process ended → finish_reason.
FINISH = {"end": "stop", "length": "length"}


@dataclass
class ReplyForm:
    """The form of the replies to one request: chat or completion."""

    request: ApiRequest
    model: str
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = ""

    def __post_init__(self) -> None:
        prefix = "chatcmpl" if self.request.is_chat else "cmpl"
        self.id = f"{prefix}-{secrets.token_hex(12)}"

    def whole(self, text: str, done: dict[str, Any]) -> dict[str, Any]:
        """Return a whole reply; `done` is the last message of the chat process."""
        choice: dict[str, Any] = {
            "index": 0,
            "logprobs": None,
            "finish_reason": finish_reason(done),
        }
        if self.request.is_chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
            return self._body("chat.completion", [choice], usage(done))
        return self._body("text_completion", [choice | {"text": text}], usage(done))

    def first(self) -> str:
        """Return the first event of a stream: the role, or nothing for a completion."""
        if not self.request.is_chat:
            return ""
        return self._event({"role": "assistant", "content": ""})

    def piece(self, text: str) -> str:
        """Return the event of the next part of the text."""
        return self._event({"content": text})

    def last(self, done: dict[str, Any]) -> str:
        """Return the events after the text."""
        events = self._event({}, finish_reason(done))
        if self.request.include_usage:
            events += _event(self._body(self._kind, [], usage(done)))
        return events + DONE

    def _event(self, delta: dict[str, str], reason: str | None = None) -> str:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
        if self.request.is_chat:
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        return _event(self._body(self._kind, [choice]))

    @property
    def _kind(self) -> str:
        return "chat.completion.chunk" if self.request.is_chat else "text_completion"

    def _body(
        self, kind: str, choices: list[dict[str, Any]], used: dict[str, int] | None = None
    ) -> dict[str, Any]:
        body = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
            "choices": choices,
        }
        return body if used is None else body | {"usage": used}


def error_event(error: ApiError) -> str:
    """Return the event of an error in the middle of a stream, after which it ends."""
    return _event(error.body)


def usage(done: dict[str, Any]) -> dict[str, int]:
    """Return the counts of tokens."""
    prompt, completion = int(done.get("prompt_tokens", 0)), int(done.get("tokens", 0))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def finish_reason(done: dict[str, Any]) -> str:
    """Return why a reply ended: `stop` or `length`."""
    return FINISH.get(str(done.get("reason")), "stop")


def model_entry(name: str, created: float) -> dict[str, Any]:
    """Return the entry of the model in the list of models."""
    return {"id": name, "object": "model", "created": int(created), "owned_by": "modelforge"}


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
