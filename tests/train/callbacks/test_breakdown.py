"""Time and memory of a real, tiny training by part."""

from __future__ import annotations

import time

import pytest
import torch

from modelforge.train.callbacks.memory_breakdown import storage_bytes
from modelforge.train.callbacks.time_breakdown import PartClock

pytestmark = pytest.mark.torch


def data_of(events, kind):
    return [event.data for event in events if event.kind == kind]


def test_the_time_of_each_part_is_measured(bench, monkeypatch):
    """A delay that is put into one part is found in that part alone."""
    from modelforge.train.strategies.sft import SftTrainer

    delays = {"compute_loss": 0.15, "evaluate": 0.3, "get_batch_samples": 0.1}
    for name, seconds in delays.items():
        true = getattr(SftTrainer, name)

        def slow(self, *args, _true=true, _seconds=seconds, **kwargs):
            time.sleep(_seconds)
            return _true(self, *args, **kwargs)

        monkeypatch.setattr(SftTrainer, name, slow)
    settings = {"eval_split": 0.25, "eval_steps": 2, "trainer": {"save_steps": 2}}
    run = bench.prepare(max_steps=4, logging={"time_breakdown": True}, **settings)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    written = data_of(events, "time_breakdown")[-1]
    parts = written["parts"]
    assert written["step"] == 4
    assert set(parts) >= {"loading", "data", "forward", "backward", "optimizer", "saving"}
    # Four steps, and at least two evaluations, each of which computes losses too.
    assert 0.6 <= parts["forward"] < 0.6 + 2
    assert 0.4 <= parts["data"] < 0.4 + 1
    assert parts["evaluation"] >= 2 * 0.3 + 2 * 0.15
    assert "generation" not in parts
    # Nothing is counted twice: the parts of the loop take as long as the training.
    times = [event.t for event in events if event.kind in ("plan", "time_breakdown")]
    loop = sum(value for name, value in parts.items() if name != "loading")
    assert loop == pytest.approx(times[-1] - times[0], abs=0.5)


def test_the_memory_of_each_part_is_measured(bench):
    run = bench.prepare(max_steps=2, optim="adamw_torch", logging={"memory_breakdown": True})
    events = bench.work(run)
    written = data_of(events, "memory_breakdown")[-1]
    parts, [plan] = written["parts"], data_of(events, "plan")
    trained = plan["trainable_parameters"] * 4 / 2**30
    frozen = (plan["total_parameters"] - plan["trainable_parameters"]) * 4 / 2**30
    assert parts["adapter"] == pytest.approx(trained, abs=1e-4)
    assert parts["weights"] == pytest.approx(frozen, abs=2e-3)
    assert parts["gradients"] == pytest.approx(trained, abs=1e-4)
    # Two moments of the size of the weights, and a counter per tensor.
    assert parts["optimizer"] == pytest.approx(2 * trained, abs=1e-3)
    assert sum(parts.values()) == pytest.approx(written["peak_gib"], abs=1e-2)
    assert written["peak_gib"] > 0.2


def test_without_the_settings_nothing_is_measured(bench):
    events = bench.work(bench.prepare(max_steps=1))
    assert not data_of(events, "time_breakdown")
    assert not data_of(events, "memory_breakdown")


def test_the_clock_gives_each_part_the_time_since_the_mark_before(monkeypatch):
    now = iter([1.0, 3.0, 4.0, 10.0])
    monkeypatch.setattr(
        "modelforge.train.callbacks.time_breakdown.synchronized_time", lambda _device: next(now)
    )
    clock = PartClock("cpu")
    clock.mark("never")
    clock.mark("data")
    clock.mark("forward")
    clock.is_paused = True
    clock.mark("forward")
    clock.is_paused = False
    clock.mark("evaluation")
    assert clock.seconds() == {"data": 2.0, "forward": 1.0, "evaluation": 6.0}
    assert clock.seconds() == clock.seconds()


def test_the_clock_of_a_gpu_waits_only_when_it_is_read(monkeypatch):
    waited, made = [], iter(range(100))

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.at = next(made)

        def record(self):
            pass

        def synchronize(self):
            waited.append(self.at)

        def elapsed_time(self, end):
            return 1000.0 * (end.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock = PartClock("cuda")
    for part in ("begin", "data", "forward"):
        clock.mark(part)
    assert waited == []
    assert clock.seconds() == {"data": 1.0, "forward": 1.0}
    assert waited == [2]


def test_tensors_that_share_memory_count_once():
    weight = torch.zeros(10, 4)
    assert storage_bytes([weight, weight[:2], weight.view(40)]) == 160
    assert storage_bytes([torch.zeros(4, device="meta")]) == 0


def test_a_quantized_tensor_counts_as_it_is_stored():
    torchao = pytest.importorskip("torchao.quantization")
    layer = torch.nn.Linear(64, 32, bias=False)
    plain = storage_bytes(layer.parameters())
    torchao.quantize_(layer, torchao.Int8WeightOnlyConfig())
    # One byte per weight, and a scale for each of the 32 rows.
    assert storage_bytes(layer.parameters()) == pytest.approx(plain / 4 + 32 * 4, abs=64)
