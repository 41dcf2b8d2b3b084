"""A home with two tuned runs of one base model, and a stand-in for the chat process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.services.chats.requests import ChatAsk, Side
from tests.services.exports.conftest import put_model, put_trained

ACTORS = Path(__file__).parents[2] / "actors"
PATIENCE_S = 20.0


def played(name: str) -> list[str]:
    """Return the command of a stand-in."""
    return [sys.executable, str(ACTORS / f"{name}.py")]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return put_model(tmp_path / "tiny")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Forge]]:
    """Open servers on the one home."""
    forges: list[Forge] = []

    def open_one(**more: Any) -> Forge:
        forges.append(Forge(Home(tmp_path / "home"), chat_process=played("talks"), **more))
        return forges[-1]

    yield open_one
    for forge in forges:
        forge.close()


@pytest.fixture
def forge(server: Callable[..., Forge]) -> Forge:
    return server()


@pytest.fixture
def first(forge: Forge, model: Path) -> str:
    """The id of a tuned run."""
    return put_trained(forge.home.root, model, 1, name="captain").id


@pytest.fixture
def second(forge: Forge, model: Path) -> str:
    """The id of another tuned run of the same base model."""
    return put_trained(forge.home.root, model, 2, name="rank 16").id


def question(text: str = "What is the capital?") -> tuple[dict[str, Any], ...]:
    return ({"role": "user", "content": text},)


def both(one: str, other: str, text: str = "What is the capital?", **more: Any) -> ChatAsk:
    """Return a question to two tuned runs, or to a run and, for the same run, its base model."""
    messages = question(text)
    return ChatAsk((Side(one, one != other, messages), Side(other, True, messages)), **more)


def texts(parts: list[dict[str, Any]]) -> list[str]:
    """Return the whole text of each side."""
    return [
        "".join(part["text"] for part in parts if part.get("side") == side and is_text(part))
        for side in (0, 1)
    ]


def is_text(part: dict[str, Any]) -> bool:
    return "text" in part and "phase" not in part


def until(holds: Callable[[], Any], hope: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (seen := holds()):
        assert time.monotonic() < deadline, f"within {PATIENCE_S} s it never came true that {hope}"
        time.sleep(0.02)
    return seen
