"""A run that was ended and went on is the run that was never ended, to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelforge.runs.checkpoints import listed, newest_valid, verify
from modelforge.runs.events import last_number, read_events
from modelforge.runs.layout import write_json

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PREFERRED = [
    {"prompt": f"What is {n}?", "chosen": f"It is {n}, of course.", "rejected": "No idea at all"}
    for n in range(12)
]
# Two epochs of four updates, two batches each, checked and saved after every third.
SHORT: dict[str, Any] = {
    "max_steps": 8,
    "gradient_accumulation_steps": 2,
    "eval_split": 0.1,
    "eval_steps": 3,
    "lora_dropout": 0.2,
    "learning_rate": 0.002,
}


class Killed(BaseException):
    """As sudden as a kill: nothing of ours sees it."""


@pytest.fixture
def at(monkeypatch):
    """Do something when the loop of a training has come to an update."""

    def arrange(hook: str, step: int, act: Any, stage: int | None = None) -> None:
        from modelforge.train.reporter import Reporter

        true = getattr(Reporter, hook)

        def hooked(self, args, state, control, **more):
            here = stage is None or self._stage.get("stage") == stage
            if state.global_step == step and here:
                monkeypatch.setattr(Reporter, hook, true)
                act()
            return true(self, args, state, control, **more)

        monkeypatch.setattr(Reporter, hook, hooked)

    return arrange


def kill() -> None:
    raise Killed


def again(bench, run):
    """Start the run once more, as the supervisor does, and return what it says then."""
    run.stop.unlink(missing_ok=True)
    before = last_number(run.events)
    write_json(run.process, {"after": before})
    bench.work(run)
    return [event for event in read_events(run.events)[0] if event.n > before]


def told(events, kind):
    return [event.data for event in events if event.kind == kind]


def adapter(run) -> bytes:
    return (run.output / "adapter_model.safetensors").read_bytes()


def course(events) -> list[Any]:
    """Return what was measured of every update and check, without the clock and the machine."""
    points: dict[tuple[Any, ...], Any] = {}
    for event in events:
        data = event.data
        if event.kind == "resumed":
            stage = data["stage"] or 1
            points = {
                key: point
                for key, point in points.items()
                if key[0] < stage or (key[0] == stage and key[2] <= data["step"])
            }
        elif event.kind in ("step", "eval"):
            names = ("loss", "learning_rate", "grad_norm", "tokens", "metrics", "best", "epoch")
            point = {name: data.get(name) for name in names}
            point["metrics"].pop("step_time", None)
            points[(data.get("stage", 1), event.kind, data["step"])] = point
    return sorted(points.items())


def same(whole, broken) -> None:
    assert course(read_events(broken.events)[0]) == course(read_events(whole.events)[0])
    assert adapter(broken) == adapter(whole)


WAYS = {
    "group_by_length": {},
    "shuffled": {"group_by_length": False},
    "packing": {"packing": True, "max_seq_length": 40, "group_by_length": False},
    "between-epochs": {"eval_steps": 4},
    "noise-and-rare-logs": {
        "trainer": {"neftune_noise_alpha": 5},
        "logging": {"logging_steps": 4},
        "lr_scheduler_type": "linear",
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_killed_in_its_second_epoch_goes_on_as_if_it_had_not_been(bench, at, way):
    whole = bench.prepare(**SHORT | WAYS[way])
    assert bench.work(whole)[-1].kind == "finished"
    run = bench.prepare(**SHORT | WAYS[way])
    at("on_step_end", 7, kill)
    with pytest.raises(Killed):
        bench.work(run)
    events = again(bench, run)
    (resumed,) = told(events, "resumed")
    step = 4 if way == "between-epochs" else 6
    name = f"checkpoint-{step}"
    assert resumed == {"step": step, "stage": None, "checkpoint": name, "damaged": []}
    assert events[-1].kind == "finished"
    same(whole, run)
