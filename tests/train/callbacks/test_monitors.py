"""Monitors on a real, tiny training: broken numbers, a stop in time, a guarded rate, phases."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.torch


@pytest.fixture
def poisoned(monkeypatch):
    """Make the loss, or the gradients alone, of the model no number from the n-th pass on."""
    import torch
    from transformers import LlamaModel

    forward, passes = LlamaModel.forward, itertools.count(1)

    def poison(at: int, *, where: str = "loss", training: bool = True):
        def wrong(self, *args, **kwargs):
            out = forward(self, *args, **kwargs)
            if self.training != training or next(passes) < at:
                return out
            hidden = out.last_hidden_state
            # The second adds nothing to the loss, and a gradient that is no number.
            none = torch.sqrt((hidden * 0).sum())
            out.last_hidden_state = hidden * math.nan if where == "loss" else hidden + none
            return out

        monkeypatch.setattr(LlamaModel, "forward", wrong)

    return poison


@pytest.fixture
def skips(monkeypatch):
    """Play fp16's gradient scaler: it skips the steps for which `which` is true."""
    from accelerate import Accelerator

    def play(which):
        steps = itertools.count(1)

        class Played:
            def __get__(self, *_):
                # Asked twice in each step: by the trainer, and by the check.
                return which((next(steps) + 1) // 2)

        monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", Played())

    return play


def kinds(events):
    return [event.kind for event in events]


def notes(events, code):
    found = [event.data for event in events if event.kind == "note"]
    return [note["text"] for note in found if note["code"].startswith(code)]


@pytest.mark.parametrize("logging_steps", [1, 50])
def test_a_nan_loss_fails_the_run_at_that_step(bench, poisoned, logging_steps):
    poisoned(4)
    run = bench.prepare(max_steps=8, logging={"logging_steps": logging_steps})
    events = bench.work(run)
    assert events[-1].kind == "failed"
    assert events[-1].data["cause"] == "loss-not-finite"
    assert "step 4." in events[-1].data["what"]
    assert "finished" not in kinds(events)
    assert not run.output.exists()
    assert json.loads(run.exit.read_text())["state"] == "failed"


@pytest.mark.parametrize(("steps", "failed_at"), [(2, 2), (22, 20)])
def test_a_run_whose_steps_are_all_skipped_fails_and_says_so(bench, skips, steps, failed_at):
    skips(lambda _step: True)
    events = bench.work(bench.prepare(max_steps=steps))
    assert (events[-1].kind, events[-1].data["cause"]) == ("failed", "loss-not-finite")
    assert f"The last {failed_at} steps were skipped" in events[-1].data["what"]
    assert "fp32 instead of fp16" in events[-1].data["remedy"]


def test_a_run_goes_on_after_skipped_steps(bench, skips):
    """The scaler begins too high, and tries a higher scale every 2,000 steps."""
    skips(lambda step: step < 3)
    assert bench.work(bench.prepare(max_steps=4))[-1].kind == "finished"


@pytest.mark.parametrize("fused", [False, True])
def test_a_fused_optimizer_reports_the_steps_that_the_scaler_skips(fused):
    """With the real scaler and accelerate; AdamW is fused on the CPU too."""
    import torch
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from modelforge.train.callbacks.monitors import FiniteLossCheck

    Accelerator(cpu=True)
    weight = torch.nn.Parameter(torch.ones(2))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(1))
    inner = torch.optim.AdamW([weight], lr=0.5, fused=fused)
    optimizer = AcceleratedOptimizer(inner, device_placement=False, scaler=scaler)
    check = FiniteLossCheck(None)
    check.on_train_begin(SimpleNamespace(fp16=True), None, None, optimizer=optimizer)
    for gradient, is_skipped in ((math.inf, True), (1.0, False)):
        weight.grad = torch.tensor([gradient, 1.0])
        optimizer.step()
        assert optimizer.step_was_skipped is is_skipped
        assert torch.equal(weight.detach(), torch.ones(2)) is is_skipped


def test_a_skipped_step_is_no_spike():
    from modelforge.train.callbacks.monitors import find_spike

    norms = [1.0] * 30
    assert find_spike([], 1.0, norms, math.inf) == find_spike([], 1.0, norms, math.nan) == ""
    assert "11 times" in find_spike([], 1.0, norms, 11.0)


def test_nan_gradients_fail_the_run(bench, poisoned):
    poisoned(3, where="gradients")
    events = bench.work(bench.prepare(max_steps=10))
    assert events[-1].data["cause"] == "loss-not-finite"
    assert "gradients are not finite at step 3" in events[-1].data["what"]


def test_the_last_good_checkpoint_is_kept_and_no_bad_one_is_saved(bench, poisoned):
    poisoned(7)
    run = bench.prepare(max_steps=20, eval_split=0.25, eval_steps=2, logging={"logging_steps": 50})
    events = bench.work(run)
    assert events[-1].data["cause"] == "loss-not-finite"
    kept = {path.name for path in run.checkpoints.glob("checkpoint-*")}
    assert {"checkpoint-4", "checkpoint-6"} <= kept <= {f"checkpoint-{n}" for n in (2, 4, 6)}


def test_a_nan_evaluation_loss_fails_the_run(bench, poisoned):
    poisoned(1, training=False)
    run = bench.prepare(max_steps=8, eval_split=0.25, eval_steps=2)
    events = bench.work(run)
    assert events[-1].data["cause"] == "loss-not-finite"
    assert "evaluation loss is nan at step 2" in events[-1].data["what"]
    assert not list(run.checkpoints.glob("checkpoint-*"))


def test_early_stopping_finishes_the_run_with_the_best_weights(bench):
    run = bench.prepare(
        max_steps=60,
        eval_split=0.25,
        eval_steps=2,
        learning_rate=0.9,  # so high that held-out rows soon fare worse
        lr_scheduler_type="constant",
        evaluation={"early_stopping": True, "early_stopping_patience": 2},
    )
    events = bench.work(run)
    assert events[-1].kind == "finished"
    checks = [event.data for event in events if event.kind == "eval"]
    assert events[-1].data["steps"] == checks[-1]["step"] < 60
    assert [check["best"] for check in checks[-2:]] == [False, False]
    assert "Stopped early" in notes(events, "early-stop")[0]
    assert run.has_adapter
    assert events[-1].data["best_step"] == max(c["step"] for c in checks if c["best"])


@pytest.mark.parametrize(("threshold", "steps"), [(0.0, 12), (50.0, 6)])
def test_an_improvement_below_the_threshold_does_not_count(bench, threshold, steps):
    stopping = {"early_stopping": True, "early_stopping_patience": 2}
    run = bench.prepare(
        max_steps=12,
        eval_split=0.25,
        eval_steps=2,
        evaluation=stopping | {"early_stopping_threshold": threshold},
    )
    events = bench.work(run)
    assert (events[-1].kind, events[-1].data["steps"]) == ("finished", steps)
    losses = [event.data["loss"] for event in events if event.kind == "eval"]
    assert losses == sorted(losses, reverse=True)  # each evaluation is better than the one before


def test_early_stopping_is_off_by_default(bench):
    run = bench.prepare(
        max_steps=8, eval_split=0.25, eval_steps=2, learning_rate=0.9,
        lr_scheduler_type="constant",
    )  # fmt: skip
    events = bench.work(run)
    assert events[-1].data["steps"] == 8
    assert not notes(events, "early-stop")


def rates(events):
    return {e.data["step"]: e.data["learning_rate"] for e in events if e.kind == "step"}


def test_the_loss_guard_halves_the_learning_rate_after_a_spike_and_restores_it(bench, monkeypatch):
    from trl import SFTTrainer

    from modelforge.train.callbacks import monitors

    monkeypatch.setattr(monitors, "MIN_VALUES", 8)
    monkeypatch.setattr(monitors, "HALVED_STEPS", 5)
    passes, whole = itertools.count(1), SFTTrainer.compute_loss

    def leaping(self, *args, **kwargs):
        loss = whole(self, *args, **kwargs)
        return loss * 3 if next(passes) == 12 else loss

    monkeypatch.setattr(SFTTrainer, "compute_loss", leaping)
    run = bench.prepare(
        max_steps=20,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        evaluation={"loss_guard": True},
    )
    events = bench.work(run)
    assert events[-1].kind == "finished"
    noted = notes(events, "loss-guard")
    assert len(noted) == 2
    assert noted[0].startswith("Step 12: The loss jumped to ")
    assert "halved for 5 steps, to 5e-06" in noted[0]
    assert "as planned again, 1e-05" in noted[1]
    seen = rates(events)
    assert seen[12] == pytest.approx(1e-5)
    assert [seen[step] for step in range(13, 18)] == pytest.approx([5e-6] * 5)
    assert seen[18] == pytest.approx(1e-5)


class Heard:
    """A teller that only listens."""

    def __init__(self):
        self.notes = []

    def note(self, code, text):
        self.notes.append((code, text))


def steered(leaps, updates=600, guard=None):
    """Play losses to a guard with a real optimizer and schedule; return rates and the guard."""
    import torch
    from transformers import TrainerState, get_cosine_schedule_with_warmup

    from modelforge.train.callbacks.monitors import LossGuard

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, updates * 100)
    heard = Heard()
    guard = guard or LossGuard(heard)
    guard._log = heard
    more = {"lr_scheduler": schedule, "optimizer": optimizer}
    seen = []
    for step in range(1, updates + 1):
        optimizer.step()
        schedule.step()
        state = TrainerState(global_step=step)
        guard.on_step_end(None, state, None, **more)
        loss = leaps.get(step, 1.0 + 0.01 * (step % 3))
        guard.on_log(None, state, None, logs={"loss": loss, "grad_norm": 1.0}, **more)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen, guard, heard


def test_the_third_halving_is_permanent_and_there_are_at_most_five():
    seen, guard, heard = steered(dict.fromkeys((30, 100, 170, 240, 310, 380, 450), 5.0))
    assert guard.halvings == 5
    assert seen[98] == pytest.approx(1.0, rel=0.01)  # given back after the first
    assert seen[168] == pytest.approx(1.0, rel=0.01)  # and after the second
    assert seen[238] == pytest.approx(0.5, rel=0.01)
    assert seen[-1] == pytest.approx(0.125, rel=0.05)
    assert len(heard.notes) == 7  # five halvings, two given back


def test_a_loss_is_a_spike_above_three_standard_deviations():
    from modelforge.train.callbacks.monitors import find_spike

    losses = [0.95, 1.05] * 15
    assert find_spike(losses, 1.14, [], None) == ""
    assert find_spike(losses, 1.16, [], None) == "The loss jumped to 1.16 from about 1.00"


def test_a_spike_does_not_hide_the_next_one():
    _seen, guard, heard = steered({30: 5.0, 100: 1.3}, updates=110)
    assert guard.halvings == 2
    assert "The loss jumped to 1.30" in heard.notes[-1][1]


def test_a_gradient_spike_is_found():
    from modelforge.train.callbacks.monitors import find_spike

    assert find_spike([1.0] * 30, 1.0, [2.0] * 30, 25.0) == (
        "The gradient norm jumped to 12 times its usual value"
    )
    assert find_spike([1.0] * 30, 1.0, [2.0] * 30, 19.0) == ""
    assert find_spike([1.0] * 5, 50.0, [2.0] * 5, 500.0) == ""


def test_the_loss_guard_resumes_from_a_checkpoint():
    from transformers import TrainerState

    from modelforge.train.callbacks.monitors import LossGuard

    _seen, guard, _heard = steered({30: 5.0}, updates=40)
    kept = json.loads(json.dumps(guard.state()))
    assert (guard.halvings, guard.left) == (1, 40)
    again = LossGuard(Heard())
    state = TrainerState(stateful_callbacks=[again])
    state.stateful_callbacks["LossGuard"] = kept
    again.on_train_begin(None, state, None)
    assert (again.halvings, again.left, again.losses) == (1, 40, guard.losses)
    # A checkpoint from before the guard was asked for has nothing of it, and takes it in.
    bare = TrainerState()
    LossGuard(Heard()).on_train_begin(None, bare, None)
    assert "LossGuard" in bare.stateful_callbacks


def test_a_schedule_keeps_a_halved_rate_in_its_own_state():
    import torch
    from transformers import get_linear_schedule_with_warmup

    from modelforge.train.callbacks.monitors import _scale_learning_rate

    def made():
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        return optimizer, get_linear_schedule_with_warmup(optimizer, 0, 100)

    optimizer, schedule = made()
    _scale_learning_rate(schedule, optimizer, 0.5)
    other, resumed = made()
    resumed.load_state_dict(schedule.state_dict())
    other.step()
    resumed.step()
    assert other.param_groups[0]["lr"] == pytest.approx(0.495)


@pytest.mark.parametrize(
    ("settings", "attached"),
    [
        ({}, {"FiniteLossCheck", "PhaseMonitor"}),
        ({"phase_monitor": False}, {"FiniteLossCheck"}),
        ({"loss_guard": True}, {"FiniteLossCheck", "PhaseMonitor", "LossGuard"}),
        ({"early_stopping": True}, {"FiniteLossCheck", "PhaseMonitor", "EarlyStop"}),
    ],
)
def test_only_the_monitors_asked_for_watch_a_run(settings, attached):
    from modelforge.config.schema.config import TrainingConfig
    from modelforge.train.callbacks.monitors import attach

    required = {"task": "text-generation", "model_name": "m", "dataset": "d"}
    values = required | {"compute_specs": "low_end", "evaluation": settings}
    callbacks = []
    trainer = SimpleNamespace(
        add_callback=callbacks.append, args=SimpleNamespace(eval_strategy="steps")
    )
    attach(trainer, TrainingConfig(**values), Heard(), None)
    assert {type(one).__name__ for one in callbacks} == attached


def test_phases_are_noted_during_the_run(bench):
    run = bench.prepare(max_steps=30, learning_rate=0.1, lr_scheduler_type="constant")
    events = bench.work(run)
    noted = notes(events, "phase-")
    assert noted
    assert "Converging: the loss falls, from " in noted[0]
    assert len(noted) <= 3
