"""A run whose config says so is evaluated at its end by itself, once."""

from __future__ import annotations

import json
import os
import time

import pytest

from modelforge.errors import RunError
from modelforge.runs.atomic_files import read_json
from modelforge.runs.jobs import JobState
from tests.runs.homes import put_run
from tests.services.evaluations.conftest import put_rows
from tests.services.evaluations.test_service import reached
from tests.services.exports.conftest import put_trained


def ends(run, *, report=True):
    """Make the run one that has just ended, with or without `evaluation.report`."""
    record = json.loads(run.config.read_text("utf-8"))
    record["config"]["evaluation"] = {"report": report}
    run.config.write_text(json.dumps(record), "utf-8")
    return run


def test_a_finished_run_is_evaluated_once(server, run):
    forge = server()
    ends(run)
    forge.tend()
    [view] = forge.evaluations.list()
    assert view.run == run.id
    assert read_json(run.evaluation) == {"id": view.id, "problem": None}
    reached(forge, view.id, JobState.FINISHED)
    assert forge.evaluations.of_end(run.id).id == view.id
    forge.evaluations.delete(view.id)
    forge.tend()
    server().tend()
    assert forge.evaluations.list() == []
    assert forge.evaluations.of_end(run.id) is None


def test_two_servers_make_one_evaluation(server, run):
    first, second = server("waits"), server("waits")
    ends(run)
    first.tend()
    second.tend()
    assert len(first.evaluations.list()) == 1


@pytest.mark.parametrize("report", [False, None, "yes"])
def test_another_run_is_not_evaluated(server, run, report):
    forge = server()
    ends(run, report=report)
    forge.tend()
    assert forge.evaluations.list() == []
    assert not run.evaluation.exists()


def test_a_run_that_ended_long_ago_or_failed_is_not_evaluated(server, tmp_path, model):
    old = ends(put_trained(tmp_path / "home", model, 1))
    failed = ends(put_run(tmp_path / "home", 2, ending="failed"))
    put_rows(old, tmp_path)
    two_days = time.time() - 48 * 3600
    for path in (old.config, old.events):
        os.utime(path, (two_days, two_days))
    forge = server()
    forge.tend()
    assert forge.evaluations.list() == []
    assert not failed.evaluation.exists()


def test_a_run_that_fails_and_is_resumed_is_evaluated_then(server, run):
    forge = server("waits")
    ends(run)
    finished = run.events.read_text("utf-8")
    failed = {"cause": "x", "what": "Memory ran out.", "remedy": ""}
    lines = [line for line in finished.splitlines() if '"finished"' not in line]
    ending = json.dumps({"n": 99, "t": time.time(), "kind": "failed", "data": failed})
    run.events.write_text("\n".join([*lines, ending]) + "\n", "utf-8")
    forge.tend()
    assert forge.evaluations.list() == []
    run.events.write_text(finished, "utf-8")
    run.process.write_text('{"pid": 999998, "birth": 1.0}', "utf-8")
    forge.tend()
    assert [view.run for view in forge.evaluations.list()] == [run.id]


def test_why_a_run_cannot_be_evaluated_is_kept(server, run, model):
    forge = server()
    ends(run)
    (model / "config.json").unlink()
    forge.tend()
    assert forge.evaluations.list() == []
    kept = read_json(run.evaluation)
    assert kept["id"] is None
    assert kept["problem"]["what"] == f"The base model tiny is not at {model} any more."
    with pytest.raises(RunError, match="The base model tiny is not at"):
        forge.evaluations.of_end(run.id)
