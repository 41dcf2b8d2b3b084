"""How long a run still takes, told from made-up events whose truth is known."""

from __future__ import annotations

import random

import pytest

from modelforge.runs.eta import Course, Pace
from modelforge.runs.events import EventRecord

REHEARSAL = {
    "seconds": 200.0,
    "seconds_per_update": 1.0,
    "seconds_per_eval_batch": 0.5,
    "save_seconds": 0.4,
    "final_seconds": 0.2,
}


def played(
    total=100, each=1.0, every=None, check_s=0.0, save_s=0.0, tokens=lambda _step: 0, facts=None
):
    """Return the events of a run and when it ended; `each` is the time of an update's token."""
    t, found = 0.0, []

    def say(kind, **data):
        found.append(EventRecord(len(found) + 1, t, kind, data))

    say("started")
    t += 5
    say("plan", total_steps=total, **(facts or {}))
    for step in range(1, total + 1):
        count = tokens(step)
        seconds = each * (count or 1)
        t += seconds
        say("step", step=step, total_steps=total, seconds=seconds, tokens=count)
        if every and step % every == 0:
            t += check_s
            say("eval", step=step)
        if (every and step % every == 0) or step == total:
            t += save_s
            say("saved", step=step)
    t += save_s
    say("finished")
    return found, t


def told(events, at, course, rehearsal=None):
    """Return the time left as told at an update, and when that was."""
    pace = Pace(course, rehearsal)
    for event in events:
        pace.take(event)
        if event.kind == "step" and event.data["step"] == at:
            return pace.left(), event.t
    raise AssertionError(at)


def test_nothing_is_told_from_too_little_unless_it_was_rehearsed():
    events, over = played()
    assert told(events, 2, Course())[0] is None
    left, t = told(events, 2, Course(), REHEARSAL)
    assert left == pytest.approx(over - t, abs=2)
    pace = Pace(Course(), REHEARSAL)
    pace.take(events[0])
    assert pace.left() == 200.0
    assert pace.left(now=events[0].t + 50) == 150.0


@pytest.mark.parametrize("share", [10, 50, 90])
def test_checks_and_saves_to_come_are_counted(share):
    events, over = played(every=20, check_s=30.0, save_s=4.0, facts={"eval_rows": 60})
    course = Course(eval_every=20, save_every=20, rows=4)
    rehearsal = REHEARSAL | {"save_seconds": 4.0, "final_seconds": 4.0}
    left, t = told(events, share, course, rehearsal)
    assert left == pytest.approx(over - t, rel=0.03)
    if share >= 50:
        left, t = told(events, share, course)
        assert left == pytest.approx(over - t, rel=0.05)


def test_answers_at_the_end_are_counted_as_rehearsed_and_then_as_they_come():
    events, _over = played()
    last = events.pop()
    pace = Pace(Course(), REHEARSAL | {"score_seconds": 40.0}).take_all(events)
    assert pace.left() == pytest.approx(40, abs=1)
    without = Pace(Course(), REHEARSAL).take_all(events)
    assert without.left() == pytest.approx(0, abs=1)
    for follows in (pace, without):
        for done in (0, 4, 8):
            number = len(events) + 1 + done // 4
            said = {"name": "scoring", "done": done, "total": 16}
            follows.take(EventRecord(number, last.t + 2.5 * done, "phase", said))
    assert pace.left() == pytest.approx(20, abs=1)
    assert without.left() == pytest.approx(20, abs=1)


def test_rows_of_many_lengths_are_told_by_their_tokens():
    """The longest rows come first, as when rows of like length are put together."""
    counts = sorted((20 + 4 * number for number in range(100)), reverse=True)
    events, over = played(
        each=0.01,
        tokens=lambda step: counts[step - 1],
        facts={"all_tokens": sum(counts), "train_rows": 400, "eval_rows": 0},
    )
    left, t = told(events, 10, Course(rows=4))
    assert left == pytest.approx(over - t, rel=0.05)
    # By updates alone it would be off by three quarters.
    assert 90 * 0.01 * sum(counts[:10]) / 10 > 1.7 * (over - t)


def test_chance_in_the_lengths_does_little():
    rng = random.Random(1)
    counts = [rng.randint(40, 400) for _ in range(300)]
    events, over = played(
        total=300,
        each=0.01,
        tokens=lambda step: counts[step - 1],
        facts={"all_tokens": 300 * 220, "train_rows": 1200, "eval_rows": 0},
    )
    for at, off in ((30, 0.05), (150, 0.05)):
        left, t = told(events, at, Course(rows=4))
        assert left == pytest.approx(over - t, rel=off), at


def test_what_was_measured_before_memory_ran_out_is_forgotten():
    events, _ = played(total=40)
    slower = [
        EventRecord(event.n, event.t, event.kind, event.data | {"seconds": 2.0})
        if event.kind == "step" and event.data["step"] > 10
        else event
        for event in events
    ]
    at = next(n for n, e in enumerate(slower) if e.kind == "step" and e.data["step"] == 11)
    slower.insert(at, EventRecord(slower[at].n, slower[at].t, "adjusted", {"micro_batch": 1}))
    pace = Pace(Course(), REHEARSAL)
    for event in slower[: at + 11]:
        pace.take(event)
    assert pace.step == 20
    assert pace.left() == pytest.approx(40, abs=3)


def test_a_long_file_may_be_read_at_both_ends():
    events, over = played(total=300, facts={"eval_rows": 0})
    pace = Pace(Course()).take_all([*events[:20], *events[200:250]])
    assert pace.left() == pytest.approx(over - events[249].t, abs=2)
    assert max(window[2] for window in pace.windows) < 2


def test_the_first_of_two_stages_tells_only_its_own_time():
    events, _ = played(total=20, facts={"stage": 1, "stages": 2})
    pace = Pace(Course()).take_all(events[:12])
    assert pace.left() is None
    pace.take(EventRecord(99, 50.0, "phase", {"name": "training", "done": 10, "total": 20}))
    assert pace.phase_left() == pytest.approx(10)


def test_a_check_under_way_shrinks_as_it_goes():
    events, _ = played(total=20, every=10, check_s=10.0, facts={"eval_rows": 8})
    pace = Pace(Course(eval_every=10, save_every=10, rows=4))
    for event in events:
        pace.take(event)
        if event.kind == "step" and event.data["step"] == 20:
            break
    before = pace.left()
    t = pace.latest
    pace.take(
        EventRecord(pace.number + 1, t, "phase", {"name": "evaluating", "done": 1, "total": 10})
    )
    pace.take(
        EventRecord(pace.number + 1, t + 4, "phase", {"name": "evaluating", "done": 5, "total": 10})
    )
    assert pace.left() == pytest.approx(before - 4)
    assert pace.phase_left() == pytest.approx(5)
    assert Pace(Course()).take_all(events).left() is None


def test_a_run_tells_it_from_its_folder(tmp_path):
    """A view reads the beginning of the events and their end."""
    from modelforge.runs.states import RunState
    from modelforge.runs.view import view_run
    from tests.runs.homes import put_run

    run = put_run(tmp_path, 1, losses=[2.0] * 6)
    assert view_run(run, RunState.FINISHED).seconds_left is None
    said = run.events.read_text("utf-8").splitlines()
    kept = [line for line in said if '"finished"' not in line]
    run.events.write_text("\n".join(kept) + "\n", "utf-8")
    view = view_run(run, RunState.RUNNING)
    assert view.seconds_left is not None
    assert view.as_dict()["adjusted"] is None
