"""Diagnosis, support bundle and retry of a failed run."""

from __future__ import annotations

import json
import zipfile

import pytest

from modelforge.cli.main import main
from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.paths import Home
from modelforge.runs.event_types import FailedEvent, StartedEvent
from modelforge.runs.events import EventWriter
from modelforge.runs.store import NewRun, Store


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """The id of a failed run."""
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    settings = {"task": "text-generation", "model_name": "m", "dataset": "d",
            "compute_specs": "low_end", "per_device_train_batch_size": 2}  # fmt: skip
    config = TrainingConfig.from_record(settings)
    plan = make_plan(config, PlanContext("cpu", "m")).as_dict()
    folder = Store(Home(tmp_path / "home")).create(
        NewRun("a run", config.explicit_values(), plan=plan)
    )
    with EventWriter(folder.events) as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        events.write(FailedEvent(cause="out-of-memory", what="It is full.", remedy="Shorten it."))
    return folder.id


def test_show_prints_the_cause_and_the_retry_command(failed, capsys):
    assert main(["runs", "show", failed]) == 0
    output = capsys.readouterr().out
    assert "It is full. Shorten it." in output
    assert f"modelforge runs retry {failed}" in output
    assert main(["runs", "show", failed, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["diagnosis"]["action"]["settings"]["per_device_train_batch_size"] == 1
    assert output["verdict"]["kind"] == "unclear"


def test_a_bundle_is_written_to_a_file(failed, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("modelforge.services.diagnosis.check_machine", lambda _home, **_: [])
    assert main(["runs", "bundle", failed]) == 0
    with zipfile.ZipFile(tmp_path / f"modelforge-{failed}.zip") as archive:
        assert f"{failed}/diagnosis.json" in archive.namelist()
    assert main(["runs", "bundle", failed, str(tmp_path / "no" / "x.zip")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_retry_with_invalid_settings_is_an_error(failed, capsys):
    assert main(["runs", "retry", failed]) == 2
    assert "model_name" in capsys.readouterr().err
