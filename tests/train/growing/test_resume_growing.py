"""Growing runs that are stopped or killed, between stages and inside them, and resumed."""

from __future__ import annotations

import pytest

from modelforge.runs.atomic_files import write_json
from modelforge.runs.events import last_number
from tests.train.growing.test_growing import config_of, grow, same, weights_of

pytestmark = pytest.mark.torch

GROUP = {"steps_per_stage": 4, "trunk": "lora", "joint_tuning_steps": 2}
SAVES = {"trainer": {"save_steps": 2}, "eval_steps": 2}


class Killed(BaseException):
    """As sudden as a kill: nothing of ours sees it."""


def kill():
    raise Killed


def again(bench, run):
    run.stop.unlink(missing_ok=True)
    write_json(run.process, {"after": last_number(run.events)})
    return finished(bench, run)


def finished(bench, run):
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    return weights_of(run.output)


@pytest.fixture(scope="module")
def expected():
    """The weights of a run that was not interrupted, filled by the first test."""
    return {}


def whole(bench, expected):
    if not expected:
        expected.update(finished(bench, grow(bench, progressive=GROUP, **SAVES)))
    return expected


@pytest.mark.parametrize(("stage", "step"), [(1, 3), (2, 3), (3, 2)])
def test_a_run_that_was_killed_inside_a_stage_ends_with_the_same_bytes(
    bench, at, expected, stage, step
):
    wanted = whole(bench, expected)
    run = grow(bench, progressive=GROUP, **SAVES)
    at("on_step_begin", step - 1, kill, stage=stage)
    with pytest.raises(Killed):
        bench.work(run)
    result = again(bench, run)
    assert all(same(weight, result[name]) for name, weight in wanted.items())


def test_a_run_that_was_killed_between_stages_ends_with_the_same_bytes(
    bench, expected, monkeypatch
):
    from modelforge.train.strategies import growing

    wanted = whole(bench, expected)
    run = grow(bench, progressive=GROUP, **SAVES)
    with monkeypatch.context() as patch:
        patch.setattr(growing, "remove_checkpoints_until", lambda *_: kill())
        with pytest.raises(Killed):
            bench.work(run)
    assert run.finished_stages == 1
    result = again(bench, run)
    assert all(same(weight, result[name]) for name, weight in wanted.items())


def test_a_run_that_is_stopped_in_a_stage_keeps_the_model_with_its_stacks(bench, at):
    run = grow(bench, progressive=GROUP, **SAVES)
    at("on_step_end", 3, lambda: run.stop.write_text("keep"), stage=2)
    events = bench.work(run)
    assert (events[-1].kind, events[-1].event.kept, events[-1].event.stage) == ("stopped", True, 2)
    assert config_of(run.output).num_hidden_layers == 4
    again(bench, run)
    assert config_of(run.output).num_hidden_layers == 4


def test_a_run_that_is_discarded_leaves_nothing(bench, at):
    run = grow(bench, progressive=GROUP, **SAVES)
    at("on_step_end", 1, lambda: run.stop.write_text("discard"), stage=2)
    events = bench.work(run)
    assert (events[-1].kind, events[-1].event.kept) == ("stopped", False)
    assert not any(folder.exists() for folder in (run.output, run.stages, run.trunk_cache))


def test_a_run_that_is_stopped_at_the_end_of_a_stage_is_resumed_in_it(bench, at, expected):
    wanted = whole(bench, expected)
    run = grow(bench, progressive=GROUP, **SAVES)
    at("on_step_end", 4, lambda: run.stop.write_text("keep"), stage=1)
    events = bench.work(run)
    assert (events[-1].kind, events[-1].event.kept) == ("stopped", True)
    assert run.finished_stages == 0
    result = again(bench, run)
    assert all(same(weight, result[name]) for name, weight in wanted.items())


def stop_between_stages(bench, monkeypatch, mode):
    """Return a run that was stopped when its first stage was saved, and its last event."""
    from modelforge.train.strategies import growing

    run = grow(bench, progressive=GROUP, **SAVES)
    with monkeypatch.context() as patch:
        patch.setattr(growing, "remove_checkpoints_until", lambda *_: run.stop.write_text(mode))
        events = bench.work(run)
    return run, events[-1]


def test_a_run_that_is_stopped_between_stages_keeps_the_model_of_the_last(
    bench, expected, monkeypatch
):
    wanted = whole(bench, expected)
    run, last = stop_between_stages(bench, monkeypatch, "keep")
    assert (last.kind, last.event.kept, last.event.stage) == ("stopped", True, 2)
    assert config_of(run.output).num_hidden_layers == 3
    result = again(bench, run)
    assert all(same(weight, result[name]) for name, weight in wanted.items())


def test_a_run_that_is_discarded_between_stages_leaves_nothing(bench, monkeypatch):
    run, last = stop_between_stages(bench, monkeypatch, "discard")
    assert (last.kind, last.event.kept) == ("stopped", False)
    assert not any(folder.exists() for folder in (run.output, run.stages, run.checkpoints))
