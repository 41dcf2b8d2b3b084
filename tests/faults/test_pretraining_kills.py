"""Real workers that train from nothing are killed, and end with the bytes of an unbroken run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts
from tests.actors.points import FROM_NOTHING, struck_at
from tests.faults.nursery import Blow, Nursery
from tests.faults.place import Place, disorder, events_of, until
from tests.train.pretraining.conftest import SETTINGS, prose

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(os.name == "nt", reason="workers are forked, which is POSIX's"),
]
OVER_S = 120.0
# Of 8 steps of 2 micro-batches: in the middle of the sixth, behind the checkpoint of the third.
NTH = {"after a micro-batch": 11, "while tokens are written": 2}


@pytest.fixture
def new_run(place: Place, tmp_path: Path) -> Any:
    """Return a new run from nothing on two texts, made by the services."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for seed in (1, 2):
        (texts / f"{seed}.txt").write_text(prose(300, seed), encoding="utf-8")
    forge = Forge(place.home)
    settings = {**SETTINGS, "dataset": str(texts), "compute_specs": "low_end"}

    def make() -> RunFolder:
        prepared = forge.runs._launcher.prepare(Layer("test", settings))
        return place.store.create(prepared)

    yield make
    forge.close()


def ended(place: Place, nursery: Nursery, run: RunFolder, blow: Blow | None = None) -> RunState:
    """Have a worker work on a run; return the state of the run once the worker has left."""
    supervisor = nursery.start(place, run, blow, again=run.events.exists())
    until(lambda: not read_facts(run).alive, OVER_S, "the worker has left")
    until(lambda: supervisor.state(run).is_over, OVER_S, "the run is over")
    return Supervisor(place.home).state(run)


def curve(run: RunFolder) -> dict[Any, Any]:
    """Return what was measured of each step, of the last worker that made it."""
    names = ("loss", "learning_rate", "tokens", "epoch", "metrics")
    return {
        (event.kind, event.data["step"]): [event.data.get(name) for name in names]
        for event in events_of(run)
        if event.kind in ("step", "eval")
    }


def test_a_worker_that_is_killed_anywhere_ends_with_the_same_bytes(place, nursery, new_run):
    whole = new_run()
    assert ended(place, nursery, whole) is RunState.FINISHED, whole.log.read_text()
    weights = (whole.output / "model.safetensors").read_bytes()
    tokenizer = (whole.output / "tokenizer.json").read_bytes()
    for point in FROM_NOTHING:
        run = new_run()
        state = ended(place, nursery, run, Blow(point, nth=NTH.get(point, 1)))
        assert state is RunState.LOST, f"{point}: {run.log.read_text()}"
        struck_at(run.path).unlink()
        cause = Forge(place.home).diagnosis.cause(run.id)
        assert cause is not None
        assert "killed" in cause.what
        steps = [event.data["step"] for event in events_of(run) if event.kind == "step"]
        assert steps == ([1, 2, 3, 4, 5] if point == "after a micro-batch" else [])
        assert ended(place, nursery, run) is RunState.FINISHED, f"{point}: {run.log.read_text()}"
        assert disorder(events_of(run)) == [], point
        assert curve(run) == curve(whole), point
        assert (run.output / "model.safetensors").read_bytes() == weights, point
        assert (run.output / "tokenizer.json").read_bytes() == tokenizer, point
        assert not run.start_model_staged.exists()
        assert not run.tokens.exists()
