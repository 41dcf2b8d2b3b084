"""Websockets and rejections of the middleware."""

from __future__ import annotations

import pytest

from modelforge.security.middleware import SecurityMiddleware
from tests.security.conftest import EVIL, OWN_HOST, basic_auth, run_to_end, send_request


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"host": OWN_HOST, "origin": f"http://{OWN_HOST}"}, True),
        ({"host": OWN_HOST}, True),
        ({"host": "evil.example", "origin": "http://evil.example"}, False),
        ({"host": OWN_HOST, "origin": EVIL}, False),
        ({"host": OWN_HOST, "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_a_websocket_opens_for_own_pages_only(app, protected, headers, allowed):
    assert run_to_end(_socket(protected, headers)) == (
        "websocket.accept" if allowed else "websocket.close"
    )
    assert bool(app.state.done) is allowed


def test_a_websocket_needs_the_password(app):
    app = SecurityMiddleware(app, password="correct horse")
    assert run_to_end(_socket(app, {"host": OWN_HOST})) == "websocket.close"
    assert (
        run_to_end(_socket(app, {"host": OWN_HOST, **basic_auth("correct horse")}))
        == "websocket.accept"
    )


async def _socket(app, headers) -> str:
    sent = []
    scope = {
        "type": "websocket",
        "path": "/socket",
        "raw_path": b"/socket",
        "query_string": b"",
        "root_path": "",
        "scheme": "ws",
        "subprotocols": [],
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 7860),
        "state": {},
    }
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message["type"])

    await app(scope, receive, send)
    return sent[0]


def test_an_unexpected_error_is_in_the_log_and_not_in_the_answer(tmp_path):
    async def broken(_scope, _receive, _send):
        raise ZeroDivisionError("secret")

    log = tmp_path / "server.log"
    with pytest.raises(ZeroDivisionError):
        send_request(SecurityMiddleware(broken))
    response = send_request(SecurityMiddleware(broken, error_log=log), "/api/runs")
    assert response.status == 500
    assert b"ZeroDivisionError" in response.body
    assert b"secret" not in response.body
    assert "ZeroDivisionError: secret" in log.read_text("utf-8")


def test_a_page_request_is_rejected_with_one_line_of_text(protected):
    headers = {"host": "evil.example", "accept": "text/html,*/*"}
    response = send_request(protected, headers=headers)
    assert response.headers["content-type"].startswith("text/plain")
    assert b"evil.example" in response.body
