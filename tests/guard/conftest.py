"""A small app to guard, and a way to knock at it exactly as written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse

from modelforge.security.middleware import Guard

Result = TypeVar("Result")


@dataclass
class Answer:
    """What came back over plain ASGI."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)


def knock(
    app: Callable[..., Awaitable[None]],
    path: str = "/",
    *,
    method: str = "GET",
    headers: dict[str, str] | Iterable[tuple[str, str]] = (),
    body: Iterable[bytes] = (b"",),
    client: str = "127.0.0.1",
) -> Answer:
    """Send one request, with Host 127.0.0.1:7860 unless another is given."""
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.append(("host", "127.0.0.1:7860"))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "client": (client, 5000),
        "server": ("127.0.0.1", 7860),
        "state": {},
    }
    return finish(_knock(app, scope, list(body)))


def finish(work: Coroutine[None, None, Result]) -> Result:
    """Run to the end in a loop of its own; asyncio.run would drop the one that Gradio made."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _knock(app, scope, pieces) -> Answer:
    answer = Answer()
    queue = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces) - 1}
        for n, piece in enumerate(pieces)
    ]

    async def receive():
        if queue:
            return queue.pop(0)
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            assert answer.status is None, "The response was started twice."
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            answer.pieces.append(message.get("body", b""))
            answer.body += message.get("body", b"")

    await asyncio.wait_for(app(scope, receive, send), 20)
    return answer


@pytest.fixture
def plain():
    """A FastAPI app with a page, data, an action, an upload, a stream and a socket."""
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
        async for piece in request.stream():
            app.state.bytes += len(piece)
        return {"bytes": app.state.bytes}

    @app.websocket("/socket")
    async def socket(websocket: WebSocket):
        app.state.done.append(b"socket")
        await websocket.accept()
        await websocket.close()


@pytest.fixture
def guarded(plain):
    return Guard(plain)
