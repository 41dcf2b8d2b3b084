"""Unused addresses of Gradio are closed, and no path leaves the folders that are served."""

from __future__ import annotations

import pytest

from ui.html.layout import TITLES, is_served

CLOSED = [
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/file/etc/passwd"),
    ("GET", "/gradio_api/proxy=http://169.254.169.254/"),
    ("GET", "/gradio_api/proxy=x\x00"),
    ("GET", "/gradio_api/info"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/component_server"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "/config"),
    ("POST", "/login"),
    ("GET", "/logout"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/svelte/x"),
    ("GET", "/file=/etc/passwd"),
]
PREFIXES = [
    "/assets", "/static", "/ui", "/api", "/ui/assets-0/js", "/gradio_api/file=", "/svelte",
    "/custom_component", "/api/runs", "/ui/runs", "/api/datasets", "",
]  # fmt: skip
TRAVERSALS = [
    "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd",
    "/..\\..\\etc\\passwd", "//etc/passwd", "/./../../etc/passwd", "/....//....//etc/passwd",
    "/\x00/etc/passwd", "/..;/etc/passwd", "/%c0%ae%c0%ae/etc/passwd", "/" + "a" * 5000,
    "/C:\\Windows\\win.ini", "/\\\\host\\share", "/\u2025/etc/passwd", "/CON", "/x/../../../runs",
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_an_unused_address_of_gradio_is_closed(target, method, path):
    assert target.send(path, method=method).status == 404


def test_everything_else_of_gradio_is_a_page_or_a_file(target):
    inside = [path for _, path in target.routes if is_served(path)]
    ours = ("/api/", "/v1/", "/ui/", "/assets/", "/static/")
    others = {path for path in inside if not path.startswith(ours)}
    assert others == {*TITLES, "/theme.css", "/favicon.ico", "/gradio_api/component_server/"}


@pytest.mark.parametrize("path", sorted(TITLES))
def test_the_pages_are_open(target, path):
    response = target.send(path, headers={"accept": "text/html"})
    assert response.status == 200
    assert (
        "'unsafe-inline'"
        not in response.headers["content-security-policy"]
        .partition("script-src")[2]
        .partition(";")[0]
    )


@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_path_leaves_a_served_folder(target, prefix):
    for tail in TRAVERSALS:
        for method in ("GET", "HEAD"):
            response = target.send(prefix + tail, method=method)
            assert response.status < 500, (prefix, tail)
            assert b"root:" not in response.body


@pytest.mark.parametrize("tail", TRAVERSALS)
def test_no_name_in_an_address_is_an_unexpected_error(target, tail):
    name = tail[1:]
    for method, pattern in target.routes:
        if pattern.startswith(("/api/", "/ui/")) and "/x" in pattern:
            path = pattern.replace("/x", f"/{name}")
            assert target.send(path, method=method, body=[b"{}"]).status < 500, (method, path)
