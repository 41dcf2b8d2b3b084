"""Exports are queued, done one at a time, stopped, cleaned up, continued and deleted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import BusyError, ConfigError, NotFoundError
from modelforge.models.fingerprint import fingerprint
from modelforge.runs import jobs
from modelforge.runs.atomic_files import read_json
from modelforge.runs.exports import ExportRequest
from modelforge.runs.jobs import JobState
from modelforge.runs.process.identity import ProcessIdentity, kill_tree, wait_ended
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.store import GONE, LOCK
from tests.runs.homes import put_run
from tests.services.test_runs import until

ROOT = Path(__file__).parents[3]


def asked(run, **more) -> ExportRequest:
    return ExportRequest(run.id, **{"format": "merged"} | more)


def reached(forge, export_id, state):
    def holds():
        forge.tend()
        view = forge.exports.view(export_id)
        return view if view.state is state else None

    return until(holds, f"the export is {state}")


def lease_of(forge):
    return MachineLease(forge.home.lease, forge.home.runs / LOCK).holder()


def working(forge, export_id):
    """Wait until the stand-in has written a part of its files."""
    folder = forge.exports.folder(export_id)
    until((folder.staged / "model.safetensors").exists, "a file is written")
    return folder


def test_an_export_is_predicted_queued_done_and_deleted(server, run):
    forge = server()
    predicted = forge.exports.predict(asked(run))
    assert predicted.bytes > 4096
    assert predicted.disk_bytes > predicted.bytes
    started = forge.exports.start(asked(run))
    assert started.prediction.bytes == predicted.bytes
    view = reached(forge, started.id, JobState.FINISHED)
    assert (view.run, view.run_name) == (run.id, "Support desk, first try!")
    assert view.name == "Support-desk-first-try-merged"
    assert [(file.name, file.bytes) for file in view.files] == [("model.safetensors", 3000)]
    assert view.bytes == 3000
    assert view.self_test["passed"]
    assert view.problem is None
    assert [step.step for step in view.steps] == ["merge", "self-test"]
    assert (Path(view.path) / "model.safetensors").stat().st_size == 3000
    assert [each.id for each in forge.exports.list(run.id)] == [view.id]
    assert forge.exports.list("another") == []
    until(lambda: lease_of(forge) is None, "the lease is given back")
    with zipfile.ZipFile(io.BytesIO(b"".join(forge.exports.zip_chunks(view.id)))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["Support-desk-first-try-merged/model.safetensors"]
    forge.exports.delete(view.id)
    assert forge.exports.list() == []
    assert list(forge.home.exports.iterdir()) == []
    with pytest.raises(NotFoundError):
        forge.exports.view(view.id)


def test_the_same_request_starts_one_export(server, run):
    forge = server("waits")
    ids = {forge.exports.start(asked(run), "tab-1").id for _ in range(2)}
    assert len(ids) == 1
    assert forge.exports.start(asked(run), "tab-2").id not in ids


def test_an_upload_without_a_token_is_refused_before_the_export(server, run):
    forge = server()
    with pytest.raises(ConfigError, match=r"There is no token.*`hf auth login`"):
        forge.exports.start(asked(run, format="hub", repository="me/small"))
    assert forge.exports.list() == []


def test_a_finished_export_is_uploaded_as_it_is(server, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    forge = server()
    export = forge.exports.start(asked(run, format="mlx")).id
    with pytest.raises(ConfigError, match="is not a repository of the Hub"):
        forge.exports.push(export, "somewhere")
    reached(forge, export, JobState.FINISHED)
    view = forge.exports.push(export, "me/small")
    record = forge.exports.folder(view.id).record()
    assert (record.request.format, record.request.content) == ("hub", "merged")
    assert record.facts["from_export"] == str(forge.exports.folder(export).files)
    assert record.bytes == 3000
    reached(forge, view.id, JobState.FINISHED)
    refused = server("refuses")
    failed = refused.exports.start(asked(run)).id
    reached(refused, failed, JobState.FAILED)
    with pytest.raises(ConfigError, match="There is no finished export"):
        refused.exports.push(failed, "me/small")


def test_an_export_whose_upload_failed_is_uploaded_again_as_it_is(server, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    offline = server("offline")
    export = offline.exports.start(asked(run, format="hub", repository="me/small")).id
    reached(offline, export, JobState.FAILED)
    again = server().exports.push(export, "me/small")
    record = offline.exports.folder(again.id).record()
    assert record.facts["from_export"] == str(offline.exports.folder(export).files)


def test_two_exports_are_done_one_after_the_other(server, run):
    forge = server("waits")
    first, second = (forge.exports.start(asked(run, format=f)) for f in ("merged", "adapter"))
    assert first.state is JobState.RUNNING
    assert second.state is JobState.QUEUED
    assert second.queued_behind == "Another export of “Support desk, first try!” is in progress."
    holder = lease_of(forge)
    assert holder.kind == "export"
    assert holder.who.pid == forge.exports.folder(first.id).process().pid
    forge.tend()
    assert forge.exports.view(second.id).state is JobState.QUEUED
    assert forge.exports.active() == first.id
    forge.exports.stop(first.id)
    reached(forge, second.id, JobState.RUNNING)


def test_a_stop_leaves_no_process_and_no_file(server, run):
    forge = server("waits")
    export = forge.exports.start(asked(run)).id
    folder = working(forge, export)
    who = folder.process()
    view = forge.exports.stop(export)
    assert view.state is JobState.STOPPED
    assert view.ended is not None
    assert (view.path, view.bytes) == (None, 0)
    assert not who.alive
    assert not folder.staged.exists()
    assert lease_of(forge) is None
    assert forge.exports.stop(export).state is JobState.STOPPED


def test_a_waiting_export_is_stopped_before_its_start(server, run):
    forge = server("waits")
    forge.exports.start(asked(run))
    second = forge.exports.start(asked(run)).id
    assert forge.exports.stop(second).state is JobState.STOPPED
    assert forge.exports.folder(second).process() is None


def test_a_killed_exporter_leaves_nothing_and_the_next_one_succeeds(server, run):
    forge = server("waits")
    export = forge.exports.start(asked(run)).id
    folder = working(forge, export)
    os.kill(folder.process().pid, signal.SIGKILL)
    view = reached(forge, export, JobState.LOST)
    assert view.path is None
    assert view.files == ()
    assert view.problem.what == (
        "The exporter ended unexpectedly during “Merging the adapter” (signal 9)."
    )
    until(lambda: forge.tend() or not folder.staged.exists(), "what it wrote is removed")
    assert lease_of(forge) is None
    again = server()
    reached(again, again.exports.start(asked(run)).id, JobState.FINISHED)


def test_what_a_killed_exporter_has_started_ends_with_it(server, run):
    forge = server("converts")
    export = forge.exports.start(asked(run)).id
    folder = forge.exports.folder(export)
    note = folder.path / "converter"
    until(lambda: note.exists() and note.read_text("utf-8"), "the converter works")
    converter = ProcessIdentity.of(int(note.read_text("utf-8")))
    forge.tend()
    os.kill(folder.process().pid, signal.SIGKILL)
    reached(forge, export, JobState.LOST)
    forge.tend()
    assert wait_ended(converter, 10.0)


def test_an_export_is_over_once_its_exporter_has_ended(server, run):
    """What follows at once, such as serving it, must not be refused because of its process."""
    forge = server("lingers")
    folder = forge.exports.folder(forge.exports.start(asked(run)).id)
    until(folder.result_file.exists, "the result is written")
    assert forge.exports.view(folder.id).state is JobState.RUNNING
    kill_tree(folder.process())
    reached(forge, folder.id, JobState.FINISHED)
    assert lease_of(forge) is None
    assert (folder.files / "model.safetensors").exists()


def test_an_exporter_that_does_not_exit_is_ended(server, run, monkeypatch):
    monkeypatch.setattr(jobs, "EXIT_TIMEOUT_S", 1.0)
    forge = server("lingers")
    folder = forge.exports.folder(forge.exports.start(asked(run)).id)
    reached(forge, folder.id, JobState.FINISHED)
    forge.exports.tend()
    assert not folder.process().alive
    assert lease_of(forge) is None


def test_a_crash_is_named(server, run):
    forge = server("crashes")
    view = reached(forge, forge.exports.start(asked(run)).id, JobState.LOST)
    assert "(signal 6)" in view.problem.what
    with pytest.raises(NotFoundError, match="has no files: it is lost"):
        forge.exports.path(view.id)


def test_a_failed_self_test_is_marked_and_kept_apart(server, run):
    forge = server("refuses")
    view = reached(forge, forge.exports.start(asked(run)).id, JobState.FAILED)
    assert not view.is_usable
    assert Path(view.path).name == "not-usable"
    assert view.self_test["cause"] == "wrong base"
    assert view.problem.what == "Logits differ."


def test_a_failure_has_its_cause_and_no_files(server, run):
    forge = server("fails")
    view = reached(forge, forge.exports.start(asked(run)).id, JobState.FAILED)
    assert view.problem.what == "The disk became full."
    assert (view.path, view.bytes) == (None, 0)
    until(
        lambda: forge.tend() or not forge.exports.folder(view.id).staged.exists(),
        "what was written is removed",
    )


def test_a_closed_server_leaves_its_export_to_the_next_one(server, run):
    forge = server("waits")
    export = forge.exports.start(asked(run)).id
    who = working(forge, export).process()
    forge.close()
    assert not who.alive
    other = server()
    assert other.exports.view(export).state is JobState.QUEUED
    reached(other, export, JobState.FINISHED)


SERVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.models.fingerprint import fingerprint
from modelforge.runs import jobs
from modelforge.runs.atomic_files import read_json
from modelforge.runs.exports import ExportRequest
forge = Forge(Home(Path(sys.argv[2])), exporter=[sys.executable, sys.argv[3], "waits"])
print(forge.exports.start(ExportRequest(sys.argv[4], "merged")).id, flush=True)
time.sleep(60)
"""


def test_a_killed_server_takes_its_exporter_with_it(server, run, tmp_path):
    actor = ROOT / "tests" / "actors" / "exporter.py"
    arguments = [str(ROOT), str(tmp_path / "home"), str(actor), run.id]
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        export = process.stdout.readline().strip()
        forge = server()
        who = working(forge, export).process()
        process.kill()
    assert wait_ended(who, 10.0)
    reached(forge, export, JobState.FINISHED)
    assert lease_of(forge) is None or lease_of(forge).who != who


def test_an_export_waits_for_a_run_and_a_run_for_an_export(server, run):
    forge = server("waits")
    active = put_run(forge.home.root, 7, name="Active", ending=None)
    active.events.write_text("")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as worker:
        who = ProcessIdentity.of(worker.pid)
        active.process.write_text(f'{{"pid": {who.pid}, "birth": {who.birth}}}')
        waiting = forge.exports.start(asked(run))
        worker.kill()
    assert waiting.state is JobState.QUEUED
    assert waiting.queued_behind == "The run 'Active' is using this computer."
    reached(forge, waiting.id, JobState.RUNNING)
    with pytest.raises(BusyError, match=r"The export of Support desk, first try! is using"):
        forge.queue._launcher.require_free()


def test_a_served_or_running_export_is_not_deleted(server, run):
    forge = server("waits")
    export = forge.exports.start(asked(run)).id
    with pytest.raises(BusyError, match="in progress, so it cannot be deleted"):
        forge.exports.delete(export)
    forge.exports.stop(export)
    seen = []

    def guard(export_id):
        seen.append(export_id)
        raise BusyError([], "served")

    forge.exports.guards.append(guard)
    with pytest.raises(BusyError):
        forge.exports.delete(export)
    assert seen == [export]
    forge.exports.guards.remove(guard)
    forge.exports.delete(export)


def test_what_an_export_reads_is_not_deleted(server, run):
    forge = server("waits")
    export = forge.exports.start(asked(run)).id
    with pytest.raises(BusyError, match="“Support desk, first try!” is being exported"):
        forge.trash.delete([run.id])
    with pytest.raises(BusyError, match="the export of “Support desk, first try!” uses it"):
        forge.stored._uses.require_unneeded("a model", [run.id])
    forge.exports.stop(export)
    forge.trash.delete([run.id])
    with pytest.raises(NotFoundError, match="was deleted"):
        forge.exports.start(asked(run))


def test_a_run_that_changes_while_its_export_waits_fails_it(server, run, model):
    forge = server("waits")
    first = forge.exports.start(asked(run)).id
    second = forge.exports.start(asked(run)).id
    (model / "config.json").unlink()
    forge.exports.stop(first)
    view = reached(forge, second, JobState.FAILED)
    assert "is not at" in view.problem.what


def test_exports_count_as_disk_usage(server, run):
    forge = server()
    reached(forge, forge.exports.start(asked(run)).id, JobState.FINISHED)
    kinds = {item.kind: item.bytes for item in forge.storage.usage().kinds}
    assert kinds["exports"] >= 3000


def test_durations_of_earlier_exports_correct_the_prediction(server, run):
    forge = server()
    before = forge.exports.predict(asked(run)).seconds
    reached(forge, forge.exports.start(asked(run)).id, JobState.FINISHED)
    assert forge.exports.predict(asked(run)).seconds < before / 2
    assert forge.exports.predict(asked(run, format="adapter")).seconds > 5


def test_a_disk_without_room_is_refused_before_the_start(server, run, monkeypatch):
    forge = server()
    predicted = forge.exports.predict(asked(run))
    monkeypatch.setattr(
        "modelforge.services.exports.prediction.shutil.disk_usage",
        lambda _path: type("Usage", (), {"free": predicted.disk_bytes})(),
    )
    with pytest.raises(ConfigError, match=r"The export needs .* are free"):
        forge.exports.start(asked(run))
    assert forge.exports.list() == []


def test_a_new_run_records_what_its_base_model_is(server, model, tmp_path):
    data = tmp_path / "rows.jsonl"
    rows = [f'{{"input": "question {n}", "output": "answer {n}"}}' for n in range(20)]
    data.write_text("\n".join(rows), "utf-8")
    forge = server()
    settings = {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
    }
    queued = forge.queue.add(Layer("request", settings), held=True)
    record = read_json(forge.runs.folder(queued).config)
    assert record["base"] == {"name": str(model), "revision": None, "hash": fingerprint(model)}


def test_an_export_deleted_just_before_its_start_is_not_started(server, run, monkeypatch):
    forge = server()
    waiting = forge.exports.start(asked(run))
    folder = forge.exports.folder(waiting.id)
    forge.exports.stop(waiting.id)
    forge.exports.delete(waiting.id)

    # What `tend` does after it has listed the export, and before it holds the lock.
    forge.exports._start_next(folder)

    assert not folder.path.exists()


def test_what_another_server_removes_meanwhile_does_not_disturb(server, run):
    forge = server()
    parent = forge.home.exports
    parent.mkdir(parents=True, exist_ok=True)
    (parent / f"{GONE}1").symlink_to(parent / "nowhere")

    assert forge.exports.start(asked(run)).id
