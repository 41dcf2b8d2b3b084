"""Progress, time left, log and verdict of a run from its events."""

import math

import pytest

from modelforge.runs.events import EventRecord
from modelforge.runs.timeline import Timeline
from ui.pages.run.state import (
    completed_share,
    log_lines,
    progress_line,
    stage_seconds_left,
    verdict_text,
)


def timeline_of(*events):
    records = (EventRecord(n, *event) for n, event in enumerate(events, start=1))
    return Timeline().add_all(records)


def step(t, number, loss=1.0, **more):
    return t, "step", {"step": number, "epoch": number / 10, "loss": loss, **more}


PLAN = (0.0, "plan", {"total_steps": 20, "epochs": 2.0})
STARTED = (0.0, "started", {"pid": 1, "birth": 1.0})


def test_nothing_is_known_before_the_first_event():
    empty = Timeline()
    assert completed_share(empty) is None
    assert stage_seconds_left(empty) is None
    assert verdict_text(empty, 0.0) == ""


def test_the_time_left_follows_from_the_mean_speed():
    timeline = timeline_of(STARTED, PLAN, step(10.0, 1), step(12.0, 2), step(18.0, 5))
    assert stage_seconds_left(timeline) == pytest.approx(30.0)
    assert progress_line(timeline) == "step 5 of 20 · epoch 0.5 of 2"


def test_a_phase_before_training_shows_its_progress():
    phase = (1.0, "phase", {"name": "tokenizing", "text": "Reading rows", "done": 50, "total": 200})
    timeline = timeline_of(STARTED, phase)
    assert progress_line(timeline) == "Reading rows · 50 of 200"
    assert completed_share(timeline) == pytest.approx(0.25)


def test_the_progress_stays_where_the_steps_ended():
    scoring = (21.0, "phase", {"name": "scoring", "text": "Answering", "done": 5, "total": 10})
    done = timeline_of(STARTED, PLAN, step(20.0, 20), scoring)
    assert completed_share(done) == 1.0
    assert progress_line(done) == "Answering · 5 of 10"
    stopped = timeline_of(STARTED, PLAN, step(10.0, 5), (11.0, "stopped", {"step": 5}))
    assert completed_share(stopped) == pytest.approx(0.25)
    evaluating = (10.5, "phase", {"name": "evaluating", "text": "Evaluating"})
    assert progress_line(timeline_of(STARTED, PLAN, step(10.0, 5), evaluating)).endswith(
        "evaluating"
    )
    ended = timeline_of(STARTED, PLAN, step(10.0, 5), evaluating, (11.0, "stopped", {"step": 5}))
    assert progress_line(ended) == "step 5 of 20 · epoch 0.5 of 2"
    failure = {"cause": "unexpected", "what": "It broke.", "remedy": ""}
    failed = timeline_of(STARTED, PLAN, step(10.0, 15), (11.0, "failed", failure))
    assert completed_share(failed) == pytest.approx(0.75)


def test_a_pause_shows_its_reason_and_the_progress():
    why = "Paused: the GPU's temperature is 86 °C, the ceiling is 80 °C"
    phase = (12.0, "phase", {"name": "paused", "text": why, "done": 5, "total": 20})
    timeline = timeline_of(STARTED, PLAN, step(10.0, 5), phase)
    assert progress_line(timeline) == f"{why} · 5 of 20"
    assert completed_share(timeline) == pytest.approx(0.25)


def test_values_that_are_not_numbers_are_left_out_of_the_curves():
    timeline = timeline_of(
        step(1.0, 1, loss=None), step(2.0, 2, loss=math.inf), step(3.0, 3, loss=0.5)
    )
    assert list(timeline.stage.train["loss"]) == [(3, 0.5)]
    assert timeline.stage.last("loss") == 0.5


def test_the_verdict_describes_the_loss():
    timeline = timeline_of(STARTED, PLAN, *(step(n, n, loss=3 - n / 10) for n in range(1, 21)),
                   (21.0, "eval", {"step": 20, "loss": 1.2, "best": True}),
                   (22.0, "finished", {"steps": 20, "seconds": 22.0}))  # fmt: skip
    text = verdict_text(timeline, 22.0)
    assert text.startswith("20 steps in 22 s. The loss fell from 2.80 to 1.10.")
    assert "evaluation loss is 1.20" in text


def test_overfitting_is_named():
    timeline = timeline_of(STARTED, PLAN, step(1.0, 1), step(2.0, 20, loss=0.2),
                   (3.0, "eval", {"step": 10, "loss": 1.0, "best": True}),
                   (4.0, "eval", {"step": 20, "loss": 1.5, "best": False}),
                   (5.0, "finished", {"steps": 20, "seconds": 5.0}))  # fmt: skip
    assert "memorise" in verdict_text(timeline, 22.0)
    assert "step 10" in verdict_text(timeline, 22.0)


def test_a_failure_has_its_remedy():
    failure = {
        "cause": "memory",
        "what": "The GPU ran out of memory.",
        "remedy": "Halve the batch.",
    }
    assert (
        verdict_text(timeline_of((1.0, "failed", failure)), 2.0)
        == "The GPU ran out of memory. Halve the batch."
    )


def test_a_stopped_run_says_what_is_kept():
    kept = verdict_text(timeline_of(step(1.0, 7), (2.0, "stopped", {"step": 7, "kept": True})), 2.0)
    gone = verdict_text(
        timeline_of(step(1.0, 7), (2.0, "stopped", {"step": 7, "kept": False})), 2.0
    )
    assert kept == "Stopped after 7 steps. The weights trained so far are kept."
    assert gone.endswith("Nothing is kept.")


def test_events_of_a_later_version_are_passed_over():
    assert not log_lines(timeline_of((1.0, "dream", {"text": "x"})))
