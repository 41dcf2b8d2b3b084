"""Trial runs: they use the GPU, are not listed as runs, and keep only their result."""

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

ACTORS = Path(__file__).parents[1] / "actors"


def opened(root, actor="trains"):
    exits_at_once = [sys.executable, "-c", "raise SystemExit"]
    return Forge(
        Home(root), worker=[sys.executable, str(ACTORS / f"{actor}.py")], warm_worker=exits_at_once
    )


@pytest.fixture
def forge(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    made = opened(tmp_path / "home")
    yield made
    for folder in made.trial_runs._store.list():
        made.trial_runs.stop(folder.id)
    made.close()


def over(forge, found):
    deadline = time.monotonic() + 20
    while not (view := forge.trial_runs.view(found)).state.is_over:
        assert time.monotonic() < deadline, view
        time.sleep(0.02)
    return view


def test_later_checks_of_the_same_settings_use_its_measurements(forge, settings):
    layer = Layer("body", settings)
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


def test_the_verdict_on_the_reward_is_kept_and_is_a_finding_before_the_start(forge, rlhf):
    layer = Layer("body", rlhf)
    view = over(forge, forge.trial_runs.start(layer))
    assert view.trial_run.reward_trial.verdict == "cheatable"
    assert view.trial_run.reward_trial.share == 24 / 64
    report = forge.preflight.check(layer).report
    assert report.trial_run["reward_trial"]["cheats"]["repeated"] == 1
    [finding] = [each for each in report.findings if each.code.startswith("reward-")]
    assert (finding.level, finding.code) == ("caution", "reward-cheatable")
    assert finding.what == "One word, repeated, gets 1.00; others get 0.87."
    # With another reward, or sampled otherwise, it is not known.
    for trainer in ({"reward": "json"}, {"reward": "length", "generation_temperature": 0.5}):
        other = forge.preflight.check(Layer("body", rlhf | {"trainer": trainer})).report
        assert other.trial_run is None
        assert not [each for each in other.findings if each.code.startswith("reward-")]


@pytest.mark.parametrize(
    ("changed", "is_known"),
    [
        ({"learning_rate": 0.5, "num_train_epochs": 3, "trainer": {"seed": 7}}, True),
        ({"per_device_train_batch_size": 3}, False),
        ({"lora_r": 8}, False),
        ({"gradient_checkpointing": False}, False),
    ],
)
def test_only_settings_that_affect_memory_or_speed_need_another_trial_run(
    forge, settings, changed, is_known
):
    over(forge, forge.trial_runs.start(Layer("body", settings)))
    report = forge.preflight.check(Layer("body", settings | changed)).report
    assert (report.seconds_basis == "trial_run") is is_known


def test_it_is_not_listed_as_a_run_and_uses_the_gpu_like_one(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.3")
    forge = opened(tmp_path / "home")
    found = forge.trial_runs.start(Layer("body", settings))
    assert forge.runs.views() == []
    assert forge.runs.active() is None
    assert forge.trial_runs.active() == found
    with pytest.raises(BusyError, match=r"trial run"):
        forge.runs.start(Layer("body", settings))
    with pytest.raises(BusyError):
        forge.trial_runs.start(Layer("body", settings))
    # Another server sees the same, also once the first has gone.
    other = opened(tmp_path / "home")
    forge.close()
    other.tend()
    with pytest.raises(BusyError):
        other.runs.start(Layer("body", settings))
    other.trial_runs.stop(found)
    assert over(other, found).state is RunState.STOPPED
    assert other.preflight.check(Layer("body", settings)).report.seconds_basis == "estimated"
    other.close()


@pytest.mark.skipif(os.name == "nt", reason="the lease is looked at between two starts")
def test_it_keeps_few_files_and_only_the_last_five_are_kept(forge, settings):
    first = forge.trial_runs.start(Layer("body", settings))
    over(forge, first)
    for number in range(5):
        deadline = time.monotonic() + 10
        while forge.trial_runs._lease.holder() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        over(forge, forge.trial_runs.start(Layer("body", settings | {"lora_r": 2 + number})))
    left = forge.home.root / "rehearsals"
    deadline = time.monotonic() + 10
    while (len(forge.trial_runs._store.list()) > 5 or list(left.glob("*/checkpoints"))) and (
        time.monotonic() < deadline
    ):
        forge.trial_runs.tend()
        time.sleep(0.02)
    assert len(forge.trial_runs._store.list()) == 5
    with pytest.raises(NotFoundError):
        forge.trial_runs.view(first)
    assert forge.preflight.check(Layer("body", settings)).report.seconds_basis == "trial_run"
    assert not list(left.glob("*/checkpoints"))
