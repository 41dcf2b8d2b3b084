"""Unsloth on the Machine page, and the lines of its installation."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from modelforge.preflight.checks.provider import ProviderStatus
from modelforge.setup import extras as adding
from modelforge.setup.errors import SetupError
from tests.preflight.contexts import LAPTOP, WORKSTATION
from ui.pages import extras


def a_forge(home: Any, active: str | None = None) -> Any:
    return SimpleNamespace(
        home=SimpleNamespace(root=home), runs=SimpleNamespace(active=lambda: active)
    )


def lines(forge: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in extras.install_lines(forge, "unsloth")]


@pytest.fixture
def can_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "unavailable_reason", lambda _home: "")


@pytest.mark.parametrize(
    ("state", "word", "button"),
    [
        ("ready", "installed", None),
        ("absent", "not installed", "Install Unsloth"),
        ("broken", "broken", "Reinstall Unsloth"),
        ("unsupported", "not supported here", None),
    ],
)
def test_the_state_has_a_button_where_it_helps(monkeypatch, state, word, button):
    monkeypatch.setattr(extras, "unsloth_status", lambda *_: ProviderStatus(state, "It is so."))
    shown = extras.unsloth_state(WORKSTATION)
    assert word in shown
    assert "It is so." in shown
    assert ('data-action="install-unsloth"' in shown) is (button is not None)
    assert button is None or button in shown


def test_without_an_nvidia_gpu_there_is_no_button():
    shown = extras.unsloth_state(LAPTOP)
    assert "needs an NVIDIA GPU" in shown
    assert "<button" not in shown


def test_progress_lines_come_before_the_end(monkeypatch, can_add, tmp_path):
    def add(extra: str, home: Any, say: Any) -> None:
        say(f"Collecting {extra}")

    monkeypatch.setattr(adding, "install_extra", add)
    assert lines(a_forge(tmp_path)) == [
        {"progress": "Collecting unsloth", "done": None, "error": None},
        {"progress": None, "done": "unsloth", "error": None},
    ]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SetupError("Set-up stopped at ModelForge: the disk is full."), "the disk is full"),
        (RuntimeError("odd"), "failed: RuntimeError."),
    ],
)
def test_a_failure_ends_with_an_error(monkeypatch, can_add, tmp_path, error, text):
    def add(*_: Any) -> None:
        raise error

    monkeypatch.setattr(adding, "install_extra", add)
    [line] = lines(a_forge(tmp_path))
    assert text in line["error"]


def test_nothing_is_installed_during_a_run(can_add, tmp_path):
    [line] = lines(a_forge(tmp_path, active="20260101-000000-0000"))
    assert "20260101-000000-0000 is in progress" in line["error"]


def test_an_app_that_launch_py_did_not_set_up_is_not_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        adding, "unavailable_reason", lambda _home: "This app was not set up by launch.py."
    )
    [line] = lines(a_forge(tmp_path))
    assert "not set up by launch.py" in line["error"]
    assert extras.COMMAND in line["error"]
