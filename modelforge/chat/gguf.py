"""Chat with a GGUF file through llama.cpp's own server inside the package xllamacpp."""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelforge.chat.requests import ChatRequest, LoadRequest, as_beginning, too_long
from modelforge.data.chat_templates import fold_system
from modelforge.errors import MissingPackageError, NotFoundError, Problem, RunError

PACKAGE = "xllamacpp"
# Tokens of the context, whose memory is taken at once; llama.cpp uses less for a shorter model.
CONTEXT = 8192
WARNINGS = 2  # verbosity of llama.cpp's log: no conversations


class GgufModel:
    """One GGUF file at a time. llama.cpp renders the chat template that is inside the file."""

    def __init__(self) -> None:
        self._server: Any = None
        self._continues = False
        self._pool = ThreadPoolExecutor(1, "reply")

    def load(self, request: LoadRequest) -> Iterator[dict[str, object]]:
        """Load a file, yield each phase, and end with a `loaded` message."""
        path = Path(request.model_path)
        if not path.is_file():
            what = f"{path.name} does not exist any more."
            raise NotFoundError(Problem("model_path", what, "Export it again."))
        if find_spec(PACKAGE) is None:
            what = f"The package {PACKAGE}, which contains llama.cpp, is not installed."
            raise MissingPackageError(
                Problem("gguf", what, "Run `python launch.py setup --with gguf`.")
            )
        self._server = None
        started = time.monotonic()
        yield {"phase": "loading", "text": "Loading the model."}
        self._server = _start_server(path)
        self._continues = request.continues
        yield {
            "loaded": {
                "model_path": request.model_path,
                "adapter": None,
                "head": "causal",
                "device": "cpu",
                "context": CONTEXT,
                "seconds": round(time.monotonic() - started, 2),
            }
        }

    def reply(self, request: ChatRequest) -> Iterator[dict[str, object]]:
        """Yield the reply as it is generated, then a `done` message."""
        if self._server is None:
            raise RunError(Problem("chat", "No model is loaded.", "Load one first."))
        started = time.monotonic()
        if self._continues:
            request = as_beginning(request)
        chunks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        job = self._pool.submit(self._generate, request, chunks)
        usage: dict[str, Any] = {}
        reason = ""
        while (chunk := chunks.get()) is not None:
            if error := chunk.get("error"):
                raise RunError(_problem(error, request))
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", ()):
                reason = choice.get("finish_reason") or reason
                if text := choice.get("text") or choice.get("delta", {}).get("content"):
                    yield {"text": text}
        job.result()
        yield {
            "done": {
                "tokens": usage.get("completion_tokens", 0),
                "prompt_tokens": usage.get("prompt_tokens", 0),
                "seconds": round(time.monotonic() - started, 3),
                "reason": {"stop": "end", "length": "length"}.get(reason, "stopped"),
            }
        }

    def _generate(
        self, request: ChatRequest, chunks: queue.SimpleQueue[dict[str, Any] | None]
    ) -> None:
        """Put the chunks of the reply, and None after the last one."""
        error: dict[str, Any] | None = None
        try:
            for body in _bodies(request):
                error = self._ask(body, request, chunks)
                if error is None:
                    return
            chunks.put({"error": error})
        finally:
            chunks.put(None)

    def _ask(
        self,
        body: dict[str, Any],
        request: ChatRequest,
        chunks: queue.SimpleQueue[dict[str, Any] | None],
    ) -> dict[str, Any] | None:
        """Put the chunks of the reply to one request; return llama.cpp's error, if there is one."""
        errors: list[dict[str, Any]] = []

        def receive(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                errors.append(chunk["error"])
            else:
                chunks.put(chunk)
            return request.stop.is_set()

        server = self._server
        ask = server.handle_completions if request.prompt else server.handle_chat_completions
        try:
            ask(body, receive)
        except (RuntimeError, ValueError) as error:  # such as a template that raises
            errors.append({"message": str(error)})
        return errors[0] if errors else None


def _start_server(path: Path) -> Any:
    """Return llama.cpp's server with a loaded file; it listens on loopback with a random key."""
    import xllamacpp  # noqa: PLC0415  (an optional package)

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.port = str(path), CONTEXT, 0
    params.warmup, params.ui, params.verbosity = False, False, WARNINGS
    params.n_parallel, params.n_threads_http = 1, 1
    params.endpoint_slots = params.endpoint_metrics = False
    # Thinking is part of the text, as it was in training.
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    # A conversation that ends with an answer gets another one, as from the trained model.
    params.prefill_assistant = False
    # Its HTTP address is not used: requests are handed over inside this process.
    params.api_keys = [secrets.token_hex(32)]
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        what = f"llama.cpp cannot load {path.name}."
        remedy = "Free some memory, or export it again; the log has its messages."
        raise RunError(Problem("gguf", what, remedy)) from error


def _bodies(request: ChatRequest) -> Iterator[dict[str, Any]]:
    """Yield the request in the form of the OpenAI API; sampling is that of the chat of a run.

    A second form is for chat templates that refuse system messages.
    """
    sampling = request.sampling
    options = {
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or 0,
        "min_p": 0.0,
        "repeat_penalty": sampling.repetition_penalty or 1.0,
        "stop": list(request.stop_texts),
        "stream": True,
        "stream_options": {"include_usage": True},
        **({} if sampling.seed is None else {"seed": sampling.seed}),
    }
    if request.prompt:
        yield {"prompt": request.prompt, **options}
        return
    yield {"messages": request.messages, **options}
    if any(each["role"] == "system" for each in request.messages):
        yield {"messages": fold_system(request.messages), **options}


def _problem(error: dict[str, Any], request: ChatRequest) -> Problem:
    """Return the problem in an error of llama.cpp."""
    message = str(error.get("message", "")).strip().rstrip(".")
    if error.get("type") == "exceed_context_size_error":
        used, limit = error.get("n_prompt_tokens", 0), error.get("n_ctx", CONTEXT)
        return too_long(request, used, limit)
    what = f"llama.cpp refuses the conversation: {message}."
    return Problem("messages", what, "Alternate questions and answers, starting with a question.")
