"""Chats: sizes, ids that are paths, deep JSON and text that no file can hold."""

from __future__ import annotations

import json
import time

import pytest

from modelforge.units import MIB

MAX_SECONDS = 5.0
ONE = {"role": "user", "content": "x"}


def asked(**side):
    return {"sides": [{"model": "starter", "messages": [ONE], **side}]}


def deep(levels):
    value: dict = {}
    for _ in range(levels):
        value = {"a": value}
    return value


BODIES = {
    "/api/chat": [
        asked(messages=[ONE] * 100_000),
        asked(messages=[{**ONE, "content": "x" * 900_000}]),
        asked(model="m" * 900_000),
        asked(model="../../etc/passwd"),
        asked(model="\0"),
        asked(messages=[{**ONE, "tool_calls": deep(400)}]),
        {**asked(), "tools": [deep(400)]},
        {**asked(), "tools": [{"name": "x"}] * 10_000},
        {**asked(), "sampling": {"seed": 10**400}},
        {**asked(), "gpu": 10**30},
        {"sides": asked()["sides"] * 1000},
    ],
    "/api/chat/saved": [
        {"sides": [{"model": "m"}], "turns": [{"asked": "x"}] * 50_000},
        {"sides": [{"model": "m"}], "name": "x" * 900_000},
        {"sides": [{"model": "m"}], "settings": {"tools": [deep(400)] * 33}},
        {"sides": [{"model": "m"}] * 50_000},
        {"sides": [{"model": "m"}], "id": "../../x"},
    ],
    "/api/chat/corrections": [
        {"model": "m", "messages": [ONE] * 50_000, "correction": "x"},
        {"model": "m", "messages": [ONE], "correction": "x" * 900_000},
        {"model": "../../x", "messages": [ONE], "correction": "x"},
        {"model": "m", "messages": [ONE], "correction": "x", "dataset": "../../x"},
    ],
    "/api/chat/questions": [asked(model="\ud800"), asked(messages=[ONE] * 100_000)],
    "/api/chat/votes": [
        {"question": "../../x", "choice": "left"},
        {"question": "x" * 900_000, "choice": "left"},
        {"question": "x", "choice": ["left"]},
    ],
}


@pytest.mark.parametrize("path", list(BODIES))
def test_what_is_too_large_or_odd_is_refused_quickly(target, path):
    for body in BODIES[path]:
        began = time.monotonic()
        response = target.send(path, method="POST", body=[json.dumps(body).encode()])
        what = json.dumps(body)[:80], response.body[:300]
        assert response.status in (404, 413, 422), what
        assert len(response.body) < 20_000, what
        assert time.monotonic() - began < MAX_SECONDS, what
    assert not target.errors()


def test_a_saved_chat_is_no_larger_than_a_request(target):
    turns = [{"asked": "é" * 90_000}] * 11  # 2 bytes each: smaller as JSON text than as a file
    body = json.dumps({"sides": [{"model": "m"}], "turns": turns}, ensure_ascii=False).encode()
    assert target.send("/api/chat/saved", method="POST", body=[body]).status == 413
    assert sum(file.stat().st_size for file in target.forge.home.chats.glob("*")) < MIB


def test_an_id_is_never_a_path(target):
    for odd in ("..%2f..%2flease", "%2e%2e", "a%00b", "x" * 5000, "....//x"):
        for kind in ("saved", "corrections", "questions"):
            for method in ("GET", "DELETE"):
                status = target.send(f"/api/chat/{kind}/{odd}", method=method).status
                assert status in (307, 400, 404, 405, 414, 422), (method, kind, odd, status)
    assert not target.errors()


def test_deep_data_in_a_saved_chat_is_kept_or_refused(target):
    answers = [{"side": 0, "text": "\ud800", "done": deep(150)}]
    body = {"sides": [{"model": "m"}], "turns": [{"asked": "x", "answers": answers}]}
    response = target.send("/api/chat/saved", method="POST", body=[json.dumps(body).encode()])
    assert response.status in (201, 422)
    assert target.send("/api/chat/saved").status == 200
    assert not target.errors()
