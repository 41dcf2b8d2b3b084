"""A small app behind the middleware, and a client that sends requests exactly as written."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse

from modelforge.security.middleware import SecurityMiddleware

Result = TypeVar("Result")
OWN_HOST = "127.0.0.1:7860"
EVIL = "https://evil.example"
Headers = dict[str, str] | Iterable[tuple[str, str]]


@dataclass
class Response:
    """The response as received over ASGI."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)


def send_request(
    app: Callable[..., Awaitable[None]],
    path: str = "/",
    *,
    method: str = "GET",
    headers: Headers = (),
    body: Iterable[bytes] = (b"",),
    client: str = "127.0.0.1",
) -> Response:
    """Send one request. The default Host is 127.0.0.1:7860."""
    scope = http_scope(path, method=method, headers=headers) | {"client": (client, 5000)}
    return run_to_end(send_scope(app, scope, list(body)))


def http_scope(
    path: str,
    *,
    method: str = "GET",
    headers: Headers = (),
    raw_path: bytes | None = None,
    query: bytes = b"",
) -> dict[str, Any]:
    """Return the ASGI scope of a request, exactly as an attacker might write it."""
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.append(("host", OWN_HOST))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": raw_path or path.encode(errors="replace"),
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 7860),
        "state": {},
    }


def run_to_end(work: Coroutine[None, None, Result]) -> Result:
    """Run a coroutine in a new loop. asyncio.run would replace the loop that Gradio created."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def basic_auth(password: str, user: str = "me") -> dict[str, str]:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {credentials}"}


async def send_scope(app, scope, chunks) -> Response:
    """Send a request with this scope and return the response."""
    response = Response()
    queue = [
        {"type": "http.request", "body": chunk, "more_body": n < len(chunks) - 1}
        for n, chunk in enumerate(chunks)
    ]

    async def receive():
        if queue:
            return queue.pop(0)
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            assert response.status is None, "The response was started twice."
            response.status = message["status"]
            response.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            response.chunks.append(message.get("body", b""))
            response.body += message.get("body", b"")

    await asyncio.wait_for(app(scope, receive, send), 20)
    return response


@pytest.fixture
def app():
    """A FastAPI app with a page, data, an action, an upload, a stream and a websocket."""
    app = FastAPI()
    app.state.done = []
    app.state.bytes = 0
    _reading(app)
    _acting(app)
    return app


def _reading(app):
    @app.get("/")
    def page():
        return HTMLResponse("<script>window.ours=1</script><p>hello</p>")

    @app.get("/api/runs")
    def runs():
        return []

    @app.get("/api/stream")
    async def stream():
        async def lines():
            for n in range(3):
                yield f"data: {n}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")


def _acting(app):
    @app.api_route("/api/act", methods=["POST", "PUT", "PATCH", "DELETE"])
    async def act(request: Request):
        app.state.done.append(await request.body())
        return {"done": True}

    @app.post("/api/json")
    def parsed(body: dict):
        return body

    @app.post("/api/datasets")
    async def upload(request: Request):
        async for chunk in request.stream():
            app.state.bytes += len(chunk)
        return {"bytes": app.state.bytes}

    @app.websocket("/socket")
    async def socket(websocket: WebSocket):
        app.state.done.append(b"socket")
        await websocket.accept()
        await websocket.close()


@pytest.fixture
def protected(app):
    return SecurityMiddleware(app)
