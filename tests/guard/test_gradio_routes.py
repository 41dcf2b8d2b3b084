"""Every route of a real Gradio app behind the guard: forged names and other sites get nowhere."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route, WebSocketRoute

from modelforge.security.middleware import Guard
from tests.guard.conftest import finish, knock

METHODS_THAT_ACT = {"POST", "PUT", "PATCH", "DELETE"}
FORGED = ["evil.example", "127.0.0.1.evil.example", "0.0.0.0:7860", "192.168.7.7:7860"]


@pytest.fixture(scope="module")
def mounted():
    """Gradio as the app mounts it."""
    gr = pytest.importorskip("gradio", reason="The face is not installed.")

    async def mount():
        with gr.Blocks() as blocks:
            name = gr.Textbox()
            gr.Button().click(lambda text: text, name, name)
        return gr.mount_gradio_app(FastAPI(), blocks, path="/", run_history=False, pwa=True)

    # Inside a loop, since outside Gradio makes one that nobody closes.
    return finish(mount())


@pytest.fixture(scope="module")
def routes(mounted):
    """Each (method, path) of the whole table, path parameters filled in."""
    found = sorted(_table(mounted.routes))
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
            pytest.fail(f"A socket that no test knows: {route.path}")
        elif hasattr(route, "original_router"):
            yield from _table(route.original_router.routes, prefix)


class Tripwire:
    """Stands where the app stands, and remembers who came through."""

    def __init__(self):
        self.reached = []

    async def __call__(self, scope, _receive, send):
        self.reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_no_route_is_reached_under_a_forged_name(routes):
    wire = Tripwire()
    for method, path in routes:
        for host in FORGED:
            assert knock(Guard(wire), path, method=method, headers={"host": host}).status == 403
    assert wire.reached == []


def test_no_route_acts_for_another_site(routes):
    wire = Tripwire()
    acting = [(method, path) for method, path in routes if method in METHODS_THAT_ACT]
    assert len(acting) > 10
    for method, path in acting:
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert knock(Guard(wire), path, method=method, headers=headers).status == 403
    assert wire.reached == []


def test_no_route_is_embedded_or_fetched_by_another_site(routes):
    wire = Tripwire()
    headers = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "no-cors",
        "sec-fetch-dest": "script",
    }
    for method, path in routes:
        assert knock(Guard(wire), path, method=method, headers=headers).status == 403
    assert wire.reached == []


def test_links_from_other_sites_do_not_reach_what_acts_on_reading(routes):
    wire = Tripwire()
    headers = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    inner = [path for method, path in routes if method == "GET" and path.startswith("/gradio_api")]
    assert len(inner) > 10
    for path in inner:
        assert knock(Guard(wire), path, headers=headers).status == 403
    assert wire.reached == []


def test_our_own_page_reaches_the_real_app(mounted):
    app = Guard(mounted)
    page = knock(app, headers={"accept": "text/html", "accept-encoding": "br, gzip"})
    assert page.status == 200
    assert b"gradio_config" in page.body
    assert page.headers["content-security-policy"].count("'sha256-") >= 3
    assert knock(app, "/config", headers={"sec-fetch-site": "same-origin"}).status == 200


def test_an_upload_from_another_site_writes_nothing(mounted):
    headers = {
        "origin": "https://evil.example",
        "sec-fetch-site": "cross-site",
        "content-type": "multipart/form-data; boundary=b",
    }
    form = (
        b"--b\r\nContent-Disposition: form-data; name=files; filename=a.txt\r\n"
        b"Content-Type: text/plain\r\n\r\nhello\r\n--b--\r\n"
    )
    app, where = Guard(mounted), "/gradio_api/upload"
    assert knock(app, where, method="POST", headers=headers, body=[form]).status == 403
    kind = {"content-type": headers["content-type"]}
    assert knock(app, where, method="POST", headers=kind, body=[form]).status == 200


def test_an_endless_upload_is_cut_off_and_answered(mounted):
    from modelforge.security.middleware import Limit

    app = Guard(mounted, limits=[Limit("/", 100_000)])
    head = (
        b"--b\r\nContent-Disposition: form-data; name=files; filename=a.txt\r\n"
        b"Content-Type: text/plain\r\n\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    pieces = [head, *[b"x" * 10_000] * 20]
    answer = knock(app, "/gradio_api/upload", method="POST", headers=headers, body=pieces)
    assert answer.status == 413
