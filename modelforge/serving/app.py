"""The routes of the API server, its errors, and the security middleware around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from modelforge.errors import BusyError, ForgeError
from modelforge.security.body_limit import BodyLimit
from modelforge.security.middleware import SecurityMiddleware
from modelforge.security.password import ApiKey
from modelforge.security.rejection import Rejection
from modelforge.serving.replies import DONE, ReplyForm, error_event, model_entry
from modelforge.serving.requests import (
    ApiError,
    ApiRequest,
    read_body,
    read_chat,
    read_completion,
)
from modelforge.serving.session import Parts
from modelforge.units import MIB

# Requests that may wait while one is answered.
MAX_WAITING = 32
# A client that does not read its stream for this long loses it, because others wait.
SEND_TIMEOUT_S = 30.0
LIMITS = (BodyLimit("/", 4 * MIB),)
KNOWN_PATHS = "/v1/models, /v1/chat/completions and /v1/completions"
NO_STORE = {"cache-control": "no-store"}
# Parts of a request that a chat process names in its errors.
REQUEST_PARTS = {"messages", "question", "max_new_tokens", "temperature", "top_p", "seed"}
# As in modelforge.chat.protocol, which only the chat process imports.
TOO_LONG = "context"
# Status of a rejection → type and code of OpenAI's error.
KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    429: ("rate_limit_error", "too_many_attempts"),
    500: ("server_error", "internal_error"),
}

Part = dict[str, Any]
Read = Callable[[dict[str, Any]], ApiRequest]
Result = TypeVar("Result")


class ServedModel(Protocol):
    """The model behind the routes."""

    @property
    def model(self) -> str:
        """Its name in the API."""

    @property
    def since(self) -> float:
        """Unix seconds of the start."""

    def knows(self, name: str) -> bool:
        """Return whether a request with this name is for it."""

    def reply(self, request: ApiRequest) -> Parts:
        """Yield the messages of a chat process: {"phase"}, {"text"} and at last {"done"}."""


def create_app(
    model: ServedModel, *, key: str, hosts: Collection[str] = (), error_log: Path | None = None
) -> ASGIApp:
    """Return the routes of a model with the security middleware around them."""
    routes = _Routes(model)
    app = Starlette(
        routes=[
            Route("/v1/models", routes.models),
            Route("/v1/models/{name:path}", routes.model),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.completion, methods=["POST"]),
        ],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    return ApiKeyMiddleware(app, key=key, hosts=hosts, error_log=error_log)


class ApiKeyMiddleware(SecurityMiddleware):
    """The security middleware with an API key, and errors in OpenAI's form."""

    def __init__(
        self, app: ASGIApp, *, key: str, hosts: Collection[str], error_log: Path | None
    ) -> None:
        super().__init__(app, hosts=hosts, limits=LIMITS, error_log=error_log)
        self._password = ApiKey(key)

    def _response(self, rejection: Rejection, *, as_text: bool) -> Response:
        del as_text  # clients of the API read JSON only
        remedy = "Send less." if rejection.status == 413 else rejection.remedy
        kind, code = KINDS.get(rejection.status, ("invalid_request_error", None))
        message = f"{rejection.what} {remedy}"
        error = ApiError(message, status=rejection.status, kind=kind, code=code)
        headers = {**NO_STORE, "connection": "close", **rejection.headers}
        return JSONResponse(error.body, error.status, headers)


class _Routes:
    """The routes. One reply is generated at a time; other requests wait for their turn."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._turn = _Turn()

    async def models(self, _request: Request) -> Response:
        entry = model_entry(self._model.model, self._model.since)
        return JSONResponse({"object": "list", "data": [entry]}, headers=NO_STORE)

    async def model(self, request: Request) -> Response:
        self._require(request.path_params["name"])
        return JSONResponse(model_entry(self._model.model, self._model.since), headers=NO_STORE)

    async def chat(self, request: Request) -> Response:
        return await self._reply(request, read_chat)

    async def completion(self, request: Request) -> Response:
        return await self._reply(request, read_completion)

    async def _reply(self, request: Request, read: Read) -> Response:
        asked = read(read_body(await request.body()))
        self._require(asked.model)
        form = ReplyForm(asked, self._model.model)
        answer = _Answer(self._model.reply(asked), self._turn)
        try:
            if not asked.stream:
                text, done = await _while_connected(request, answer.complete)
                await answer.close()
                return JSONResponse(form.whole(text, done), headers=NO_STORE)
            # Errors before the first part of the text get a status of their own.
            await _while_connected(request, answer.start)
        except BaseException:
            await answer.close()
            raise
        return _AnswerStream(answer, form)

    def _require(self, name: str) -> None:
        if name and not self._model.knows(name):
            message = f"This server has no model {name!r:.100}. It serves {self._model.model!r}."
            raise ApiError(message, status=404, param="model", code="model_not_found")


class _Turn:
    """Lets one request at a time use the model."""

    def __init__(self) -> None:
        self._free = anyio.Semaphore(1)
        self._waiting = 0

    async def take(self) -> None:
        if self._waiting >= MAX_WAITING:
            message = f"{MAX_WAITING} requests are waiting already. Try again later."
            raise ApiError(message, status=503, kind="server_error", code="overloaded")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        self._free.release()


class _Answer:
    """One reply. `close` ends it, also in the middle, and gives the turn to the next request."""

    def __init__(self, parts: Parts, turn: _Turn) -> None:
        self._parts = parts
        self._turn = turn
        self._has_turn = False
        self._first: Part | None = None

    async def start(self) -> None:
        """Wait for the turn, the model and the first part; raises ApiError."""
        await self._turn.take()
        self._has_turn = True
        self._first = await self._next()

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the parts from the first one; raises ApiError."""
        part = self._first
        while part is not None:
            yield part
            part = await self._next()

    async def complete(self) -> tuple[str, Part]:
        """Return the whole text and the figures of the reply; raises ApiError."""
        await self.start()
        texts: list[str] = []
        done: Part = {}
        async for part in self.parts():
            texts.append(part.get("text", ""))
            done = part.get("done", done)
        return "".join(texts), done

    async def close(self) -> None:
        """End the reply. It may be called more than once."""
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._parts.close)
            if self._has_turn:
                self._has_turn = False
                self._turn.give_back()

    async def _next(self) -> Part | None:
        try:
            return await to_thread.run_sync(_next_part, self._parts)
        except ForgeError as error:
            raise _as_api_error(error) from error


class _AnswerStream(StreamingResponse):
    """A reply as server-sent events. It is closed in any case, also if it was never begun."""

    def __init__(self, answer: _Answer, form: ReplyForm) -> None:
        super().__init__(_events(answer, form), headers=NO_STORE, media_type="text/event-stream")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Any) -> None:
            with anyio.fail_after(SEND_TIMEOUT_S):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            pass  # the client does not read
        finally:
            await self._answer.close()


async def _events(answer: _Answer, form: ReplyForm) -> AsyncIterator[str]:
    done: Part = {}
    try:
        yield form.first()
        async for part in answer.parts():
            if text := part.get("text"):
                yield form.piece(text)
            done = part.get("done", done)
    except ApiError as error:
        yield error_event(error) + DONE
        return
    yield form.last(done)


def _next_part(parts: Parts) -> Part | None:
    """Return the next part of the reply, without what is reported while the model loads."""
    return next((part for part in parts if "phase" not in part and "loaded" not in part), None)


async def _while_connected(
    request: Request, work: Callable[[], Coroutine[Any, Any, Result]]
) -> Result:
    """Return the result of `work`, which is cancelled when the client leaves."""
    results: list[Result] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            results.append(await work())
        except Exception as error:  # noqa: BLE001  # raised again outside of the group
            errors.append(error)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise ClientDisconnect
    return results[0]


def _as_api_error(error: ForgeError) -> ApiError:
    message = " ".join(f"{each.sentence} {each.remedy}".strip() for each in error.problems)
    if isinstance(error, BusyError):
        return ApiError(message, status=503, kind="server_error", code="busy")
    places = {each.where for each in error.problems}
    if places == {TOO_LONG}:  # programs shorten the conversation when they read this code
        return ApiError(message, code="context_length_exceeded")
    if places <= REQUEST_PARTS:
        return ApiError(message, code="invalid_value")
    return ApiError(message, status=500, kind="server_error", code="model_failed")


def _api_error(_request: Request, error: Any) -> Response:
    headers = dict(NO_STORE)
    if error.body["error"]["code"] == "busy":
        headers["x-should-retry"] = "false"  # for OpenAI's clients; a run takes longer
    return JSONResponse(error.body, error.status, headers)


def _http_error(request: Request, error: Any) -> Response:
    path = f"{request.url.path!r:.100}"
    message = f"{path} does not exist here. See {KNOWN_PATHS}."
    if allowed := (error.headers or {}).get("Allow"):
        message = f"{request.method} is not possible at {path}. Use {allowed}."
    body = ApiError(message, status=error.status_code, code="unknown_url").body
    return JSONResponse(body, error.status_code, {**NO_STORE, **(error.headers or {})})


def _unexpected(_request: Request, error: Exception) -> Response:
    """Return the reply to an unexpected error, which the middleware writes to the log."""
    message = f"ModelForge failed with {type(error).__name__}; its log has the traceback."
    body = ApiError(message, status=500, kind="server_error", code="internal_error").body
    return JSONResponse(body, 500, NO_STORE)
