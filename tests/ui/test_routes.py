"""Routes of the pages."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from ui import routes


def _get(app: FastAPI, path: str) -> httpx.Response:
    async def fetch() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(fetch())


@pytest.mark.parametrize("name", ["chat", "serving"])
def test_the_logs_of_models_are_plain_text_of_limited_size(forge, name):
    app = FastAPI()
    app.include_router(routes.router(forge))
    assert _get(app, f"/ui/{name}/log").text == ""
    forge.home.logs.mkdir(parents=True, exist_ok=True)
    (forge.home.logs / f"{name}.log").write_text("x" * routes.MAX_LOG_BYTES + "<b>end</b>")
    reply = _get(app, f"/ui/{name}/log")
    assert reply.headers["content-type"].startswith("text/plain")
    assert len(reply.text) == routes.MAX_LOG_BYTES
    assert reply.text.endswith("<b>end</b>")
