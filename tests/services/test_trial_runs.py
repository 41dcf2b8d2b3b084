"""Rehearsals: they hold the machine, are no runs, are remembered, and leave nothing behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import BusyError, NotFoundError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.states import RunState
from tests.services.test_runs import data, model  # noqa: F401

ACTORS = Path(__file__).parents[1] / "actors"


def opened(root, actor="trains"):
    nobody = [sys.executable, "-c", "raise SystemExit"]
    return Forge(
        Home(root), worker=[sys.executable, str(ACTORS / f"{actor}.py")], warm_worker=nobody
    )


@pytest.fixture
def forge(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    made = opened(tmp_path / "home")
    yield made
    for one in made.trial_runs.ids():
        made.trial_runs.stop(one)
    made.close()


@pytest.fixture
def said(model, data):  # noqa: F811
    return {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
        "eval_split": 0.5,
        "eval_steps": 2,
        "per_device_eval_batch_size": 5,
    }


def over(forge, found):
    deadline = time.monotonic() + 20
    while not (view := forge.trial_runs.view(found)).state.is_over:
        assert time.monotonic() < deadline, view
        time.sleep(0.02)
    return view


def test_what_it_measured_is_told_of_the_same_settings_from_then_on(forge, said):
    layer = Layer("body", said)
    before = forge.preflight.check(layer).report
    assert (before.memory_basis, before.seconds_basis, before.trial_run) == (
        "formula", "estimated", None,
    )  # fmt: skip
    view = over(forge, forge.trial_runs.start(layer))
    assert view.state is RunState.FINISHED
    assert view.trial_run.peak_gib == 1.82
    report = forge.preflight.check(layer).report
    assert (report.memory_basis, report.seconds_basis) == ("trial_run", "trial_run")
    assert report.memory_total_gib == 1.82
    # 0.5 + 2 before; 3 updates, 1 check of 2 batches, 2 saves and the last one.
    assert report.updates == 3
    assert report.seconds == pytest.approx(2.5 + 3 * 0.002 + 2 * 0.002 + 2 * 0.3 + 0.1)
    assert report.trial_run["id"] == view.id


@pytest.mark.parametrize(
    ("changed", "is_known"),
    [
        ({"learning_rate": 0.5, "num_train_epochs": 3, "trainer": {"seed": 7}}, True),
        ({"per_device_train_batch_size": 3}, False),
        ({"lora_r": 8}, False),
        ({"gradient_checkpointing": False}, False),
    ],
)
def test_only_what_bears_on_memory_and_speed_makes_it_another_run(forge, said, changed, is_known):
    over(forge, forge.trial_runs.start(Layer("body", said)))
    report = forge.preflight.check(Layer("body", said | changed)).report
    assert (report.seconds_basis == "trial_run") is is_known


def test_it_is_no_run_and_holds_the_machine_as_one(tmp_path, said, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.3")
    forge = opened(tmp_path / "home")
    found = forge.trial_runs.start(Layer("body", said))
    assert forge.runs.views() == []
    assert forge.runs.active() is None
    assert forge.trial_runs.active() == found
    with pytest.raises(BusyError, match=r"trial run"):
        forge.runs.start(Layer("body", said))
    with pytest.raises(BusyError):
        forge.trial_runs.start(Layer("body", said))
    # Another server sees the same, also once the first has gone.
    other = opened(tmp_path / "home")
    forge.close()
    other.tend()
    with pytest.raises(BusyError):
        other.runs.start(Layer("body", said))
    other.trial_runs.stop(found)
    assert over(other, found).state is RunState.STOPPED
    assert other.preflight.check(Layer("body", said)).report.seconds_basis == "estimated"
    other.close()


@pytest.mark.skipif(os.name == "nt", reason="the lease is looked at between two starts")
def test_it_leaves_little_and_the_last_five_are_kept(forge, said):
    first = forge.trial_runs.start(Layer("body", said))
    over(forge, first)
    for number in range(5):
        deadline = time.monotonic() + 10
        while forge.trial_runs._lease.holder() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        over(forge, forge.trial_runs.start(Layer("body", said | {"lora_r": 2 + number})))
    left = forge.home.root / "rehearsals"
    deadline = time.monotonic() + 10
    while (len(forge.trial_runs.ids()) > 5 or list(left.glob("*/checkpoints"))) and (
        time.monotonic() < deadline
    ):
        forge.trial_runs.tend()
        time.sleep(0.02)
    assert len(forge.trial_runs.ids()) == 5
    with pytest.raises(NotFoundError):
        forge.trial_runs.view(first)
    assert forge.preflight.check(Layer("body", said)).report.seconds_basis == "trial_run"
    assert not list(left.glob("*/checkpoints"))
