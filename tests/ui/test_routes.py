"""Routes of the pages."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient

from ui import routes


def test_the_log_of_the_chat_is_plain_text_of_limited_size(forge):
    app = FastAPI()
    app.include_router(routes.router(forge))
    client = TestClient(app)
    assert client.get("/ui/chat/log").text == ""
    forge.home.logs.mkdir(parents=True, exist_ok=True)
    (forge.home.logs / "chat.log").write_text("x" * routes.MAX_LOG_BYTES + "<b>end</b>")
    reply = client.get("/ui/chat/log")
    assert reply.headers["content-type"].startswith("text/plain")
    assert len(reply.text) == routes.MAX_LOG_BYTES
    assert reply.text.endswith("<b>end</b>")
