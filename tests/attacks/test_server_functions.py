"""Every server function of the pages × values of every type: no unexpected error, no other call."""

from __future__ import annotations

import json

import pytest

from ui.html.gradio_page import SERVER_FUNCTIONS

_TEXTS = ["", "x", "../../etc/passwd", "<script>alert(1)</script>", "\ud800", "\0", "9" * 5000]
VALUES = [
    None, True, False, 0, -1, 2**70, -1.9e16, 1e308, *_TEXTS, [], [None], [[]], {}, {"x": {}},
    {"": None}, {"run": None, "id": [], "values": 1}, {"form": {"values": []}}, [1] * 1000,
    {f"key {n}": n for n in range(3000)},
]  # fmt: skip
KEYS = [
    "run", "id", "ids", "runs", "values", "form", "recipe", "text", "name", "source", "sources",
    "path", "row", "after", "codes", "action", "preset", "query", "model", "filters", "page",
    "sort", "tags", "note", "prompt", "rows", "pairs", "columns", "key", "value", "before",
]  # fmt: skip
# They import the training stack in a process; they read nothing from the request.
SLOW = {"check_system"}
PRIVATE = [
    "__init__", "__class__", "__dict__", "get_config", "postprocess", "preprocess", "select",
    "unrender", "as_example", "api_info", "server_fns", "", "x" * 101,
]  # fmt: skip


@pytest.fixture(scope="module")
def calls(target):
    """Return every component with its functions, as the pages announce them."""
    calls = [
        (number, name)
        for number, component in target.pages.blocks.items()
        for name in vars(component)
        if getattr(getattr(component, name), "_is_server_fn", False) and name not in SLOW
    ]
    assert len(calls) > 25
    return calls


def _call(target, component, name, value):
    body = json.dumps({"component_id": component, "fn_name": name, "data": value}).encode()
    headers = {"content-type": "application/json"}
    return target.send(SERVER_FUNCTIONS, method="POST", headers=headers, body=[body])


def test_no_value_is_an_unexpected_error(target, calls):
    wrong = []
    for component, name in calls:
        for value in VALUES:
            response = _call(target, component, name, value)
            if response.status >= 500:
                wrong.append((name, repr(value)[:40], response.body[:100]))
    assert not wrong, (len(wrong), wrong[:20], target.errors()[-3000:])


def test_no_part_of_a_request_is_an_unexpected_error(target, calls):
    wrong = []
    for component, name in calls:
        for value in (None, 5, "x", [1], {"x": 1}, "\ud800", [[{}]]):
            response = _call(target, component, name, dict.fromkeys(KEYS, value))
            if response.status >= 500:
                wrong.append((name, value, response.body[:100]))
    assert not wrong, (len(wrong), wrong[:20], target.errors()[-3000:])


@pytest.mark.parametrize("name", PRIVATE)
def test_nothing_else_of_a_component_is_called(target, calls, name):
    for component in sorted({component for component, _ in calls}):
        assert _call(target, component, name, None).status in {404, 422}


@pytest.mark.parametrize("component", [-1, 10**9, "1", None, [], {}, 1.5, True, "__class__"])
def test_no_component_is_an_unexpected_error(target, component):
    assert _call(target, component, "open", None).status in {200, 404, 422}
