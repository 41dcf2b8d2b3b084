"""Real workers that grow a model are killed, resumed by the app, and end with the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts
from tests.actors.points import GROWING, struck_at
from tests.faults.nursery import Blow, Nursery
from tests.faults.place import Place, events_of, until

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(os.name == "nt", reason="workers are forked, which is POSIX's"),
]
OVER_S = 120.0
# 12 rows are trained, 2 in a step: a stage has an epoch and a third.
ROWS, STEPS = 16, 8
# In the seventh step of the second stage, behind its checkpoints of the third and the sixth.
INSIDE = Blow("inside optimizer.step", nth=STEPS + 7)
Make = Callable[..., RunFolder]


@pytest.fixture
def place(tmp_path: Path, tiny: Path) -> Place:
    """A home with few rows, so that a stage trains some of them twice."""
    return Place.made(tmp_path, tiny, ROWS)


@pytest.fixture
def new_run(place: Place) -> Iterator[Make]:
    """Return a new run that grows by two stages, made by the services."""
    forge = Forge(place.home)

    def make(**group: Any) -> RunFolder:
        growing = {"enabled": True, "stages": 2, "steps_per_stage": STEPS, **group}
        more = {"max_steps": -1, "eval_split": 0.25, "eval_steps": 3, "learning_rate": 0.01}
        settings = place.answers(progressive=growing, **more)
        return place.store.create(forge.runs._launcher.prepare(Layer("test", settings)))

    yield make
    forge.close()


def ended(place: Place, run: RunFolder) -> RunState:
    """Return the state of a run once its worker has left."""
    until(lambda: not read_facts(run).alive, OVER_S, "the worker has left")
    until(lambda: Supervisor(place.home).state(run).is_over, OVER_S, "the run is over")
    return Supervisor(place.home).state(run)


def resumed(place: Place, nursery: Nursery, run: RunFolder) -> RunState:
    """Resume a run by the service, as the page does, and return its state at the end."""
    forge = Forge(place.home)
    nursery.blow = None
    forge.resume._launcher._warm_worker = nursery  # type: ignore[assignment]
    assert forge.resume.resume(run.id) == run.id
    state = ended(place, run)
    forge.close()
    return state


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def curve(run: RunFolder) -> dict[Any, Any]:
    """Return what was measured of each step, of the last worker that made it."""
    names = ("loss", "learning_rate", "tokens", "epoch", "metrics")
    return {
        (event.kind, event.data["stage"], event.data["step"]): [
            event.data.get(name) for name in names
        ]
        for event in events_of(run)
        if event.kind in ("step", "eval")
    }


def whole(place: Place, nursery: Nursery, run: RunFolder) -> RunFolder:
    """Have a worker do a whole run."""
    nursery.start(place, run)
    assert ended(place, run) is RunState.FINISHED, run.log.read_text()
    return run


def killed(place: Place, nursery: Nursery, run: RunFolder, blow: Blow) -> None:
    """Have the worker of a run killed."""
    nursery.start(place, run, blow)
    assert ended(place, run) is RunState.LOST, f"{blow}: {run.log.read_text()}"
    struck_at(run.path).unlink()


def broken(place: Place, nursery: Nursery, run: RunFolder, blow: Blow) -> RunFolder:
    """Have a worker killed in a run, and the run resumed to its end."""
    killed(place, nursery, run, blow)
    assert resumed(place, nursery, run) is RunState.FINISHED, f"{blow}: {run.log.read_text()}"
    return run


def same_end(run: RunFolder, other: RunFolder) -> None:
    """Fail where the results or the curves differ, or where something is left behind."""
    assert files_of(run.output) == files_of(other.output)
    assert curve(run) == curve(other)
    assert run.finished_stages == other.finished_stages
    assert not (run.stage_staged.exists())
    assert not (run.output_staged.exists())
    assert not run.trunk_cache.exists()
    assert [event.n for event in events_of(run)] == list(range(1, len(events_of(run)) + 1))


def test_a_worker_that_is_killed_between_stages_ends_with_the_same_bytes(place, nursery, new_run):
    unbroken = whole(place, nursery, new_run())
    assert unbroken.finished_stages == 1
    for point in GROWING:
        blow = Blow(point, nth=2 if point == "when a stage has its new layers" else 1)
        same_end(broken(place, nursery, new_run(), blow), unbroken)


@pytest.mark.parametrize("caches", [False, True], ids=["plain", "cached"])
def test_a_worker_that_is_killed_inside_a_stage_ends_with_the_same_bytes(
    place, nursery, new_run, caches
):
    unbroken = whole(place, nursery, new_run())
    run = new_run(cache_activations=caches)
    killed(place, nursery, run, INSIDE)
    stored = run.trunk_cache / "rows.jsonl"
    assert (stored.exists() and len(stored.read_text().splitlines()) > 0) is caches
    assert resumed(place, nursery, run) is RunState.FINISHED, run.log.read_text()
    same_end(run, unbroken)


@pytest.mark.parametrize("nth", [STEPS + 7, 2 * STEPS + 4], ids=["stage 2", "joint stage"])
def test_adapters_and_the_joint_stage_end_with_the_same_bytes(place, nursery, new_run, nth):
    group = {"trunk": "lora", "joint_tuning_steps": 6, "save_each_stage": False}
    unbroken = whole(place, nursery, new_run(**group))
    blow = Blow("inside optimizer.step", nth=nth)
    same_end(broken(place, nursery, new_run(**group), blow), unbroken)
