"""What a step event says of work and peak, from the facts of the plan."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from modelforge.runs.events import EventWriter, iter_events
from modelforge.runs.layout import RunFolder

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def step_events(folder, facts):
    """Return the plan and the events of two steps of 100 tokens, each of half a second."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from modelforge.train.callbacks import reporter as module
    from modelforge.train.event_log import EventLog
    from modelforge.train.stop import Stop

    folder.mkdir()
    run = RunFolder(folder)
    counts = {"steps_per_epoch": 2, "train_rows": 4, "eval_rows": 0}
    stats = SimpleNamespace(read=dict)
    log = EventLog(EventWriter(run.events))
    reporter = module.EventReporter(log, Stop(run.stop), stats, counts | facts)
    state, control = TrainerState(max_steps=2), TrainerControl()
    args = TrainingArguments(str(folder), use_cpu=True)
    reporter.on_train_begin(args, state, control)
    for step in (1, 2):
        state.global_step, state.num_input_tokens_seen = step, 100 * step
        reporter._busy_s = 0.5
        reporter.on_log(args, state, control, logs={"loss": 1.0})
    events = list(iter_events(run.events))
    return [next(e.data for e in events if e.kind == "plan")], [
        event.data for event in events if event.kind == "step"
    ]


def test_work_so_far_and_the_share_of_the_peak(tmp_path):
    """100 tokens of 6e9 FLOPs in half a second are 1.2e12 FLOPs/s, of 4e12."""
    facts = {"flops_per_token": 6e9, "peak_flops": 4e12}
    (plan,), steps = step_events(tmp_path / "run", facts)
    assert (plan["flops_per_token"], plan["peak_flops"]) == (6e9, 4e12)
    assert [step["tokens_so_far"] for step in steps] == [100, 200]
    assert [step["flops_so_far"] for step in steps] == [6e11, 12e11]
    assert [step["metrics"]["mfu"] for step in steps] == [pytest.approx(0.3)] * 2


def test_bits_per_byte_of_training_follow_from_the_bytes_of_a_token(tmp_path):
    """A loss of 1 nat is 1 / ln 2 bits for a token, which has 2 bytes."""
    _, steps = step_events(tmp_path / "run", {"bytes_per_token": 2.0})
    assert steps[0]["metrics"] == {"bits_per_byte": pytest.approx(0.721348, abs=1e-6)}


def test_without_a_known_peak_there_is_no_share(tmp_path):
    _, steps = step_events(tmp_path / "run", {"flops_per_token": 6e9, "peak_flops": None})
    assert steps[1]["flops_so_far"] == 12e11
    assert "mfu" not in steps[1]["metrics"]


def test_other_runs_have_the_events_that_they_had(tmp_path):
    (plan,), steps = step_events(tmp_path / "run", {})
    assert not {"flops_per_token", "peak_flops", "bytes_per_token"} & plan.keys()
    assert not {"tokens_so_far", "flops_so_far", "mfu"} & (steps[0].keys() | steps[0]["metrics"])
