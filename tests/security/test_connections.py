"""How many connections the server accepts, and how it reports errors of its loop."""

from __future__ import annotations

import asyncio
import logging

import pytest

from modelforge.security import connections

resource = pytest.importorskip("resource", reason="limits of POSIX")
INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "fit"),
    [
        (1024, 20_000, 8192, 1000),
        (1024, INFINITE, 8192, 1000),
        (1024, 1500, 1500, 750),
        (128, 128, None, 64),
        (10, 10, None, 8),
        (INFINITE, INFINITE, None, 1000),
        (20_000, 20_000, None, 1000),
    ],
)
def test_half_of_the_open_files_are_for_connections(monkeypatch, soft, hard, raised, fit):
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limit: limits.append(limit))
    assert connections.raise_open_files() == fit
    assert limits == ([] if raised is None else [(raised, hard)])


def test_a_limit_that_cannot_be_raised_stays(monkeypatch):
    def refuse(_which, _limit):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 20_000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert connections.raise_open_files() == 128


def test_each_error_of_the_loop_is_reported_once_and_a_hundred_at_most(caplog):
    loop = asyncio.new_event_loop()
    connections.report_loop_errors_once(loop)
    with caplog.at_level(logging.ERROR, logger="uvicorn.error"):
        for number in (1, 1, 2, *range(2, 200)):
            loop.call_exception_handler({"message": "accept", "exception": OSError(number)})
    loop.close()
    assert len(caplog.records) == 100
    assert len({record.getMessage() for record in caplog.records}) == 100
    assert "accept: OSError(1) (reported once)" in caplog.text
