"""The duration of a finished run, in later checks of the same settings."""

from __future__ import annotations

import json
import time

import pytest

from modelforge.config.resolve import Layer
from modelforge.services.measurements import FinishedRuns
from modelforge.units import human_duration
from tests.services.test_trial_runs import opened, over
from ui.pages.train import fit_panel


@pytest.fixture
def forge(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    made = opened(tmp_path / "home")
    yield made
    for view in made.runs.views():
        made.runs.stop(view.id)
    made.close()


def finished(forge, *layers):
    run_id = forge.runs.start(*layers)
    deadline = time.monotonic() + 20
    while not forge.runs.state(run_id).is_over:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return forge.runs.view(run_id)


def check(forge, values):
    return forge.preflight.check(Layer("body", values)).report


def test_the_next_run_with_these_settings_is_expected_to_take_as_long(forge, settings):
    layer = Layer("body", settings)
    before = forge.preflight.check(layer).report
    assert (before.seconds_basis, before.last_run) == ("estimated", None)
    run = finished(forge, layer)
    report = forge.preflight.check(layer).report
    assert (report.seconds_basis, report.last_run["id"]) == ("last_run", run.id)
    assert report.last_run["run_seconds"] == pytest.approx(run.seconds())
    assert report.last_run["run_steps"] == report.updates == run.step
    # The stand-in reports other evaluation rows than the data has.
    assert report.seconds == pytest.approx(run.seconds(), rel=0.02)
    # Its memory is not that of a trial run, which was made on the longest rows.
    assert report.memory_basis == before.memory_basis


def test_more_steps_take_longer_by_the_time_of_a_step(forge, settings):
    run = finished(forge, Layer("body", settings))
    report = check(forge, settings | {"max_steps": 2 * run.step, "learning_rate": 1e-5})
    assert report.seconds_basis == "last_run"
    assert report.seconds > run.seconds() + 0.9 * run.step * 0.002
    assert report.seconds < 3 * run.seconds()


def test_a_run_with_other_settings_says_nothing(forge, settings):
    finished(forge, Layer("body", settings))
    for changed in (
        {"per_device_train_batch_size": 3}, {"lora_r": 8}, {"max_seq_length": 64}, {"bf16": True},
    ):  # fmt: skip
        assert check(forge, settings | changed).last_run is None, changed


def test_the_last_runs_correct_the_time_of_other_settings(forge, settings, monkeypatch):
    other = settings | {"lora_r": 8}
    before = check(forge, other)
    assert (before.seconds_basis, before.step_time_factor) == ("estimated", None)
    assert before.seconds_longest == pytest.approx(3 * before.seconds)
    run = finished(forge, Layer("body", settings))
    report = check(forge, other)
    planned = json.loads(forge.runs.folder(run.id).preflight.read_text("utf-8"))["step_seconds"]
    measured = check(forge, settings).last_run["seconds_per_update"]
    assert report.seconds_basis == "earlier_runs"
    assert report.step_time_factor == pytest.approx(measured / planned)
    assert report.seconds_longest is None
    assert report.step_seconds == before.step_seconds
    slower = before.tokens_per_s / report.step_time_factor
    assert report.tokens_per_s == pytest.approx(slower, rel=1e-3)
    assert forge.preflight._finished_runs.step_time_factor("cuda") is None
    factors = forge.preflight._finished_runs
    assert factors.step_time_factor("cpu", from_nothing=True) is None, "another kind of training"
    assert "corrected by the last runs" in fit_panel.basis_text(report)
    assert "No run has measured the speed" in fit_panel.basis_text(before)


def test_the_middle_of_the_last_three_runs_counts(forge, settings, monkeypatch):
    factors = []
    for pace in ("0.05", "0.002", "0.002", "0.02"):
        monkeypatch.setenv("MODELFORGE_ACTOR_PACE", pace)
        finished(forge, Layer("body", settings))
        factors.append(check(forge, settings | {"lora_r": 8}).step_time_factor)
    assert factors[0] > factors[1] > factors[2]
    assert factors[3] == pytest.approx(factors[2], rel=0.5), "one slow run does not count"


def test_a_run_of_an_earlier_version_corrects_nothing(forge, settings):
    run = finished(forge, Layer("body", settings))
    file = forge.runs.folder(run.id).preflight
    stored = json.loads(file.read_text("utf-8"))
    del stored["step_seconds"]
    file.write_text(json.dumps(stored), "utf-8")
    assert check(forge, settings | {"lora_r": 8}).seconds_basis == "estimated"


def test_a_run_that_did_not_finish_says_nothing(forge, settings, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.2")
    run_id = forge.runs.start(Layer("body", settings))
    forge.runs.stop(run_id)
    while not forge.runs.state(run_id).is_over:
        time.sleep(0.02)
    assert check(forge, settings).last_run is None


def test_the_newer_of_a_run_and_a_trial_run_is_used(forge, settings):
    layer = Layer("body", settings)
    run = finished(forge, layer)
    over(forge, forge.trial_runs.start(layer))
    report = forge.preflight.check(layer).report
    assert report.seconds_basis == "trial_run"
    assert report.last_run["id"] == run.id
    while forge.trial_runs._lease.holder() is not None:
        time.sleep(0.01)
    again = finished(forge, layer)
    report = forge.preflight.check(layer).report
    assert (report.seconds_basis, report.last_run["id"]) == ("last_run", again.id)
    assert report.memory_basis == "trial_run"


def test_the_plan_says_how_long_it_took_last_time(forge, settings):
    run = finished(forge, Layer("body", settings))
    report = check(forge, settings)
    took = human_duration(run.seconds())
    assert f'<span>Last time</span><span class="num">{took}</span>' in fit_panel.last_run(report)
    longer = check(forge, settings | {"max_steps": 50})
    assert f"{took} for {run.step} steps" in fit_panel.last_run(longer)


def test_a_damaged_run_is_passed_over(forge, settings):
    run = finished(forge, Layer("body", settings))
    forge.runs.folder(run.id).events.write_text("", "utf-8")
    found = FinishedRuns(forge.home, forge.history.index)
    key = forge.preflight.check(Layer("body", settings)).trial_run_key
    assert found.find(key) is None
