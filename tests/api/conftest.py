"""A real server on a free port whose workers are actors."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from modelforge.api.router import add_api
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.security.middleware import SecurityMiddleware
from tests.models.folders import write_model

ACTORS = Path(__file__).parents[1] / "actors"
PATIENCE_S = 20.0


def actor(name: str) -> list[str]:
    return [sys.executable, str(ACTORS / f"{name}.py")]


@pytest.fixture
def model(tmp_path):
    """A model folder with the config of a small Llama and one tensor."""
    return write_model(tmp_path / "model")


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"input": f"Question {n}?", "output": f"Answer {n}."}) for n in range(40)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture
def settings(model, rows):
    """Settings for the body of a request."""
    return {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(rows),
        "compute_specs": "low_end",
        "use_4bit": False,
        "max_steps": 5,
    }


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


class Server:
    """The server of all tests in this folder. It passes requests to the current app."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        config = uvicorn.Config(self, port=0, log_level="error", ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        until(lambda: self._server.started, "The server did not start.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None, "a test has put its app on"
        await self.app(scope, receive, send)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)


@pytest.fixture(scope="session")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def serving(home, server):
    """Return a function that serves an app with a named actor as worker and returns a client."""
    opened: list[Callable[[], None]] = []

    def serve(worker: str, warm_worker: str = "waits", **more: list[str]) -> httpx.Client:
        forge = Forge(home, worker=actor(worker), warm_worker=actor(warm_worker), **more)
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        add_api(app, forge)
        server.app = SecurityMiddleware(app)
        client = httpx.Client(base_url=server.address, timeout=PATIENCE_S)

        def close() -> None:
            client.close()
            forge.close()

        opened.append(close)
        serve.forge = forge
        return client

    yield serve
    for close in opened:
        close()
    for child in psutil.Process().children(recursive=True):
        child.kill()


@pytest.fixture
def client(serving):
    """A client of a server whose workers obey stop requests."""
    return serving("obeys")


def until(seen: Callable[[], object], message: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not seen():
        if time.monotonic() > deadline:
            pytest.fail(message)
        time.sleep(0.02)


def until_state(client: httpx.Client, run_id: str, *wanted: str) -> dict:
    deadline = time.monotonic() + PATIENCE_S
    while (run := client.get(f"/api/runs/{run_id}").json())["state"] not in wanted:
        if time.monotonic() > deadline:
            pytest.fail(f"The run is {run['state']}, not {wanted}.")
        time.sleep(0.02)
    return run
