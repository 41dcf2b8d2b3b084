"""Evaluations are queued, done one at a time, stopped, continued and deleted like exports."""

from __future__ import annotations

import os
import signal
import time

import pytest

from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import BusyError, NotFoundError
from modelforge.runs.atomic_files import read_json
from modelforge.runs.evaluations import EvaluationRequest
from modelforge.runs.exports import ExportRequest
from modelforge.runs.jobs import JobState
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.store import LOCK
from tests.services.test_runs import until


def asked(run, **more) -> EvaluationRequest:
    return EvaluationRequest(run.id, **more)


def reached(forge, evaluation, state):
    def holds():
        forge.tend()
        view = forge.evaluations.view(evaluation)
        return view if view.state is state else None

    return until(holds, f"the evaluation is {state}")


def lease_of(forge):
    return MachineLease(forge.home.lease, forge.home.runs / LOCK).holder()


def working(forge, evaluation):
    """Wait until the stand-in has computed something."""
    folder = forge.evaluations.folder(evaluation)
    until(folder.work.exists, "the evaluator works")
    return folder


def test_an_evaluation_is_predicted_queued_done_and_deleted(server, run):
    forge = server()
    predicted = forge.evaluations.predict(asked(run))
    assert (predicted.rows, predicted.device, predicted.notes) == (40, "cpu", ())
    assert forge.evaluations.latest(run.id) is None
    started = forge.evaluations.start(asked(run))
    assert started.prediction == predicted
    view = reached(forge, started.id, JobState.FINISHED)
    assert (view.run, view.run_name) == (run.id, "Support desk, first try!")
    assert view.report["verdict"]["kind"] == "better"
    assert view.report == forge.evaluations.report(view.id)
    assert [step.step for step in view.steps] == ["base", "report"]
    assert view.problem is None
    assert forge.evaluations.latest(run.id) == view
    assert forge.evaluations.list("another") == []
    until(lambda: lease_of(forge) is None, "the lease is given back")
    work = forge.evaluations.folder(view.id).work
    until(lambda: forge.tend() or not work.exists(), "temporary files are removed")
    forge.evaluations.delete(view.id)
    assert list(forge.home.evaluations.iterdir()) == []
    with pytest.raises(NotFoundError, match="`modelforge evaluations list` shows all of them"):
        forge.evaluations.view(view.id)


def test_the_same_request_starts_one_evaluation(server, run):
    forge = server("waits")
    ids = {forge.evaluations.start(asked(run), "tab-1").id for _ in range(2)}
    assert len(ids) == 1
    assert forge.evaluations.start(asked(run), "tab-2").id not in ids


def test_an_evaluation_reads_what_earlier_ones_have_computed(server, run):
    forge = server("fails")
    first = forge.evaluations.start(asked(run)).id
    reached(forge, first, JobState.FAILED)
    forge = server()
    second = forge.evaluations.start(asked(run)).id
    reached(forge, second, JobState.FINISHED)
    folder = forge.evaluations.folder
    assert folder(first).record().facts["earlier"] == []
    assert folder(second).record().facts["earlier"] == [str(folder(first).answers)]


def test_answers_of_an_earlier_model_of_a_resumed_run_are_not_used_again(server, run):
    forge = server()
    reached(forge, forge.evaluations.start(asked(run)).id, JobState.FINISHED)
    soon = time.time() + 1
    os.utime(run.output / "adapter_model.safetensors", (soon, soon))
    second = forge.evaluations.start(asked(run)).id
    reached(forge, second, JobState.FINISHED)
    assert forge.evaluations.folder(second).record().facts["earlier"] == []


def test_exports_and_evaluations_are_done_one_after_the_other(server, run):
    forge = server("waits")
    first = forge.evaluations.start(asked(run))
    assert first.state is JobState.RUNNING
    assert (lease_of(forge).kind, lease_of(forge).name) == ("evaluation", first.run_name)
    second = forge.evaluations.start(asked(run, rows=20))
    assert second.queued_behind == (
        "Another evaluation of “Support desk, first try!” is in progress."
    )
    export = forge.exports.start(ExportRequest(run.id, "adapter"))
    assert export.state is JobState.QUEUED
    assert export.queued_behind.startswith(
        "The evaluation of Support desk, first try! is using this computer"
    )
    forge.evaluations.stop(first.id)
    until(lambda: forge.tend() or forge.exports.active() == export.id, "the export begins")
    assert forge.evaluations.view(second.id).queued_behind.startswith("The export of")
    forge.exports.stop(export.id)
    reached(forge, second.id, JobState.RUNNING)


def test_a_stopped_evaluation_keeps_what_was_computed_and_leaves_no_process(server, run):
    forge = server("waits")
    evaluation = forge.evaluations.start(asked(run)).id
    folder = working(forge, evaluation)
    who = folder.process()
    view = forge.evaluations.stop(evaluation)
    assert view.state is JobState.STOPPED
    assert (view.report, view.problem) == (None, None)
    assert not who.alive
    assert lease_of(forge) is None
    assert folder.answers.exists()
    assert not folder.work.exists()


def test_a_stopped_evaluation_shows_what_was_measured_until_then(server, run):
    forge = server("halfway")
    evaluation = forge.evaluations.start(asked(run)).id
    folder = forge.evaluations.folder(evaluation)
    until(folder.report.exists, "a part of the report is written")
    assert forge.evaluations.view(evaluation).report is None
    report = forge.evaluations.stop(evaluation).report
    assert report["verdict"]["kind"] == "better"
    assert report["forgetting"] is None


def test_a_killed_evaluator_is_named(server, run):
    forge = server("waits")
    evaluation = forge.evaluations.start(asked(run)).id
    os.kill(working(forge, evaluation).process().pid, signal.SIGKILL)
    view = reached(forge, evaluation, JobState.LOST)
    assert view.problem.what == (
        "The evaluator ended unexpectedly during “The base model answers” (signal 9)."
    )


def test_a_closed_server_leaves_its_evaluation_to_the_next_one(server, run):
    forge = server("waits")
    evaluation = forge.evaluations.start(asked(run)).id
    working(forge, evaluation)
    forge.close()
    other = server()
    assert other.evaluations.view(evaluation).state is JobState.QUEUED
    reached(other, evaluation, JobState.FINISHED)
    lines = other.evaluations.folder(evaluation).answers.read_text("utf-8").splitlines()
    assert len(lines) == 2


def test_what_an_evaluation_reads_is_not_deleted(server, run, tmp_path):
    forge = server("waits")
    evaluation = forge.evaluations.start(asked(run)).id
    with pytest.raises(BusyError, match="“Support desk, first try!” is being evaluated"):
        forge.trash.delete([run.id])
    with pytest.raises(BusyError, match="the evaluation of “Support desk, first try!” uses it"):
        forge.stored._uses.require_unneeded("rows.jsonl", [run.id])
    with pytest.raises(BusyError, match="is in progress, so it cannot be deleted"):
        forge.evaluations.delete(evaluation)
    forge.evaluations.stop(evaluation)
    forge.trash.delete([run.id])
    assert forge.evaluations.view(evaluation).run == run.id


def test_a_run_that_is_deleted_while_its_evaluation_waits_fails_it(server, run):
    forge = server("waits")
    forge.evaluations.start(asked(run))
    second = forge.evaluations.start(asked(run)).id
    run.output.rename(run.path / "elsewhere")
    for view in forge.evaluations.list():
        if view.state is JobState.RUNNING:
            forge.evaluations.stop(view.id)
    view = reached(forge, second, JobState.FAILED)
    assert view.problem.what == "“Support desk, first try!” has no model: it is finished."


def test_evaluations_count_in_the_disk_usage(server, run):
    forge = server()
    reached(forge, forge.evaluations.start(asked(run)).id, JobState.FINISHED)
    kinds = {kind.kind: kind.bytes for kind in forge.storage.usage().kinds}
    assert kinds["evaluations"] > 500
    assert "other" not in kinds or kinds["other"] < 10_000


def test_a_prediction_is_corrected_by_earlier_evaluations(server, run):
    forge = server()
    before = forge.evaluations.predict(asked(run)).seconds
    reached(forge, forge.evaluations.start(asked(run)).id, JobState.FINISHED)
    after = forge.evaluations.predict(asked(run)).seconds
    # The stand-in takes no time.
    assert after < before / 10


def test_the_plan_of_a_run_has_the_same_correction(server, run):
    forge = server()
    reached(forge, forge.evaluations.start(asked(run)).id, JobState.FINISHED)
    factor = forge.preflight._evaluation_time_factor
    config = TrainingConfig.from_record(read_json(run.config)["config"])
    assert factor(config) == 1.0
    assert factor(config.with_changes({"evaluation.report": True})) < 0.1


def test_an_evaluation_that_takes_known_results_does_not_correct_predictions(server, run):
    forge = server()
    first = forge.evaluations.start(asked(run)).id
    reached(forge, first, JobState.FINISHED)
    steps = forge.evaluations.folder(first).events
    steps.write_text('{"step": "a", "text": "a", "share": 1.0, "seconds": 9000.0}\n', "utf-8")
    slow = forge.evaluations.predict(asked(run)).seconds
    reached(forge, forge.evaluations.start(asked(run)).id, JobState.FINISHED)
    assert forge.evaluations.predict(asked(run)).seconds == pytest.approx(slow, rel=0.05)


def test_what_is_known_is_not_in_the_prediction(server, run):
    forge = server("fails")
    before = forge.evaluations.predict(asked(run)).seconds
    first = forge.evaluations.start(asked(run)).id
    reached(forge, first, JobState.FAILED)
    lines = ['{"contestant": "base", "key": "k", "nats": 1.0}'] * 180
    lines += ['{"contestant": "base", "key": "k", "text": "a"}'] * 160
    forge.evaluations.folder(first).answers.write_text("\n".join(lines), "utf-8")
    half = forge.evaluations.predict(asked(run)).seconds
    assert half == pytest.approx(before / 2, rel=0.1)
