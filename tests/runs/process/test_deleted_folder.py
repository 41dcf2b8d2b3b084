"""A run whose folder is deleted while it trains: its worker ends, and no other starts beside it."""

from __future__ import annotations

import shutil

import pytest

from modelforge.errors import NotFoundError
from modelforge.runs.process.identity import wait_ended
from modelforge.runs.states import RunState, read_facts
from modelforge.train.stop import Stop, StopRequested


def _started(stage, run):
    supervisor = stage.started("deaf", run)
    who = read_facts(run).process
    assert who is not None
    assert who.alive
    return supervisor, who


def _delete(run):
    """Delete the folder of a run that writes into it."""
    run.config.unlink()
    shutil.rmtree(run.path, ignore_errors=True)


def test_the_next_run_starts_only_when_the_worker_has_ended(stage, run):
    supervisor, who = _started(stage, run)
    _delete(run)
    second = stage.new_run()
    supervisor.start(second)
    assert not who.alive
    stage.until_state(supervisor, second, RunState.RUNNING)


def test_the_worker_ends_without_another_start(stage, run):
    supervisor, who = _started(stage, run)
    supervisor.tend()
    _delete(run)
    supervisor.tend()
    assert wait_ended(who, 5.0)
    with pytest.raises(NotFoundError):
        stage.store.get(run.id)
    assert supervisor.holder() is None


def test_a_worker_notices_that_its_folder_was_deleted(run):
    stop = Stop(run.stop)
    assert stop.mode is None
    stop.check()
    _delete(run)
    assert stop.mode == "discard"
    with pytest.raises(StopRequested):
        stop.check()
