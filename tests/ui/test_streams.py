"""Progress of work in a thread as JSON lines."""

from __future__ import annotations

import json

from ui.streams import progress_lines


def lines(work):
    return [json.loads(line) for line in progress_lines(work, lambda error: f"No: {error}.")]


def test_the_result_comes_after_the_progress():
    def work(show):
        show("half")
        return "all"

    shown = [(line["progress"], line["done"]) for line in lines(work)]
    assert shown == [("half", None), (None, "all")]


def test_an_unexpected_error_ends_the_stream():
    def work(_show):
        raise RuntimeError("odd")

    [line] = lines(work)
    assert line["error"] == "No: odd."
