"""Every route × forged Host and Origin headers: none is reached, and nothing is granted."""

from __future__ import annotations

import pytest

from modelforge.security.middleware import SecurityMiddleware

EVIL = "https://evil.example"
HOSTS = [
    "", " ", "evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil",
    "evil.example#127.0.0.1", "evil.example@127.0.0.1", "127.0.0.1@evil.example", "127.0.0.1/evil",
    "127.0.0.1:7860:7860", "127.0.0.1:port", "127.0.0.1:999999", "127.0.0.1,evil.example",
    "127.0.0.1 evil.example", "0.0.0.0", "0.0.0.0:7860", "192.168.7.7:7860", "10.0.0.1",
    "169.254.169.254", "[::]", "[::ffff:8.8.8.8]", "[2001:db8::1]:7860", "[::1", "::1]", "::1",
    "[::1]evil", "localhost.", "xn--lcalhost-8ya", "locаlhost", "lo\u00adcalhost", "0x08.0x8.0x8.8",
    "8.8.8.8", "2130706433", "127.1.evil", "..", "%31%32%37.0.0.1", "127.0.0.1%00.evil.example",
    "*",
]  # fmt: skip
_CROSS = {"sec-fetch-site": "cross-site"}
ORIGINS = [
    {"origin": EVIL},
    {"origin": "null"},
    {"origin": ""},
    {"origin": f"http://127.0.0.1:7860, {EVIL}"},
    {"origin": "http://127.0.0.1:7861"},
    {"origin": "http://localhost:7860"},
    {"origin": "http://127.0.0.1:7860.evil.example"},
    {"origin": "http://127.0.0.1:7860@evil.example"},
    {"origin": "http://evil.example#http://127.0.0.1:7860"},
    {"origin": "file://"},
    {"origin": "chrome-extension://abcdef"},
    {"origin": "http://[::1"},
    _CROSS,
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "SAME-ORIGIN"},
    {"sec-fetch-site": "none, cross-site"},
    {"sec-fetch-site": "x"},
    {**_CROSS, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
    {**_CROSS, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    {**_CROSS, "origin": "http://127.0.0.1:7860"},
]
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}


class _Unreachable:
    """Stands for the app; it notes what reaches it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope, _receive, send):
        self.reached.append(f"{scope['method']} {scope['path']}")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def inner():
    return _Unreachable()


def test_the_route_table_is_that_of_the_app(target):
    assert len(target.routes) > 130
    for route in (
        ("POST", "/api/runs"),
        ("PATCH", "/api/queue/x"),
        ("POST", "/api/exports"),
        ("GET", "/api/exports/x/download"),
        ("POST", "/api/evaluations"),
        ("GET", "/api/evaluations/x/report"),
        ("DELETE", "/api/evaluations/x"),
        ("POST", "/api/serving"),
        ("GET", "/api/serving/key"),
        ("POST", "/ui/uploads"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/component_server/"),
        ("GET", "/monitoring/summary"),
    ):
        assert route in target.routes


def test_no_route_is_reached_with_a_forged_host(target, inner):
    app = SecurityMiddleware(inner)
    for method, path in target.routes:
        for host in HOSTS:
            forged = host.encode("utf-8").decode("latin-1")
            for name in ("host", "x-forwarded-host"):
                headers = {name: forged}
                response = target.send(path, method=method, headers=headers, app=app)
                assert response.status == 403, (method, path, headers)
    assert inner.reached == []


def test_no_route_is_reached_by_two_hosts(target, inner):
    app = SecurityMiddleware(inner)
    twice = [("host", "127.0.0.1:7860"), ("host", "evil.example")]
    for method, path in target.routes:
        assert target.send(path, method=method, headers=twice, app=app).status == 403
    assert inner.reached == []


def test_no_route_is_reached_from_another_site(target, inner):
    app = SecurityMiddleware(inner)
    for method, path in target.routes:
        for headers in ORIGINS:
            response = target.send(path, method=method, headers=headers, app=app)
            assert response.status == 403, (method, path, headers)
    assert inner.reached == []


def test_a_link_from_another_site_opens_pages_only(target, inner):
    app = SecurityMiddleware(inner)
    link = {**_CROSS, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for method, path in target.routes:
        is_safe = method not in UNSAFE and not path.startswith("/gradio_api")
        expected = 204 if is_safe else 403
        assert target.send(path, method=method, headers=link, app=app).status == expected
    assert not [reached for reached in inner.reached if reached.partition(" ")[0] in UNSAFE]


@pytest.mark.parametrize("asked", ["GET", "POST", "PATCH", "DELETE"])
def test_no_preflight_is_granted(target, asked):
    for path in sorted({path for _, path in target.routes}):
        for origin in (EVIL, "http://127.0.0.1:7860"):
            headers = {
                "origin": origin,
                "access-control-request-method": asked,
                "access-control-request-private-network": "true",
            }
            response = target.send(path, method="OPTIONS", headers=headers)
            granted = [name for name in response.headers if name.startswith("access-control-")]
            assert not granted, path
            assert response.status != 500


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get", "X" * 200])
def test_odd_methods_are_refused(target, method):
    for path in ("/", "/api/runs", "/ui/uploads", "/gradio_api/component_server/", "/assets/x"):
        assert target.send(path, method=method).status in {400, 404, 405, 501}


def test_a_method_override_is_ignored(target):
    for name in ("x-http-method-override", "x-method-override", "x-http-method"):
        response = target.send("/api/datasets/x", headers={name: "DELETE"})
        assert response.status == 404
