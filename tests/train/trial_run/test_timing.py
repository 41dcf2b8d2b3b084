"""The time of a step on a device that works asynchronously, played with a clock of our own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.torch

ACCUMULATION = 16
# Seconds of a batch: to launch it, and then on the device; and of the optimizer.
LAUNCH, DEVICE, OPTIMIZER = 0.05, 0.45, 0.2


class PlayedQueue:
    """A device that does what was launched while the host is elsewhere or waits."""

    def __init__(self):
        self.now = self.done_at = 0.0

    def launch(self, host, device):
        self.now += host
        self.done_at = max(self.done_at, self.now) + device

    def synchronize(self):
        self.now = max(self.now, self.done_at)


@pytest.fixture
def queue(monkeypatch):
    import torch

    from modelforge.train.callbacks import system_stats

    played = PlayedQueue()
    monkeypatch.setattr(torch.cuda, "synchronize", played.synchronize)
    clock = SimpleNamespace(perf_counter=lambda: played.now, monotonic=lambda: played.now)
    monkeypatch.setattr(system_stats, "time", clock)
    return played


def test_the_step_of_a_run_takes_what_was_predicted_with_accumulation(queue):
    from modelforge.train.trial_run.run import StepTimer, _step_seconds
    from modelforge.train.trial_run.sampling import BatchSample

    stop = SimpleNamespace(check=lambda: None)
    log = SimpleNamespace(phase=lambda *_args, **_kwargs: None)
    job = SimpleNamespace(plan=SimpleNamespace(device="cuda"))
    timer = StepTimer(SimpleNamespace(stop=stop, log=log, job=job), 1, 6, _began=0.0)
    trainer = SimpleNamespace(
        training_step=lambda: queue.launch(LAUNCH, DEVICE), add_callback=lambda _one: None
    )
    timer.attach(trainer)
    for step in range(1, 7):
        timer.on_step_begin()
        trainer.training_step()
        queue.launch(0.0, OPTIMIZER)
        # As Trainer does: it reads the number of tokens, and waits for the device with it.
        queue.synchronize()
        timer.on_step_end(None, SimpleNamespace(global_step=step), SimpleNamespace())
    sizes = [100] * 6
    sample = BatchSample(
        rows=[0], sizes=sizes, accumulation=1, worst_steps=1, usual_steps=5,
        mean_size=100, mean_tokens=100, epoch_batches=ACCUMULATION,
    )  # fmt: skip
    predicted = _step_seconds(sample, timer, ACCUMULATION)["seconds_per_update"]
    assert predicted == pytest.approx(ACCUMULATION * (LAUNCH + DEVICE) + OPTIMIZER, rel=0.01)
