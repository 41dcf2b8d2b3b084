"""Check of the Host and the Origin."""

from __future__ import annotations

import json

import pytest

from modelforge.security.middleware import SecurityMiddleware, local_host_names
from tests.security.conftest import EVIL, OWN_HOST, send_request

LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:7860", "127.8.9.1:1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:1"],
)
def test_every_loopback_host_is_allowed(protected, host):
    assert send_request(protected, headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example",
        "evil.localhost", "0.0.0.0:7860", "192.168.1.5", "127.1", "2130706433", "0x7f.0.0.1",
        "localhost@evil.example", "127.0.0.1:7860, evil.example", "[::2]", "[::1", "localhost:99x",
        "localhost/..", "testserver", "localhost\t", "l\u00f6calhost",
    ],
)  # fmt: skip
def test_every_other_host_is_rejected(protected, host):
    # HTTP requires a trailing tab to be stripped.
    expected = 200 if host.strip() == "localhost" else 403
    assert send_request(protected, headers={"host": host}).status == expected


def test_two_host_headers_are_rejected(protected):
    pairs = [("host", OWN_HOST), ("host", "evil.example")]
    assert send_request(protected, headers=pairs).status == 403


def test_the_forwarded_host_is_checked_too(protected):
    assert send_request(protected, headers={"x-forwarded-host": "evil.example"}).status == 403
    assert send_request(protected, headers={"x-forwarded-host": "localhost"}).status == 200


def test_an_allowed_host_is_accepted_with_any_port(app):
    app = SecurityMiddleware(app, hosts=["Forge.lan"])
    assert send_request(app, headers={"host": "forge.lan:7860"}).status == 200
    assert send_request(app, headers={"host": "other.lan"}).status == 403


def test_local_host_names_include_loopback():
    assert "127.0.0.1" in local_host_names()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": f"http://{OWN_HOST}"},
        {**LINK, "sec-fetch-dest": "document"},
        {"sec-fetch-site": "nonsense"},
        {"sec-fetch-site": ""},
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1"},
        {"origin": f"http://x@{OWN_HOST}"},
        {"origin": "file://"},
        {"origin": "http://[::1"},
    ],
)
def test_a_cross_site_request_has_no_effect(app, protected, method, headers):
    response = send_request(protected, "/api/act", method=method, headers=headers)
    assert response.status == 403
    assert app.state.done == []
    assert set(json.loads(response.body)["error"]) == {"where", "what", "remedy"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": f"http://{OWN_HOST}"},
        {"origin": f"HTTP://{OWN_HOST}"},
        {"origin": "http://localhost", "host": "localhost:80"},
        {"origin": "https://localhost", "host": "localhost"},
    ],
)
def test_own_pages_and_clients_without_origin_are_allowed(app, protected, headers):
    assert send_request(protected, "/api/act", method="POST", headers=headers).status == 200
    assert len(app.state.done) == 1


def test_another_site_may_link_to_a_page_but_not_embed_or_fetch_it(protected):
    assert send_request(protected, headers={**LINK, "sec-fetch-dest": "document"}).status == 200
    assert send_request(protected, headers={**LINK, "sec-fetch-dest": "iframe"}).status == 403
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert send_request(protected, "/api/runs", headers=image).status == 403
    assert send_request(protected, "/api/runs", headers={"origin": EVIL}).status == 403


def test_a_cors_preflight_from_another_site_is_rejected(protected):
    headers = {"origin": EVIL, "access-control-request-method": "DELETE"}
    response = send_request(protected, "/api/act", method="OPTIONS", headers=headers)
    assert response.status == 403
    assert not [name for name in response.headers if name.startswith("access-control-")]
