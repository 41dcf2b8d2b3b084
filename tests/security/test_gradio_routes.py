"""Every route of a real Gradio app rejects forged hosts and cross-site requests."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route, WebSocketRoute

from modelforge.security.middleware import SecurityMiddleware
from tests.security.conftest import run_to_end, send_request

METHODS_THAT_ACT = {"POST", "PUT", "PATCH", "DELETE"}
FORGED = ["evil.example", "127.0.0.1.evil.example", "0.0.0.0:7860", "192.168.7.7:7860"]


@pytest.fixture(scope="module")
def gradio_app():
    """A Gradio app, mounted as in the product."""
    gr = pytest.importorskip("gradio", reason="Gradio is not installed.")

    async def mount():
        with gr.Blocks() as blocks:
            name = gr.Textbox()
            gr.Button().click(lambda text: text, name, name)
        return gr.mount_gradio_app(FastAPI(), blocks, path="/", run_history=False, pwa=True)

    # Outside a running loop, Gradio creates one and never closes it.
    return run_to_end(mount())


@pytest.fixture(scope="module")
def routes(gradio_app):
    """Every (method, path) of the app, with path parameters filled in."""
    found = sorted(_table(gradio_app.routes))
    assert len(found) > 60, "The route table was not found."
    assert ("POST", "/gradio_api/upload") in found
    return found


def _table(routes, prefix=""):
    for route in routes:
        if isinstance(route, Mount):
            yield from _table(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            for method in route.methods:
                yield method, prefix + re.sub(r"\{[^}]*\}", "x", route.path)
        elif isinstance(route, WebSocketRoute):
            pytest.fail(f"An untested websocket: {route.path}")
        elif hasattr(route, "original_router"):
            yield from _table(route.original_router.routes, prefix)


class RecordingApp:
    """Records the paths of all requests that reach it."""

    def __init__(self):
        self.reached = []

    async def __call__(self, scope, _receive, send):
        self.reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_no_route_is_reached_with_a_forged_host(routes):
    inner = RecordingApp()
    for method, path in routes:
        for host in FORGED:
            assert (
                send_request(
                    SecurityMiddleware(inner), path, method=method, headers={"host": host}
                ).status
                == 403
            )
    assert inner.reached == []


def test_no_unsafe_method_is_reached_from_another_site(routes):
    inner = RecordingApp()
    acting = [(method, path) for method, path in routes if method in METHODS_THAT_ACT]
    assert len(acting) > 10
    for method, path in acting:
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert (
                send_request(SecurityMiddleware(inner), path, method=method, headers=headers).status
                == 403
            )
    assert inner.reached == []


def test_no_route_is_embedded_or_fetched_by_another_site(routes):
    inner = RecordingApp()
    headers = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "no-cors",
        "sec-fetch-dest": "script",
    }
    for method, path in routes:
        assert (
            send_request(SecurityMiddleware(inner), path, method=method, headers=headers).status
            == 403
        )
    assert inner.reached == []


def test_links_from_other_sites_do_not_reach_gradio_routes(routes):
    inner = RecordingApp()
    headers = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    paths = [path for method, path in routes if method == "GET" and path.startswith("/gradio_api")]
    assert len(paths) > 10
    for path in paths:
        assert send_request(SecurityMiddleware(inner), path, headers=headers).status == 403
    assert inner.reached == []


def test_the_own_page_reaches_the_app(gradio_app):
    app = SecurityMiddleware(gradio_app)
    page = send_request(app, headers={"accept": "text/html", "accept-encoding": "br, gzip"})
    assert page.status == 200
    assert b"gradio_config" in page.body
    assert page.headers["content-security-policy"].count("'sha256-") >= 3
    assert send_request(app, "/config", headers={"sec-fetch-site": "same-origin"}).status == 200


def test_an_upload_from_another_site_is_rejected(gradio_app):
    headers = {
        "origin": "https://evil.example",
        "sec-fetch-site": "cross-site",
        "content-type": "multipart/form-data; boundary=b",
    }
    form = (
        b"--b\r\nContent-Disposition: form-data; name=files; filename=a.txt\r\n"
        b"Content-Type: text/plain\r\n\r\nhello\r\n--b--\r\n"
    )
    app, where = SecurityMiddleware(gradio_app), "/gradio_api/upload"
    assert send_request(app, where, method="POST", headers=headers, body=[form]).status == 403
    kind = {"content-type": headers["content-type"]}
    assert send_request(app, where, method="POST", headers=kind, body=[form]).status == 200


def test_an_upload_above_the_limit_is_rejected_while_it_is_read(gradio_app):
    from modelforge.security.middleware import BodyLimit

    app = SecurityMiddleware(gradio_app, limits=[BodyLimit("/", 100_000)])
    head = (
        b"--b\r\nContent-Disposition: form-data; name=files; filename=a.txt\r\n"
        b"Content-Type: text/plain\r\n\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    chunks = [head, *[b"x" * 10_000] * 20]
    response = send_request(app, "/gradio_api/upload", method="POST", headers=headers, body=chunks)
    assert response.status == 413
