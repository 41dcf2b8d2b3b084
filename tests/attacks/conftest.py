"""The whole app over an empty home, its route table, and requests exactly as an attacker writes."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount

from modelforge.forge import Forge
from modelforge.paths import Home
from tests.security.conftest import Response, http_scope, send_scope

ACTORS = Path(__file__).resolve().parents[1] / "actors"


def actor(name: str) -> list[str]:
    return [sys.executable, str(ACTORS / f"{name}.py")]


class Target:
    """The guarded app, with an event loop for all requests of a module."""

    def __init__(self, home: Path) -> None:
        from ui.app import create_guarded_app

        self.loop = asyncio.new_event_loop()
        self.forge = Forge(
            Home(home), worker=actor("obeys"), warm_worker=["true"], chat_process=["true"]
        )
        self.app = self.loop.run_until_complete(self._build(create_guarded_app))
        self.log = self.forge.home.logs / "server.log"

    async def _build(self, create: Any) -> Any:
        # Outside a running loop, Gradio creates one and never closes it.
        return create(self.forge)

    @property
    def pages(self) -> Any:
        """The pages, as Gradio keeps them."""
        mounts = (route.app for route in self.app._app._app.routes if isinstance(route, Mount))
        return next(app.get_blocks() for app in mounts if hasattr(app, "get_blocks"))

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Every method and path of REST, of our pages and of Gradio."""
        return sorted(set(_table(self.app._app._app.routes)))

    def send(
        self, path: str, *, body: Iterable[bytes] = (b"",), app: Any = None, **request: Any
    ) -> Response:
        """Send a request; `request` are the arguments of `http_scope`."""
        scope = http_scope(path, **request)
        return self.loop.run_until_complete(send_scope(app or self.app, scope, list(body)))

    def errors(self) -> str:
        """Return the tracebacks of unexpected errors so far."""
        return self.log.read_text("utf-8") if self.log.is_file() else ""

    def close(self) -> None:
        self.forge.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


def _table(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Mount):
            if hasattr(route, "routes") and route.routes:
                yield from _table(route.routes, prefix + route.path)
            else:
                yield "GET", f"{prefix}{route.path}/x"
        elif hasattr(route, "original_router"):
            yield from _table(route.original_router.routes, prefix + route.include_context.prefix)
        else:
            for method in route.methods or ():
                yield method, prefix + re.sub(r"\{[^}]*\}", "x", route.path)


@pytest.fixture(scope="package")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    pytest.importorskip("gradio", reason="Gradio is not installed.")
    target = Target(tmp_path_factory.mktemp("attacked") / "home")
    yield target
    target.close()
