"""The security middleware around all routes, including those of Gradio."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelforge.runs.process.log_rotation import log_error
from modelforge.security.body_limit import LIMITS, BodyLimit, LimitedBody
from modelforge.security.headers import HeaderSender, accepts_html
from modelforge.security.host_check import check_host, check_origin, local_host_names
from modelforge.security.password import Password
from modelforge.security.rejection import Rejection

__all__ = ["LIMITS", "BodyLimit", "SecurityMiddleware", "local_host_names"]


class SecurityMiddleware:
    """Pure ASGI middleware, so that streams are not buffered.

    Args:
        app: The app to protect.
        hosts: Allowed host names besides loopback, without port.
        password: If given, every request needs it (HTTP Basic, any user name).
        limits: Body limits by path prefix; the first match applies.
        scripts: Source of inline scripts that pages add after they have loaded.
        error_log: File for the tracebacks of unexpected errors.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] = (),
        password: str | None = None,
        limits: Sequence[BodyLimit] = LIMITS,
        scripts: Sequence[str] = (),
        error_log: Path | None = None,
    ) -> None:
        self._app = app
        self._hosts = frozenset(name.lower().strip("[]") for name in hosts)
        self._password = Password(password) if password is not None else None
        self._limits = limits
        self._scripts = scripts
        self._error_log = error_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request, or pass it on and add headers to the response."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        rejection = (
            check_host(headers, self._hosts)
            or check_origin(scope, headers)
            or (self._password.check(scope, headers) if self._password else None)
        )
        if scope["type"] == "http":
            await self._http(rejection, scope, headers, receive, send)
        elif rejection is None:
            await self._app(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": rejection.what})

    async def _http(
        self,
        rejection: Rejection | None,
        scope: Scope,
        headers: dict[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        response = HeaderSender(scope, send, self._scripts)
        body = LimitedBody(scope["path"], receive, self._limits)
        rejection = rejection or body.check_announced(headers)
        if rejection is not None:
            answer = self._response(rejection, as_text=accepts_html(scope, headers))
            await answer(scope, receive, response.send)
            return
        if accepts_html(scope, headers):
            # A page is read again for its inline scripts, so the app must not compress it.
            kept = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
            scope = {**scope, "headers": kept}

        async def limited_receive() -> Message:
            message = await body.receive()
            if body.rejection is not None and not response.started:
                answer = self._response(body.rejection, as_text=False)
                await answer(scope, receive, response.send)
                response.close()
            return message

        try:
            await self._app(scope, limited_receive, response.send)
        except (ClientDisconnect, asyncio.CancelledError):
            pass  # the client has gone or has its answer, or the server ends
        except Exception as error:
            if self._error_log is None:
                raise
            log_error(self._error_log, error)
            if not response.started:
                failed = _failure(error, self._error_log)
                answer = self._response(failed, as_text=accepts_html(scope, headers))
                await answer(scope, receive, response.send)

    def _response(self, rejection: Rejection, *, as_text: bool) -> Response:
        return rejection.response(as_text=as_text)


def _failure(error: Exception, log: Path) -> Rejection:
    what = f"ModelForge failed with {type(error).__name__}."
    return Rejection(500, "server", what, f"The traceback is in {log}.")


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name. Repeated headers are joined and match nothing."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1").strip()
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers
