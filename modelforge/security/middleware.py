"""The guard: one layer around every route, Gradio's included, that decides who may come in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelforge.security.body_limit import LIMITS, Body, Limit
from modelforge.security.headers import Dress, wants_page
from modelforge.security.host_check import own_hosts, refuse_host, refuse_site
from modelforge.security.password import Password
from modelforge.security.rejection import Refusal

__all__ = ["LIMITS", "Guard", "Limit", "own_hosts"]


class Guard:
    """Pure ASGI, so streams pass unbuffered. `hosts` are names beyond loopback, without a port.

    With a `password` every request needs it (HTTP Basic, any user name). `scripts` are inline
    scripts that a page adds after it has loaded, word for word.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] = (),
        password: str | None = None,
        limits: Sequence[Limit] = LIMITS,
        scripts: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._hosts = frozenset(name.lower().strip("[]") for name in hosts)
        self._password = Password(password) if password is not None else None
        self._limits = limits
        self._scripts = scripts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass the request on and dress the response."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal = (
            refuse_host(headers, self._hosts)
            or refuse_site(scope, headers)
            or (self._password.refuse(scope, headers) if self._password else None)
        )
        if scope["type"] == "websocket":
            await self._websocket(refusal, scope, receive, send)
            return
        await self._http(refusal, scope, headers, receive, send)

    async def _websocket(
        self, refusal: Refusal | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if refusal is None:
            await self._app(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.what})

    async def _http(
        self,
        refusal: Refusal | None,
        scope: Scope,
        headers: dict[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        dress = Dress(scope, send, self._scripts)
        body = Body(scope["path"], receive, self._limits)
        refusal = refusal or body.refuse(headers)
        if refusal is not None:
            await refusal.answer(dress.send, page=wants_page(scope, headers))
            return
        if wants_page(scope, headers):
            # A page is read once more on its way out, so it must not be compressed before.
            rest = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
            scope = {**scope, "headers": rest}

        async def listen() -> Message:
            message = await body.receive()
            if body.refusal is not None and not dress.started:
                await body.refusal.answer(dress.send, page=False)
                dress.close()
            return message

        try:
            await self._app(scope, listen, dress.send)
        except ClientDisconnect:
            if body.refusal is None:
                raise


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones are joined and so match nothing."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1").strip()
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found
