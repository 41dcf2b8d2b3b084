"""The API server of a served model, a door of its own: forged, odd, slow and greedy requests."""

# ruff: noqa: F811
from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from itertools import product

import httpx
import pytest

from modelforge.security import body_limit
from modelforge.serving import app as api
from modelforge.serving.server import ApiProtocol
from tests.attacks.test_bodies import BODIES, TYPES
from tests.attacks.test_forged_requests import HOSTS, ORIGINS
from tests.attacks.test_slow_clients import is_closed
from tests.security.conftest import http_scope, send_scope
from tests.serving.conftest import forge, home, opened, serve, wait_for  # noqa: F401
from tests.serving.test_app import HELLO, KEY, Model

ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/captain"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/"),
    ("GET", "/nowhere"),
]
KEYS = [
    "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY[:-1]}", f"Bearer {KEY} x",
    f"Bearer x, Bearer {KEY}", f"Token {KEY}", "Bearer \xff\xfe", "Bearer " + "x" * 10_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def door(loop):
    """Return a function that sends a request with the key, and the model behind the door."""
    model = Model()
    app = api.create_app(model, key=KEY)

    def send(method, path, *, body=b"{}", headers=()):
        pairs = list(headers.items() if isinstance(headers, dict) else headers)
        if not any(name == "authorization" for name, _ in pairs):
            pairs.append(("authorization", f"Bearer {KEY}"))
        scope = http_scope(path, method=method, headers=pairs)
        return loop.run_until_complete(send_scope(app, scope, [body]))

    send.model = model
    return send


def test_no_forged_host_or_origin_reaches_a_route(door):
    hosts = [host.encode().decode("latin-1") for host in HOSTS]
    forged = [{"host": host} for host in hosts] + [{"x-forwarded-host": "evil.example"}, *ORIGINS]
    for (method, path), headers in product(ROUTES, forged):
        response = door(method, path, headers=headers, body=json.dumps(HELLO).encode())
        assert response.status == 403, (method, path, headers)
        assert not any(name.startswith("access-control") for name in response.headers)
    assert door.model.asked == []


def test_no_odd_key_opens_a_route(door):
    for (method, path), key in product(ROUTES, KEYS):
        response = door(
            method, path, headers={"authorization": key}, body=json.dumps(HELLO).encode()
        )
        assert response.status == 401, (method, path, key)
    two = [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")]
    assert door("GET", "/v1/models", headers=two).status == 401
    assert door.model.asked == []


def test_a_preflight_of_a_browser_grants_nothing(door):
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    response = door("OPTIONS", "/v1/chat/completions", headers=headers)
    assert response.status == 403
    assert not any(name.startswith("access-control") for name in response.headers)


def test_no_body_is_an_unexpected_error(door):
    values = [None, 0, -1, 1e308, "", "x", [], [[]], {}, {"a": []}, True, 10**30, "\x00", ["\x00"]]
    names = [
        "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "stream",
        "stream_options", "model", "n", "tools", "response_format", "logit_bias",
    ]  # fmt: skip
    bodies = [json.dumps({**HELLO, "prompt": "x", name: value}).encode()
              for name, value in product(names, values)]  # fmt: skip
    for path, body in product(("/v1/chat/completions", "/v1/completions"), [*BODIES, *bodies]):
        response = door("POST", path, body=body)
        assert response.status in (200, 400, 404), (path, body[:60], response.body)
    for content_type in TYPES:
        headers = {"content-type": content_type}
        response = door("POST", "/v1/chat/completions", headers=headers, body=BODIES[0])
        assert response.status == 400


def test_an_announced_body_of_100_gb_is_refused(door):
    for method, path in ROUTES:
        headers = {"content-length": str(100 * 10**9)}
        assert door(method, path, headers=headers).status == 413, path


def test_odd_paths_stay_inside(door):
    odd = [
        "/v1/models/../../etc/passwd", "/v1//models", "/v1/models/%2e%2e", "/docs", "/api/runs",
        "/v1/models/" + "x" * 5000, "/v1/chat/completions/x", "/openapi.json",
    ]  # fmt: skip
    for path in odd:
        assert door("GET", path).status == 404, path


@pytest.fixture
def served(forge, model, monkeypatch):
    """A real API server with short limits; returns its port and a client with the key."""
    monkeypatch.setattr(ApiProtocol, "header_timeout_s", 1.0)
    monkeypatch.setattr(ApiProtocol, "max_connections", 20)
    monkeypatch.setattr(body_limit, "PATIENCE_S", 1.0)
    with serve(forge, model) as client:
        yield forge.serving._session.port, client
    forge.serving.stop()


def connect(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(data)
    return connection


def test_slow_and_half_open_clients_do_not_keep_others_out(served, forge):
    port, client = served
    key = forge.serving.secret()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    ).encode()
    held = [connect(port, b"GET / HTTP/1.1\r\nX: ") for _ in range(60)]
    held += [connect(port, head) for _ in range(5)]
    try:
        assert client.get("/models").status_code == 200
        assert all(is_closed(connection) for connection in (held[0], held[-1]))
        assert client.get("/models").status_code == 200
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused(served, data):
    port, client = served
    with connect(port, b"") as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        assert is_closed(connection)
    assert client.get("/models").status_code == 200


def test_a_stream_that_is_not_read_does_not_keep_others_out(served, forge, monkeypatch):
    monkeypatch.setattr(api, "SEND_TIMEOUT_S", 1.0)
    port, client = served
    # Small buffers, so that the reply does not fit into them.
    session = forge.serving._session
    session.server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
    text = "Echo: " + " ".join(["x" * 100_000] * 20)
    body = json.dumps({"messages": [{"role": "user", "content": text}], "stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {forge.serving.secret()}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        connection.connect(("127.0.0.1", port))
        connection.sendall(head + body)
        wait_for(lambda: session.active == 1, "the stream has begun")
        assert client.post("/chat/completions", json=HELLO).status_code == 200
        assert is_closed(connection)


def test_the_network_door_knows_the_names_of_this_computer_only(loop):
    app = api.create_app(Model(), key=KEY, hosts={"box.local"})
    statuses = {}
    for host in ("box.local:8001", "127.0.0.1", "evil.example", "8.8.8.8:8001"):
        headers = {"host": host, "authorization": f"Bearer {KEY}"}
        scope = http_scope("/v1/models", headers=headers)
        statuses[host] = loop.run_until_complete(send_scope(app, scope, [b""])).status
    assert list(statuses.values()) == [200, 200, 403, 403]


def test_wrong_keys_from_the_network_are_limited(loop):
    app = api.create_app(Model(), key=KEY)

    def status(key, client):
        headers = {"authorization": f"Bearer {key}"}
        scope = http_scope("/v1/models", headers=headers) | {"client": (client, 5000)}
        return loop.run_until_complete(send_scope(app, scope, [b""])).status

    assert [status("wrong", "10.0.0.9") for _ in range(12)] == [401] * 10 + [429] * 2
    assert status(KEY, "10.0.0.9") == 429
    assert status(KEY, "10.0.0.8") == 200
    assert [status("wrong", "127.0.0.1") for _ in range(12)] == [401] * 12
    assert status(KEY, "127.0.0.1") == 200


def test_a_real_client_needs_the_key(served):
    _, client = served
    assert httpx.get(f"{client.base_url}models").status_code == 401
