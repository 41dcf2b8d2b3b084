"""The exporter as a process: killed at any point it leaves nothing, and the next try succeeds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from modelforge.export.run import run_export
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.exports import ExportFolder, ExportRequest
from modelforge.runs.jobs import JobState, queue_again
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.store import LOCK
from tests.export.runs import put_tuned
from tests.services.test_runs import until
from tests.train.conftest import tiny_model  # noqa: F401

pytestmark = pytest.mark.torch
LIMIT_S = 120.0


def has_step(name: str, share: float = 0.0) -> Callable[[ExportFolder], bool]:
    return lambda folder: any(step.step == name and step.share >= share for step in folder.steps())


def has(*path: str) -> Callable[[ExportFolder], bool]:
    return lambda folder: folder.path.joinpath(*path).exists()


# Where the exporter is killed, in the order in which it gets there.
POINTS = {
    "started": lambda folder: folder.process() is not None,
    "output": lambda folder: folder.log.exists(),
    "folder": has("staged"),
    "step": has("events.jsonl"),
    "merging": has_step("merge"),
    "weights": has("staged", "model.safetensors"),
    "config": has("staged", "config.json"),
    "reference": has_step("reference"),
    "answered": has("work", "answers", "logits-00.npy"),
    "self-test": has_step("self-test"),
}


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"))
    yield made
    for view in made.exports.list():
        made.exports.stop(view.id)
    made.close()


def over(forge, export_id):
    def holds():
        forge.tend()
        view = forge.exports.view(export_id)
        return view if view.state.is_over else None

    return until(holds, "the export is over", LIMIT_S)


def test_killed_at_ten_points_it_leaves_nothing(forge, tiny_model):  # noqa: F811
    run = put_tuned(forge.home.root, tiny_model)
    request = ExportRequest(run.id, "merged")
    lease = MachineLease(forge.home.lease, forge.home.runs / LOCK)
    killed = []
    for name, is_reached in POINTS.items():
        export = forge.exports.start(request).id
        folder = forge.exports.folder(export)
        until(lambda: is_reached(folder), f"{name} is reached", LIMIT_S)  # noqa: B023
        os.kill(folder.process().pid, signal.SIGKILL)
        view = over(forge, export)
        assert view.state is JobState.LOST, name
        assert (view.path, view.files) == (None, ()), name
        forge.tend()
        left = {path.name for path in folder.path.iterdir()}
        assert left <= {"export.json", "process.json", "events.jsonl", "export.log"}, name
        assert lease.holder() is None, name
        killed.append(export)
    view = over(forge, forge.exports.start(request).id)
    assert view.state is JobState.FINISHED, forge.exports.log(view.id)
    assert "Fatal Python error" not in forge.exports.log(view.id)
    states = {each.id: each.state for each in forge.exports.list()}
    assert [states[export] for export in killed] == [JobState.LOST] * len(POINTS)


def test_an_upload_that_ends_with_its_server_begins_anew(tmp_path):
    folder = ExportFolder(tmp_path)
    folder.files.mkdir()
    (folder.files / "model.gguf").write_bytes(b"tested")
    queue_again(folder)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_ends_with_its_server_has_no_result(tmp_path):
    ending = threading.Lock()
    folder = ExportFolder(tmp_path)
    with ending:
        thread = threading.Thread(target=run_export, args=[folder, ending], daemon=True)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert folder.result() is None
    thread.join()
    assert folder.result().problem.what.startswith("The file is missing")


def test_without_its_server_it_ends_and_is_queued_again(forge, tiny_model):  # noqa: F811
    run = put_tuned(forge.home.root, tiny_model)
    export = forge.exports.start(ExportRequest(run.id, "merged")).id
    folder = forge.exports.folder(export)
    until(folder.staged.exists, "the exporter works", LIMIT_S)
    who = folder.process()
    forge.close()
    assert not who.alive
    assert folder.state() is JobState.QUEUED
    assert {path.name for path in folder.path.iterdir()} <= {"export.json", "export.log"}
