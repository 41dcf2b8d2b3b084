"""Time left of synthetic runs whose real duration is known."""

from __future__ import annotations

import random

import pytest

from modelforge.runs.events import EventRecord
from modelforge.runs.progress.eta import EtaEstimator, Schedule
from modelforge.runs.progress.timings import StepTimings
from modelforge.runs.states import RunState
from modelforge.runs.timeline import TimelineReader
from modelforge.runs.view import view_run
from tests.runs.homes import put_run

TRIAL_RUN = {
    "seconds": 200.0,
    "seconds_per_update": 1.0,
    "seconds_per_eval_batch": 0.5,
    "save_seconds": 0.4,
    "final_seconds": 0.2,
}
ADJUSTED = {"step": 11, "micro_batch": 1, "accumulation": 4, "gradient_checkpointing": False}


def synthetic_run(
    total=100,
    each=1.0,
    every=None,
    eval_s=0.0,
    save_s=0.0,
    tokens=lambda _step: 0,
    plan=None,
    fixed=0.0,
):
    """Return the events of a run and when it ended.

    `each` is the time per token of a step, `fixed` that of a step without its tokens.
    """
    t, records = 0.0, []

    def write(kind, **data):
        records.append(EventRecord(len(records) + 1, t, kind, data))

    write("started", pid=1, birth=1.0)
    t += 5
    write("plan", total_steps=total, **(plan or {}))
    for step in range(1, total + 1):
        count = tokens(step)
        seconds = fixed + each * (count or 1)
        t += seconds
        write("step", step=step, total_steps=total, seconds=seconds, tokens=count)
        if every and step % every == 0:
            t += eval_s
            write("eval", step=step)
        if (every and step % every == 0) or step == total:
            t += save_s
            write("saved", step=step)
    t += save_s
    write("finished")
    return records, t


def estimator(records, schedule=None, trial_run=None):
    timings = StepTimings()
    for record in records:
        timings.add(record.t, record.event)
    return EtaEstimator(timings, schedule or Schedule(), trial_run)


def until_step(records, step):
    """Return the events up to a step."""
    last = next(r.n for r in records if r.kind == "step" and r.data["step"] == step)
    return records[:last]


def seconds_left(records, step, schedule=None, trial_run=None):
    """Return the time left as estimated at a step, and when that was."""
    seen = until_step(records, step)
    return estimator(seen, schedule, trial_run).seconds_left(), seen[-1].t


def phase(t, name, done, total):
    return EventRecord(9999, t, "phase", {"name": name, "done": done, "total": total})


def test_few_steps_give_an_estimate_only_with_a_trial_run():
    records, end = synthetic_run()
    assert seconds_left(records, 2)[0] is None
    left, t = seconds_left(records, 2, trial_run=TRIAL_RUN)
    assert left == pytest.approx(end - t, abs=2)
    eta = estimator(records[:1], trial_run=TRIAL_RUN)
    assert eta.seconds_left() == 200.0
    assert eta.seconds_left(now=records[0].t + 50) == 150.0


def test_the_time_left_counts_down_from_the_newest_event():
    records, _ = synthetic_run()
    eta = estimator(until_step(records, 20))
    left, newest = eta.seconds_left(), eta.timings.updated
    assert eta.seconds_left(now=newest - 5) == eta.seconds_left(now=newest) == left
    assert eta.seconds_left(now=newest + 0.5) == left - 0.5
    assert eta.seconds_left(now=newest + 500) == 0


@pytest.mark.parametrize(
    ("config", "plan", "rows"),
    [
        ({}, {}, 4),
        ({"per_device_train_batch_size": 2}, {"gradient_accumulation_steps": 3}, 6),
        ({"packing": True}, {"method": "sft"}, None),
        ({}, {"method": "dpo"}, 4),
        ({}, {"method": "rlhf"}, None),
    ],
)
def test_the_rows_of_a_step_are_known_unless_they_are_packed_or_generated(config, plan, rows):
    assert Schedule.of(config, plan).rows == rows


@pytest.mark.parametrize("per_step", [0.5, 2.0])
def test_a_trial_run_that_was_wrong_is_soon_forgotten(per_step):
    records, end = synthetic_run()
    trial_run = TRIAL_RUN | {"seconds_per_update": per_step}
    left, t = seconds_left(records, 20, trial_run=trial_run)
    assert left == pytest.approx(end - t, rel=0.06)
    left, t = seconds_left(records, 4, trial_run=trial_run)
    assert left != pytest.approx(end - t, rel=0.2)


def test_an_evaluation_costs_less_than_steps_of_its_rows_until_it_is_measured():
    records, end = synthetic_run(every=20, eval_s=6.0, plan={"eval_rows": 60})
    left, t = seconds_left(records, 10, Schedule(eval_every=20, rows=4))
    assert left == pytest.approx(end - t, rel=0.02)


@pytest.mark.parametrize("step", [10, 50, 90])
def test_evaluations_and_saves_to_come_are_counted(step):
    records, end = synthetic_run(every=20, eval_s=30.0, save_s=4.0, plan={"eval_rows": 60})
    schedule = Schedule(eval_every=20, save_every=20, rows=4)
    trial_run = TRIAL_RUN | {"save_seconds": 4.0, "final_seconds": 4.0}
    left, t = seconds_left(records, step, schedule, trial_run)
    assert left == pytest.approx(end - t, rel=0.03)
    if step >= 50:
        left, t = seconds_left(records, step, schedule)
        assert left == pytest.approx(end - t, rel=0.05)


def test_before_the_training_the_time_of_the_trial_run_counts_down():
    records, _ = synthetic_run()
    loading = [records[0], phase(30.0, "loading", 1, 2)]
    assert estimator(loading, trial_run=TRIAL_RUN).seconds_left() == 170.0
    assert estimator(loading).seconds_left() is None
    assert estimator([], trial_run=TRIAL_RUN).seconds_left() is None


def test_the_first_step_is_slower_and_left_out_once_there_are_others():
    records, _ = synthetic_run(each=1.0)
    slow = [
        EventRecord(r.n, r.t, r.kind, r.data | {"seconds": 10.0})
        if r.kind == "step" and r.data["step"] == 1
        else r
        for r in records
    ]
    assert seconds_left(slow, 10)[0] == pytest.approx(90 + 1, abs=0.1)
    assert seconds_left(slow, 3)[0] == pytest.approx(97 * 12 / 3 + 1, abs=0.1)


def test_evaluations_cost_what_the_trial_run_measured_per_batch():
    schedule = Schedule(eval_every=20, rows=4, eval_batch=4)
    for rows, batches in ((0, 0), (1, 1), (4, 1), (5, 2)):
        records, _ = synthetic_run(plan={"eval_rows": rows})
        left = estimator(records[:2], schedule, TRIAL_RUN).seconds_left()
        assert left == pytest.approx(100 + 5 * batches * 0.5 + 0.4 + 0.2)
    unmeasured = {"seconds_per_update": 1.0, "final_seconds": 0.2}
    left = estimator(records[:2], schedule, unmeasured).seconds_left()
    assert left == pytest.approx(100 + 0.2)


def test_a_step_costs_a_constant_and_its_tokens():
    """Rows become shorter, so both costs must be known for the rest."""
    counts = [400 - 3 * step for step in range(100)]
    records, _ = synthetic_run(
        each=0.01,
        fixed=0.5,
        tokens=lambda step: counts[step - 1],
        plan={"all_tokens": sum(counts), "train_rows": 400, "eval_rows": 0},
    )
    left, _t = seconds_left(records, 20, Schedule(rows=4))
    assert left == pytest.approx(80 * 0.5 + 0.01 * sum(counts[20:]) + 1, rel=0.001)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_tokens_far_from_the_expected_number_are_not_relied_on(factor):
    """The rows counted were others than those that are trained on."""
    plan = {"all_tokens": 400 * 50 * factor, "train_rows": 400, "eval_rows": 0}
    records, _ = synthetic_run(each=0.02, tokens=lambda step: 199 + step % 3, plan=plan)
    assert seconds_left(records, 20, Schedule(rows=4))[0] == pytest.approx(80 * 4 + 1, rel=0.01)


def test_scoring_counts_as_in_the_trial_run_and_then_by_its_progress():
    records, _end = synthetic_run()
    last = records.pop()
    trial_run = TRIAL_RUN | {"score_seconds": 40.0}
    assert estimator(records, trial_run=trial_run).seconds_left() == pytest.approx(40, abs=1)
    assert estimator(records, trial_run=TRIAL_RUN).seconds_left() == pytest.approx(0, abs=1)
    records += [phase(last.t + 2.5 * done, "scoring", done, 16) for done in (0, 4, 8)]
    for tried in (trial_run, TRIAL_RUN):
        assert estimator(records, trial_run=tried).seconds_left() == pytest.approx(20, abs=1)


def samples(t, step, seconds):
    data = {"step": step, "answers": [], "seconds": seconds}
    return EventRecord(9998, t, "samples", data)


def test_sample_prompts_count_at_each_evaluation_to_come_and_at_the_end():
    schedule = Schedule(eval_every=40)
    trial_run = {name: value for name, value in TRIAL_RUN.items() if name != "save_seconds"}
    bare = seconds_left(synthetic_run(every=40)[0], 45, schedule, trial_run)[0]
    tried = trial_run | {"sample_seconds": 7.0}
    # After steps 80 and 100; those after step 40 are done.
    seen = [*until_step(synthetic_run(every=40)[0], 45), samples(50.0, 40, 3.0)]
    assert estimator(seen, schedule, trial_run).seconds_left() == pytest.approx(bare + 6, abs=0.5)
    before = until_step(synthetic_run(every=40)[0], 10)
    left = [estimator(before, schedule, facts).seconds_left() for facts in (trial_run, tried)]
    assert left[1] - left[0] == pytest.approx(3 * 7)


def test_rows_of_many_lengths_are_estimated_by_their_tokens():
    """The longest rows come first, as when rows are grouped by length."""
    counts = sorted((20 + 4 * number for number in range(100)), reverse=True)
    records, end = synthetic_run(
        each=0.01,
        tokens=lambda step: counts[step - 1],
        plan={"all_tokens": sum(counts), "train_rows": 400, "eval_rows": 0},
    )
    left, t = seconds_left(records, 10, Schedule(rows=4))
    assert left == pytest.approx(end - t, rel=0.05)
    # By steps alone it would be off by three quarters.
    assert 90 * 0.01 * sum(counts[:10]) / 10 > 1.7 * (end - t)


def test_random_lengths_hardly_change_the_estimate():
    rng = random.Random(1)
    counts = [rng.randint(40, 400) for _ in range(300)]
    records, end = synthetic_run(
        total=300,
        each=0.01,
        tokens=lambda step: counts[step - 1],
        plan={"all_tokens": 300 * 220, "train_rows": 1200, "eval_rows": 0},
    )
    for step in (30, 150):
        left, t = seconds_left(records, step, Schedule(rows=4))
        assert left == pytest.approx(end - t, rel=0.05), step


def test_measurements_before_an_adjustment_are_dropped():
    records, _ = synthetic_run(total=40)
    slower = [
        EventRecord(r.n, r.t, r.kind, r.data | {"seconds": 2.0})
        if r.kind == "step" and r.data["step"] > 10
        else r
        for r in records
    ]
    at = next(i for i, r in enumerate(slower) if r.kind == "step" and r.data["step"] == 11)
    slower.insert(at, EventRecord(slower[at].n, slower[at].t, "adjusted", ADJUSTED))
    eta = estimator(slower[: at + 11], trial_run=TRIAL_RUN)
    assert eta.timings.step == 20
    assert eta.seconds_left() == pytest.approx(40, abs=3)


def test_the_first_of_two_stages_has_only_its_own_time():
    records, _ = synthetic_run(total=20, plan={"stage": 1, "stages": 2})
    assert estimator(records[:12]).seconds_left() is None
    eta = estimator([*records[:12], phase(50.0, "training", 10, 20)])
    assert eta.phase_seconds_left() == pytest.approx(10)


def test_later_stages_of_a_growing_model_count_by_their_flops():
    records, _ = synthetic_run(total=20, plan={"stage": 1, "stages": 2})
    stages = [{"steps": 20, "flops_per_token": 10}, {"steps": 10, "flops_per_token": 40}]
    schedule = Schedule.of({}, {"growing": {"stages": stages}})
    assert estimator(records[:12], Schedule.of({}, {})).seconds_left() is None
    left = estimator(records[:12], schedule).seconds_left()
    # Ten steps of a second are left, and ten that take four times as long.
    assert left == pytest.approx(10 + 40, abs=2.5)
    # Each stage is evaluated twice, in four seconds.
    records, _ = synthetic_run(total=20, every=10, eval_s=4.0, plan={"stage": 1, "stages": 2})
    stages[1]["steps"] = 20
    config, plan = {"per_device_eval_batch_size": 4}, {"growing": {"stages": stages}}
    before = estimator(until_step(records, 15), Schedule.of(config, plan)).seconds_left()
    with_evals = Schedule.of(config, plan | {"eval_steps": 10, "save_steps": -1})
    after = estimator(until_step(records, 15), with_evals).seconds_left()
    assert after - before == pytest.approx(3 * 4, abs=1.5)


def test_an_evaluation_in_progress_takes_less_and_less():
    records, _ = synthetic_run(total=20, every=10, eval_s=10.0, plan={"eval_rows": 8})
    schedule = Schedule(eval_every=10, save_every=10, rows=4)
    seen = until_step(records, 20)
    before, t = estimator(seen, schedule).seconds_left(), seen[-1].t
    seen = [*seen, phase(t, "evaluating", 1, 10), phase(t + 4, "evaluating", 5, 10)]
    eta = estimator(seen, schedule)
    assert eta.seconds_left() == pytest.approx(before - 4)
    assert eta.phase_seconds_left() == pytest.approx(5)
    assert estimator(records).seconds_left() is None


def test_a_view_estimates_from_a_complete_timeline(tmp_path):
    run = put_run(tmp_path, 1, losses=[2.0] * 6)
    assert view_run(run, RunState.FINISHED).seconds_left is None
    lines = run.events.read_text("utf-8").splitlines()
    kept = [line for line in lines if '"finished"' not in line]
    run.events.write_text("\n".join(kept) + "\n", "utf-8")
    reader = TimelineReader(run.events)
    reader.poll()
    view = view_run(run, RunState.RUNNING, reader.timeline)
    assert view.seconds_left is not None
    assert view.adjusted is None
