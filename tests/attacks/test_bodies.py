"""Every route × content types × bodies: no unexpected error, and a bounded time for each."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from ui.html.layout import is_served

TYPES = [
    "application/json", "application/json; charset=utf-16", "text/plain", "",
    "application/x-www-form-urlencoded", "multipart/form-data",
    "multipart/form-data; boundary=" + "b" * 8000, "multipart/form-data; boundary=b",
]  # fmt: skip
_DEEP = b"[" * 100_000
BODIES = [
    b"", b"{", b"null", b"true", b"0", b'""', b"[]", b"{}", b"[[]]", b'{"":{}}', b"\xff\xfe",
    b"\x80abc", b'{"a":"\xc3("}', b"NaN", b"Infinity", b"1e999", b"1" * 5000, _DEEP,
    b'{"a":' * 50_000, json.dumps("{}").encode("utf-16"), b'{"\\ud800":"\\udfff"}',
    b'{"a":1,"a":2}', b'{"__proto__":{},"constructor":1}', b"%00=1&a[]=2", b"\x00" * 1000,
    b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: form-data\r\n", b"--b" * 2000,
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"!!python/object:os.x {}",
]  # fmt: skip
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
# Long answers of a healthy server: whole pages, and streams that follow a run.
MAX_SECONDS = 5.0
ALLOWED_ERRORS = {501}


def test_no_body_of_any_type_is_an_unexpected_error(target):
    routes = [one for one in target.routes if one[0] in UNSAFE and is_served(one[1])]
    assert len(routes) > 20
    wrong = []
    for method, path in routes:
        for content_type in TYPES:
            for body in BODIES:
                began = time.monotonic()
                response = target.send(
                    path, method=method, headers={"content-type": content_type}, body=[body]
                )
                if response.status >= 500 and response.status not in ALLOWED_ERRORS:
                    wrong.append((response.status, method, path, content_type[:40], body[:30]))
                assert time.monotonic() - began < MAX_SECONDS, (method, path, body[:30])
    assert not wrong, (len(wrong), wrong[:10], target.errors()[-4000:])


@pytest.mark.parametrize("path", ["/api/preflight", "/api/runs", "/api/queue", "/api/trial-runs"])
@pytest.mark.parametrize("kind", ["flat", "group", "source"])
def test_many_unknown_settings_are_refused_quickly(target, path, kind):
    many = {f"learning_rat{n}": n for n in range(40_000)}
    settings = {
        "flat": many,
        "group": {"trainer": many},
        "source": {"data": {"sources": [{"path": "x", **many}] * 1}},
    }[kind]
    body = json.dumps(settings).encode()[: 2**20 - 10]
    began = time.monotonic()
    response = target.send(path, method="POST", body=[body])
    assert response.status == 422
    assert len(json.loads(response.body)["problems"]) < 120
    assert time.monotonic() - began < MAX_SECONDS


def test_a_body_of_100_gigabytes_is_refused_at_every_route(target):
    for method, path in target.routes:
        headers = {"content-length": str(100 * 10**9)}
        assert target.send(path, method=method, headers=headers).status == 413


@pytest.mark.parametrize("length", ["-1", "+5", "0x10", "1e3", "5, 5", "5 5", "٣", "9" * 400])
def test_an_odd_length_is_refused(target, length):
    headers = {"content-length": length.encode().decode("latin-1")}
    for path in ("/api/runs", "/ui/uploads", "/gradio_api/component_server/"):
        assert target.send(path, method="POST", headers=headers).status in {400, 413}


NUMBERS = [-1.9e16, 1e300, -1e300, 0, -1, 2**63, 2**70, 1e-300]


@pytest.mark.parametrize("value", [*NUMBERS, "x" * 500, "9999-99-99", [], {}, True])
def test_no_start_time_is_an_unexpected_error(target, value):
    body = json.dumps({"start_after": value}).encode()
    for method, path in (("PATCH", "/api/queue/x"), ("POST", "/api/queue/x")):
        assert target.send(path, method=method, body=[body]).status < 500


TEXTS = ["", "\x00", ".", "..", "../../runs/x", "/etc/passwd", "~root", "a/b", "x" * 400, "-"]
EXPORT = {"run": "x", "format": "merged"}
EVALUATION = {"run": "x"}


@pytest.mark.parametrize("text", TEXTS)
def test_no_name_in_an_export_or_of_a_served_model_is_an_unexpected_error(target, text):
    hub = EXPORT | {"format": "hub", "repository": "a/b"}
    exports = [
        EXPORT | {"run": text}, EXPORT | {"adapters": [[text, 1]]}, hub | {"repository": text},
        hub | {"source": text}, EXPORT | {"quantization": text},
    ]  # fmt: skip
    bodies = [(f"/api/exports{end}", body) for body in exports for end in ("", "/predict")]
    bodies += [("/api/exports/x/push", {"repository": text}), ("/api/serving", {"what": text})]
    for path, body in bodies:
        response = target.send(path, method="POST", body=[json.dumps(body).encode()])
        assert response.status in {404, 422}, (path, body, response.body)


@pytest.mark.parametrize("value", [*NUMBERS, float("nan"), float("inf"), "x", [], None, True])
def test_no_number_of_an_export_or_of_a_served_model_is_an_unexpected_error(target, value):
    bodies = [("/api/exports", EXPORT | {name: value}) for name in ("weight", "density")]
    bodies += [("/api/exports", EXPORT | {"adapters": [["y", value]]})]
    bodies += [("/api/serving", {"what": "x", name: value}) for name in ("port", "idle_minutes")]
    for path, body in bodies:
        response = target.send(path, method="POST", body=[json.dumps(body).encode()])
        assert response.status in {404, 422}, (path, body, response.body)


QUERIES = ["first", "after", "row", "count", "max_seq_length", "limit", "offset", "points", "last",
           "run", "all"]  # fmt: skip


@pytest.mark.parametrize("value", ["-1", "1e9", "9" * 5000, "%00", "%ff", "null", "[]", "9" * 18])
def test_no_query_is_an_unexpected_error(target, value):
    query = "&".join(f"{name}={value}" for name in QUERIES).encode()
    for method, path in target.routes:
        if path.startswith(("/api/", "/ui/runs")) and method == "GET":
            assert target.send(path, query=query).status < 500, path


@pytest.mark.parametrize("value", ["9" * 5000, "٣", "-1", "x", ""])
def test_no_event_number_is_an_unexpected_error(target, value):
    header = {"last-event-id": value.encode().decode("latin-1")}
    assert target.send("/api/runs/x/events", headers=header).status == 404


@pytest.mark.parametrize("text", [*TEXTS, "\ud800", "/dev/zero", "/proc/self/mem", "a\nb"])
def test_no_name_in_an_evaluation_is_an_unexpected_error(target, text):
    asked = [EVALUATION | {"run": text}, EVALUATION | {"prompts": text}]
    asked += [EVALUATION | {"tasks": [text]}, EVALUATION | {"tasks": text}, {"run": "x", text: 1}]
    bodies = [(f"/api/evaluations{end}", body) for body in asked for end in ("", "/predict")]
    for path, body in bodies:
        response = target.send(path, method="POST", body=[json.dumps(body).encode()])
        assert response.status in {404, 422}, (path, body, response.body)
        assert b"root:x:0" not in response.body
    address = f"/api/evaluations/{quote(text, errors='surrogatepass', safe='')}"
    for method, end in (("GET", ""), ("GET", "/report"), ("GET", "/log"), ("POST", "/stop")):
        response = target.send(f"{address}{end}", method=method)
        assert response.status in {200, 404, 405}, (address, end, response.body)


@pytest.mark.parametrize("value", [*NUMBERS, float("nan"), float("inf"), "x", [], None, True])
def test_no_number_of_an_evaluation_is_an_unexpected_error(target, value):
    for name in ("rows", "seed", "answers", "tasks"):
        body = json.dumps(EVALUATION | {name: value}).encode()
        response = target.send("/api/evaluations", method="POST", body=[body])
        assert response.status in {404, 422}, (name, response.body)
