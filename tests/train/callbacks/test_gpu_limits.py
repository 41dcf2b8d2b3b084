"""Ceilings of the GPU: pauses that begin, last and end as a stand-in card says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from modelforge.config.schema.runtime import Hardware
from modelforge.runs.events import EventWriter, read_events
from modelforge.train.stop import Stop, StopRequested

pytestmark = pytest.mark.torch

HOT = Hardware(max_gpu_temperature=80)


class Card:
    """A card whose temperature and power follow a script; the last value stays."""

    def __init__(self, *temperatures: float | None, power: tuple[float | None, ...] = (50,)):
        self._temperatures, self._power = list(temperatures or (40,)), list(power)

    @staticmethod
    def _next(values):
        return values.pop(0) if len(values) > 1 else values[0]

    @property
    def meter(self):
        from modelforge.train.callbacks.gpu_limits import GpuSensors

        return GpuSensors(lambda: self._next(self._temperatures), lambda: self._next(self._power))


class Room:
    """What a training has around it: its events, its stop file, and how long it has slept."""

    def __init__(self, folder):
        from modelforge.train.event_log import EventLog

        self.path, self.stop_file = folder / "events.jsonl", folder / "stop"
        self.log, self.stop = EventLog(EventWriter(self.path)), Stop(self.stop_file)
        self.slept: list[float] = []
        self.resume_clock: list[int] = []

    def ceilings(self, card, hardware=HOT, sleep=None):
        from modelforge.train.callbacks.gpu_limits import GpuLimitCallback, gpu_limits

        return GpuLimitCallback(
            gpu_limits(hardware, card.meter), self.log, self.stop,
            lambda state: self.resume_clock.append(state.global_step), sleep or self.slept.append,
        )  # fmt: skip

    def reported(self, kind) -> list[str]:
        events = read_events(self.path)[0] if self.path.exists() else []
        return [event.data["text"] for event in events if event.kind == kind]


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


STATE = SimpleNamespace(global_step=4, max_steps=9)


def test_training_does_not_pause_below_the_limit(room):
    room.ceilings(Card(80)).on_step_begin(None, STATE, None)
    assert (room.slept, room.resume_clock) == ([], [])


def test_training_pauses_until_the_gpu_has_cooled_down(room):
    card = Card(86, *[82] * 10, *[76] * 10, 75)
    room.ceilings(card).on_step_begin(None, STATE, None)
    assert sum(room.slept) == pytest.approx(21 * 0.5)
    assert room.resume_clock == [4]
    paused = room.reported("phase")[0]
    assert "86 °C" in paused
    assert "limit is 80 °C" in paused


def test_a_pause_has_a_minimum_length(room):
    card = Card(power=(301, 20))
    room.ceilings(card, Hardware(max_gpu_power=300)).on_step_begin(None, STATE, None)
    assert sum(room.slept) == pytest.approx(3.0)
    assert "301 W" in room.reported("phase")[0]


def test_a_long_pause_is_reported_at_intervals(room):
    room.ceilings(Card(*range(150, 90, -1), *range(150, 90, -1), 60)).on_step_begin(
        None, STATE, None
    )
    assert 2 <= len(room.reported("phase")) <= 6


def test_a_stop_request_ends_a_pause(room):
    def sleep(seconds):
        room.slept.append(seconds)
        if len(room.slept) == 3:
            room.stop_file.write_text("keep")

    with pytest.raises(StopRequested):
        room.ceilings(Card(95), sleep=sleep).on_step_begin(None, STATE, None)
    assert len(room.slept) == 3
    assert room.resume_clock == []


def test_a_limit_that_cannot_be_measured_is_noted_and_ignored(room):
    ceilings = room.ceilings(Card(None))
    ceilings.on_train_begin(None, STATE, None)
    ceilings.on_step_begin(None, STATE, None)
    assert room.slept == []
    assert "is ignored" in room.reported("note")[0]


def test_training_continues_when_the_sensor_fails_in_a_pause(room):
    room.ceilings(Card(90, None)).on_step_begin(None, STATE, None)
    assert room.resume_clock == [4]


@pytest.fixture
def trainer(tmp_path) -> Iterator[object]:
    """A trainer of one weight, three updates, without anything of ours."""
    import torch
    from transformers import Trainer, TrainingArguments

    class One(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return {"loss": (self.weight * x).mean()}

    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=3, logging_steps=1, report_to="none",
        use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    return Trainer(One(), arguments, train_dataset=[{"x": 1.0}] * 8)


def test_a_pause_is_not_counted_as_training_time(room, trainer):
    from modelforge.train.callbacks.reporter import EventReporter
    from modelforge.train.callbacks.system_stats import SystemStats

    facts = {
        "steps_per_epoch": 1, "train_rows": 8, "eval_rows": 0, "trainable_parameters": 1,
        "total_parameters": 1, "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    reporter = EventReporter(room.log, room.stop, SystemStats("cpu"), facts)
    ceilings = room.ceilings(Card(70, 70, 90, 60), sleep=lambda _seconds: time.sleep(0.1))
    ceilings.on_resume = reporter.resume_clock
    trainer.add_callback(reporter)
    trainer.add_callback(ceilings)
    began = time.monotonic()
    trainer.train()
    assert time.monotonic() - began > 0.6
    events = read_events(room.path)[0]
    steps = [event.data["seconds"] for event in events if event.kind == "step"]
    assert len(steps) == 3
    assert max(steps[1:]) < 0.3, "the pause is in the time of an update"
    phases = [event.data["name"] for event in events if event.kind == "phase"]
    assert phases.index("paused") < len(phases) - 1 - phases[::-1].index("training")


def test_gpu_limits_are_used_on_cuda_only():
    from modelforge.train.callbacks.gpu_limits import GpuLimitCallback
    from modelforge.train.loop import add_gpu_limits

    def added(device, hardware):
        callbacks = []
        job = SimpleNamespace(
            plan=SimpleNamespace(device=device), config=SimpleNamespace(hardware=hardware)
        )
        work = SimpleNamespace(job=job, log=None, stop=None)
        trainer = SimpleNamespace(add_callback=callbacks.append)
        add_gpu_limits(work, trainer, SimpleNamespace(resume_clock=None))
        return callbacks

    assert added("cpu", HOT) == []
    assert added("cuda", Hardware()) == []
    assert isinstance(added("cuda", HOT)[0], GpuLimitCallback)


def test_sensors_are_unknown_without_a_driver():
    import torch

    from modelforge.train.callbacks.gpu_limits import nvml_sensors

    if torch.cuda.is_available():
        pytest.skip("there is a card to measure")
    assert (nvml_sensors().temperature(), nvml_sensors().power()) == (None, None)
