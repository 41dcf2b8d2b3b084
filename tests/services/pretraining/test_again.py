"""A run from nothing that is started again: with a fix after a failure, and for longer."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.train.pretraining.conftest import SETTINGS, prose

ACTORS = Path(__file__).parents[2] / "actors"


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    """Services whose workers run out of GPU memory."""
    worker = [sys.executable, str(ACTORS / "fails.py")]
    with_stand_in = Forge(Home(tmp_path / "home"), worker=worker)
    yield with_stand_in
    with_stand_in.close()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(500), encoding="utf-8")
    return path


def failed(forge: Forge, book: Path) -> str:
    """Start a run that fails, and return its id."""
    settings = {**SETTINGS, "dataset": str(book), "compute_specs": "low_end"}
    run_id = forge.runs.start(Layer("body", settings))
    deadline = time.monotonic() + 20
    while not forge.runs.state(run_id).is_over:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return run_id


def batch_of(forge: Forge, run_id: str) -> Any:
    planned = forge.runs.view(run_id).plan.pretraining
    assert planned is not None
    return planned.batch_tokens, planned.accumulation


def test_with_less_memory_a_step_has_as_many_tokens(forge, book):
    first = failed(forge, book)
    again = forge.diagnosis.apply_fix(first)
    config = forge.runs.view(again).config
    assert config["per_device_train_batch_size"] == SETTINGS["per_device_train_batch_size"] / 2
    assert (batch_of(forge, first), batch_of(forge, again)) == ((256, 2), (256, 4))


def test_what_a_longer_run_keeps_is_said_and_another_text_is_refused(forge, book):
    run_id = failed(forge, book)
    option = forge.resume.options(run_id).continue_
    assert "the learning rate rises to its value in a run of that length" in option.text
    assert option.text.endswith("A step keeps its 256 tokens.")
    assert option.why_not == "The run has no checkpoint to continue from."
    book.write_text(prose(501), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        forge.resume._prepare_longer(forge.runs.view(run_id), None, 4, None)
    assert str(refused.value.problems[0]) == (
        "dataset: The data has changed since the run, so its epochs cannot be continued. "
        "Start a new run instead."
    )
    with pytest.raises(ConfigError, match="no checkpoint"):
        forge.resume.continue_run(run_id)
