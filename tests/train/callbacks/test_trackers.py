"""Trackers beside a real, tiny training: each writes into the run's folder, and none can end it."""

from __future__ import annotations

import os
import sqlite3
import sys
from importlib.util import find_spec

import pytest

from modelforge.config.schema.runtime import TRACKERS

pytestmark = pytest.mark.torch


def failures(events):
    found = [event.data for event in events if event.kind == "note"]
    return [note["text"] for note in found if note["code"] == "tracker-failed"]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Whatever a tracker is told by the environment is forgotten afterwards."""
    for name in ("MLFLOW_TRACKING_URI", "AIM_REPO", "WANDB_API_KEY", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    content = EventAccumulator(str(folder))
    content.Reload()
    return [point.step for point in content.Scalars("train/loss")]


def of_trackio(folder):
    steps = set()
    for path in folder.rglob("*.db"):
        with sqlite3.connect(path) as base:
            for (content,) in base.execute("select metrics from metrics"):
                text = (
                    content.decode(errors="replace") if isinstance(content, bytes) else str(content)
                )
                steps |= {
                    step
                    for step in (1, 2, 3)
                    if f'"train/global_step":{step}' in text.replace(" ", "")
                }
    return sorted(steps)


def of_mlflow(folder):
    with sqlite3.connect(folder / "mlflow.db") as base:
        return sorted(
            step for (step,) in base.execute("select step from metrics where key = 'loss'")
        )


def of_aim(folder):
    chunks = [path.stat().st_size for path in folder.glob(".aim/seqs/chunks/*/*.sst")]
    return [1, 2, 3] if sum(chunks) > 500 else []


def of_wandb(folder):
    [kept] = folder.glob("wandb/offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    # Its own format; the names of what was measured stand in it as they are.
    return [1, 2, 3] if content.count(b"train/loss") >= 3 else []


READ = {"tensorboard": of_tensorboard, "trackio": of_trackio, "mlflow": of_mlflow,
        "aim": of_aim, "wandb": of_wandb}  # fmt: skip


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_keeps_the_curves_in_the_folder_of_the_run(bench, name, monkeypatch, tmp_path):
    if not find_spec(name):  # not imported here: some read their folder as they are imported
        pytest.skip(f"{name} is installed on demand")
    monkeypatch.chdir(tmp_path)
    run = bench.prepare(max_steps=3, logging={"report_to": [name], "project": "ships"})
    events = bench.work(run)
    assert failures(events) == []
    assert events[-1].kind == "finished"
    assert READ[name](run.trackers / name) == [1, 2, 3]
    # Neither where the worker stands nor in the home of the user.
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "rows.jsonl", "tiny0"}


class Odd:
    """A tracker that fails at one event, whatever it is."""

    def __init__(self, event):
        self.event, self.heard = event, []

    def __getattr__(self, name):
        def hear(*_reported, **_more):
            self.heard.append(name)
            if name == self.event:
                raise ConnectionError("the other side has gone\nand more")

        return hear


@pytest.mark.parametrize("event", ["on_train_begin", "on_log", "on_train_end"])
def test_a_tracker_that_fails_never_ends_a_run(bench, monkeypatch, event):
    from modelforge.train.callbacks import trackers

    odd = Odd(event)
    monkeypatch.setitem(trackers._FACTORIES, "aim", lambda _config, _folder: odd)
    events = bench.work(bench.prepare(max_steps=3, logging={"report_to": "aim"}))
    assert events[-1].kind == "finished"
    [content] = failures(events)
    assert content == (
        "The tracker aim failed and is skipped: ConnectionError: the other side has gone. "
        "Training continues."
    )
    assert odd.heard.count(event) == 1


def test_a_missing_tracker_is_noted_and_skipped(bench, monkeypatch):
    from modelforge.train.callbacks import trackers

    def absent(_config, _folder):
        raise ModuleNotFoundError("No module named 'aim'")

    monkeypatch.setitem(trackers._FACTORIES, "aim", absent)
    events = bench.work(bench.prepare(max_steps=2, logging={"report_to": "aim"}))
    assert events[-1].kind == "finished"
    assert "No module named 'aim'" in failures(events)[0]


def test_wandb_is_offline_unless_configured_online(monkeypatch, tmp_path):
    from modelforge.config.schema.config import TrainingConfig
    from modelforge.train.callbacks import trackers

    least = {
        "task": "text-generation",
        "model_name": "m",
        "dataset": "d",
        "compute_specs": "low_end",
    }
    monkeypatch.setattr(trackers, "Wandb", lambda: Odd("nothing"))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    trackers._wandb(TrainingConfig.from_record(least), tmp_path)
    assert (os.environ["WANDB_MODE"], os.environ["WANDB_DIR"]) == ("offline", str(tmp_path))
    online = TrainingConfig(**least, logging={"wandb_mode": "online"})
    trackers._wandb(online, tmp_path)
    assert os.environ["WANDB_MODE"] == "online"


def test_without_trackers_no_folder_is_made(bench):
    run = bench.prepare(max_steps=1)
    bench.work(run)
    assert not run.trackers.exists()
    assert os.environ.get("WANDB_MODE") == "disabled"


def aim_as_it_is(monkeypatch):
    """Let Aim's callback be one that keeps what it is given, as its own does."""
    import types

    from transformers import TrainerCallback

    class AimCallback(TrainerCallback):
        def __init__(self, repo=None, experiment=None, **_kwargs):
            self.given = (repo, experiment)
            self.experiment = types.SimpleNamespace(name="made up")

        def on_train_begin(self, args, *_rest, **_kwargs):
            self.args = args

    module = types.SimpleNamespace(AimCallback=AimCallback)
    monkeypatch.setitem(sys.modules, "aim.hugging_face", module)


@pytest.mark.parametrize(
    ("settings", "repo", "experiment"),
    [
        ({}, "trackers/aim", "ships"),
        ({"experiment": "boats"}, "trackers/aim", "boats"),
        ({"repo": "aim://there:53800"}, "aim://there:53800", "ships"),
        ({"repo": "~/kept"}, "kept", "ships"),
    ],
)
def test_aim_gets_the_repository_the_experiment_and_the_name_of_the_run(
    bench, monkeypatch, settings, repo, experiment
):
    from modelforge.train.callbacks import trackers

    aim_as_it_is(monkeypatch)
    made = []
    factory = trackers._FACTORIES["aim"]
    monkeypatch.setitem(
        trackers._FACTORIES, "aim", lambda *given: made.append(factory(*given)) or made[-1]
    )
    run = bench.prepare(max_steps=1, logging={"report_to": "aim", "project": "ships", **settings})
    assert failures(bench.work(run)) == []
    [callback] = made
    given, name = callback.given
    assert given.endswith(repo)
    assert "~" not in given
    assert name == experiment
    assert callback.experiment.name == "a try"
    assert (run.trackers / "aim").exists() == ("repo" not in settings)


def test_a_repository_that_is_set_has_precedence_over_the_environment(monkeypatch, tmp_path):
    from modelforge.config.schema.config import TrainingConfig
    from modelforge.train.callbacks import trackers

    aim_as_it_is(monkeypatch)
    monkeypatch.setenv("AIM_REPO", "aim://elsewhere:1")
    least = {"task": "text-generation", "model_name": "m", "dataset": "d",
             "compute_specs": "low_end"}  # fmt: skip
    config = TrainingConfig.from_record(least)
    assert trackers._aim(config, tmp_path).given[0] == "aim://elsewhere:1"
    config = config.with_changes({"logging.repo": "/srv/aim"})
    assert trackers._aim(config, tmp_path).given[0] == "/srv/aim"


def test_mlflow_lists_the_run_under_its_experiment(monkeypatch, tmp_path):
    from modelforge.config.schema.config import TrainingConfig
    from modelforge.train.callbacks import trackers

    monkeypatch.setattr(trackers.integrations, "MLflowCallback", lambda: Odd("nothing"))
    monkeypatch.setattr(os, "environ", {"MLFLOW_EXPERIMENT_NAME": "of the computer"})
    least = {"task": "text-generation", "model_name": "m", "dataset": "d",
             "compute_specs": "low_end"}  # fmt: skip
    config = TrainingConfig.from_record(least)
    trackers._mlflow(config, tmp_path)
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "of the computer"
    trackers._mlflow(config.with_changes({"logging.experiment": "boats"}), tmp_path)
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "boats"
