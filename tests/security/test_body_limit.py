"""Limits of request bodies."""

from __future__ import annotations

import json

import pytest

from modelforge.security.middleware import BodyLimit, SecurityMiddleware
from tests.security.conftest import send_request


def test_a_body_announced_above_the_limit_is_rejected_unread(app, protected):
    headers = {"content-length": str(2**20 + 1)}
    assert send_request(protected, "/api/act", method="POST", headers=headers).status == 413
    assert app.state.done == []


@pytest.mark.parametrize("path", ["/api/act", "/api/json"])
def test_a_body_that_exceeds_the_limit_is_rejected_while_it_is_read(app, protected, path):
    chunks = [b"x" * 2**18] * 5
    headers = {"content-type": "application/json"}
    response = send_request(protected, path, method="POST", body=chunks, headers=headers)
    assert response.status == 413
    assert "1.0 MiB" in json.loads(response.body)["error"]["what"]
    assert app.state.done == []


def test_a_body_at_the_limit_is_accepted(protected):
    headers = {"content-length": str(2**20)}
    response = send_request(
        protected, "/api/act", method="POST", headers=headers, body=[b"x" * 2**20]
    )
    assert response.status == 200


def test_uploads_have_their_own_limit(app):
    app = SecurityMiddleware(
        app, limits=[BodyLimit("/api/datasets", 3_000_000), BodyLimit("/", 10)]
    )
    chunks = [b"x" * 1_000_000]
    assert send_request(app, "/api/datasets", method="POST", body=chunks * 3).status == 200
    assert send_request(app, "/api/datasets", method="POST", body=chunks * 4).status == 413
    assert send_request(app, "/api/act", method="POST", body=[b"x" * 11]).status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "ten", "9" * 400, "\u0662"])
def test_an_invalid_content_length_is_rejected(app, protected, length):
    headers = {"content-length": length.encode().decode("latin-1")}
    assert send_request(protected, "/api/act", method="POST", headers=headers).status in {400, 413}
    assert app.state.done == []
