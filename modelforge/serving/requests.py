"""Read requests of the OpenAI API: what this server can do, and what it refuses in words.

Unknown fields are ignored, as OpenAI's clients send new ones with every version. Fields that would
change the reply but are not supported are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_TOKENS = 2048
MAX_TOKENS = 8192
MAX_STOPS = 4
MAX_STOP_LENGTH = 200
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
SEEDS = 2**32


class ApiError(Exception):
    """An error in the form of the OpenAI API."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, dict[str, Any]] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }


@dataclass(frozen=True)
class ApiRequest:
    """A request for a reply to `messages`, or to a `prompt` for the bare model."""

    model: str = ""
    messages: tuple[dict[str, str], ...] = ()
    prompt: str = ""
    max_tokens: int = DEFAULT_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False

    @property
    def is_chat(self) -> bool:
        """Whether it is a conversation."""
        return bool(self.messages)


def read_body(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; raises ApiError."""
    try:
        body = json.loads(raw)
        json.dumps(body, ensure_ascii=False).encode()  # fails for a surrogate without its pair
    except (ValueError, RecursionError) as error:
        raise ApiError("The body is not valid JSON in UTF-8. Send a JSON object.") from error
    if not isinstance(body, dict):
        raise ApiError('The body is not a JSON object. Send one, as in {"messages": […]}.')
    return body


def read_chat(body: Mapping[str, Any]) -> ApiRequest:
    """Return the request in a body for /v1/chat/completions; raises ApiError."""
    _refuse(body, {**_UNSUPPORTED, **_UNSUPPORTED_CHAT})
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "It must be a list with at least one message.")
    read = tuple(_message(each, f"messages[{place}]") for place, each in enumerate(messages))
    is_new = body.get("max_completion_tokens") is not None
    limit = "max_completion_tokens" if is_new else "max_tokens"
    return ApiRequest(messages=read, **_options(body, limit))


def read_completion(body: Mapping[str, Any]) -> ApiRequest:
    """Return the request in a body for /v1/completions; raises ApiError."""
    _refuse(body, {**_UNSUPPORTED, **_UNSUPPORTED_COMPLETION})
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str) or not prompt:
        raise _wrong("prompt", "It must be one text that is not empty; tokens are not supported.")
    return ApiRequest(prompt=prompt, **_options(body, "max_tokens"))


def _options(body: Mapping[str, Any], limit: str) -> dict[str, Any]:
    """Return the fields that both kinds of requests have; `limit` is that of the tokens."""
    stream = _get(body, "stream", False)
    if not isinstance(stream, bool):
        raise _wrong("stream", "It must be true or false.")
    options = _get(body, "stream_options", {})
    if not isinstance(options, dict):
        raise _wrong("stream_options", "It must be an object.")
    model = _get(body, "model", "")
    if not isinstance(model, str):
        raise _wrong("model", "It must be a text.")
    seed = body.get("seed")
    if seed is not None and type(seed) is not int:
        raise _wrong("seed", "It must be a whole number.")
    return {
        "model": model,
        # The context of the model limits it further; the reply then ends with `length`.
        "max_tokens": min(_whole(body, limit, DEFAULT_TOKENS), MAX_TOKENS),
        "temperature": _number(body, "temperature", 0.0, lambda v: 0 <= v <= 2, "from 0 to 2"),
        "top_p": _number(body, "top_p", 1.0, lambda v: 0 < v <= 1, "above 0 and at most 1"),
        "seed": None if seed is None else seed % SEEDS,
        "stop": _stops(body),
        "stream": stream,
        "include_usage": options.get("include_usage") is True,
    }


def _get(body: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return a field; null counts as absent."""
    value = body.get(name)
    return default if value is None else value


def _whole(body: Mapping[str, Any], name: str, default: int) -> int:
    value = _get(body, name, default)
    if type(value) is not int or value < 1:
        raise _wrong(name, "It must be a whole number from 1.")
    return value


def _number(
    body: Mapping[str, Any],
    name: str,
    default: float,
    is_valid: Callable[[float], bool],
    bounds: str,
) -> float:
    value = _get(body, name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not is_valid(value):
        raise _wrong(name, f"It must be a number {bounds}.")
    return float(value)


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = _get(body, "stop", [])
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, list)
        or len(texts) > MAX_STOPS
        or not all(isinstance(each, str) and len(each) <= MAX_STOP_LENGTH for each in texts)
    ):
        what = f"It must be a text or a list of at most {MAX_STOPS} texts"
        raise _wrong("stop", f"{what} of at most {MAX_STOP_LENGTH} characters.")
    return tuple(each for each in texts if each)


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise _wrong(where, "A message must be an object with role and content.")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        roles = ", ".join(ROLES)
        raise _wrong(f"{where}.role", f"It must be one of {roles}; tools are not supported.")
    return {"role": ROLES[role], "content": _content(message.get("content"), f"{where}.content")}


def _content(content: Any, where: str) -> str:
    """Return the text of a message, which may consist of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise _wrong(where, "It must be a text or a list of parts of the type text.")
    texts = [part.get("text") for part in content if _is_text_part(part)]
    if len(texts) < len(content) or not all(isinstance(text, str) for text in texts):
        raise _wrong(where, "Only parts of the type text are supported: no images, sound or files.")
    return "".join(texts)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def _refuse(
    body: Mapping[str, Any], unsupported: Mapping[str, tuple[tuple[Any, ...], str]]
) -> None:
    """Raise ApiError for the first field with a value that would change the reply."""
    for name, (harmless, remedy) in unsupported.items():
        value = body.get(name)
        if value is not None and value not in harmless:
            message = f"{name} with this value is not supported. {remedy}"
            raise ApiError(message, param=name, code="unsupported_value")


def _wrong(param: str, message: str) -> ApiError:
    return ApiError(f"{param} cannot be used. {message}", param=param, code="invalid_value")


_TEXT_ONLY = "The model replies with text; describe the form of the reply in a message."
# Field → values that change nothing, and what to do instead.
_UNSUPPORTED: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "Send one request for each reply."),
    "logit_bias": (({},), "Leave it out."),
    "frequency_penalty": ((0,), "Leave it out, or send 0."),
    "presence_penalty": ((0,), "Leave it out, or send 0."),
}
_UNSUPPORTED_CHAT: dict[str, tuple[tuple[Any, ...], str]] = {
    "tools": (([],), _TEXT_ONLY),
    "functions": (([],), _TEXT_ONLY),
    "response_format": (({"type": "text"},), _TEXT_ONLY),
    "modalities": ((["text"],), "The model replies with text."),
    "audio": ((), "The model replies with text."),
    "logprobs": ((False,), "Leave it out, or send false."),
    "top_logprobs": ((0,), "Leave it out."),
}
_UNSUPPORTED_COMPLETION: dict[str, tuple[tuple[Any, ...], str]] = {
    "best_of": ((1,), "Send one request for each reply."),
    "echo": ((False,), "The prompt is known; leave it out, or send false."),
    "suffix": (("",), "The model only continues a text."),
    "logprobs": ((), "Leave it out."),
}
