"""The worker is killed: the run says so at once, and goes on to the very bytes it was going to."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from typing import Any

from modelforge.forge import Forge
from modelforge.runs.checkpoints import newest_valid
from modelforge.runs.events import EventRecord
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts
from tests.actors.points import POINTS, struck_at
from tests.faults.nursery import Blow, Nursery
from tests.faults.place import SLACK, Place, Tally, disorder, events_of, steps_of, until

SAID_S = 5.0 * SLACK
OVER_S = 60.0
EVERY = 2
SHORT = {"max_steps": 8, "eval_steps": EVERY}
# Settings whose state is the harder to take up again.
WAYS: tuple[dict[str, Any], ...] = (
    {"lora_dropout": 0.2, "eval_split": 0.1},
    {"gradient_accumulation_steps": 2, "eval_split": 0.1, "max_steps": 12},
    {"group_by_length": True, "lora_dropout": 0.1},
    {"packing": True, "max_seq_length": 64},
    {"lr_scheduler_type": "linear", "max_steps": 40},
)
# A worker is beyond its last word there: what it was asked to do is done.
DONE = {"between last event and last act"}


@dataclass(frozen=True)
class Whole:
    """The run that was left alone: what the others are to become."""

    adapter: bytes
    course: dict[int, Any]
    seconds: float

    @classmethod
    def of(cls, place: Place, nursery: Nursery, **answers: Any) -> Whole:
        """Have the run, and keep what it came to."""
        began = time.monotonic()
        run = place.new_run(**answers)
        supervisor = nursery.start(place, run)
        until(lambda: supervisor.state(run).is_over, OVER_S, "the run left alone is over")
        assert supervisor.state(run) is RunState.FINISHED, run.log.read_text()
        took = time.monotonic() - began
        return cls(_adapter(run), _course(events_of(run)), took)


def kills(place: Place, nursery: Nursery, times: int, seed: int) -> Tally:
    """Kill `times` workers, by turns at a random moment and at the next named point."""
    tally = Tally("worker kills", seed)
    rng = tally.rng
    whole = Whole.of(place, nursery, **SHORT)
    points = list(POINTS)
    for number in range(times):
        run = place.new_run(**SHORT)
        if number % 2:
            case = points[(number // 2) % len(points)]
            blow = Blow(case, nth=_nth(case, rng))
            supervisor = nursery.start(place, run, blow)
        else:
            case = "at a random moment"
            supervisor = nursery.start(place, run)
            time.sleep(rng.uniform(0.0, whole.seconds))
            _kill(run)
        faults, figures = _faults_of_the_dead(place, supervisor, run, case)
        faults += _gone_on(place, nursery, run, whole, rng)
        tally.add(case, faults, **figures)
        struck_at(run.path).unlink(missing_ok=True)
        place.store.delete(run.id)
    return tally


def resumes(place: Place, nursery: Nursery, times: int, seed: int) -> Tally:
    """Interrupt `times` runs of different kinds once or more, and compare with runs left alone."""
    tally = Tally("resumed equals uninterrupted", seed)
    rng = tally.rng
    for number in range(times):
        answers = {**SHORT, **WAYS[number % len(WAYS)]}
        answers["trainer"] = {"seed": rng.randrange(1000)}
        whole = Whole.of(place, nursery, **answers)
        run = place.new_run(**answers)
        last, struck = int(answers["max_steps"]), []
        step = rng.randint(EVERY + 1, last)
        nursery.start(place, run, Blow("inside optimizer.step", nth=step))
        struck.append(step)
        until(lambda: not read_facts(run).alive, OVER_S, "the worker is dead")  # noqa: B023
        faults = _gone_on(place, nursery, run, whole, rng)
        tally.add(f"{WAYS[number % len(WAYS)]}", faults, killed_in_update=struck[0])
        struck_at(run.path).unlink(missing_ok=True)
        place.store.delete(run.id)
    return tally


def _nth(point: str, rng: random.Random) -> int:
    """Return the how-manieth time to strike at a point that is passed more than once."""
    if point == "inside optimizer.step":
        return rng.randint(1, 8)
    if point.startswith(("between weights", "between optimizer", "before the")):
        return rng.randint(1, 4)
    return 1


def _kill(run: RunFolder) -> None:
    who = read_facts(run).process
    if who is not None and who.alive:
        struck_at(run.path).write_text(str(time.monotonic()), encoding="utf-8")
        os.kill(who.pid, signal.SIGKILL)


def _faults_of_the_dead(
    place: Place, supervisor: Supervisor, run: RunFolder, case: str
) -> tuple[list[str], dict[str, Any]]:
    """Return what is said wrong of a run whose worker was killed, and what it has lost."""
    until(lambda: not read_facts(run).alive, OVER_S, "the worker is dead")
    # The clock starts with the signal; a worker that had ended before was not struck.
    clock = struck_at(run.path)
    struck = float(clock.read_text("utf-8")) if clock.is_file() else time.monotonic()
    until(lambda: supervisor.state(run).is_over, SAID_S, "the run is known to be over")
    said_s = time.monotonic() - struck
    events = events_of(run)
    ended = bool(events) and events[-1].kind == "finished"
    wanted = RunState.FINISHED if ended or case in DONE else RunState.LOST
    faults = disorder(events)
    if supervisor.state(run) is not wanted:
        faults.append(f"the run is {supervisor.state(run)}, not {wanted}")
    elif wanted is RunState.LOST:
        faults += _cause_faults(place, run)
    steps = steps_of(events)
    found, _ = newest_valid(run)
    lost = (steps[-1] if steps else 0) - (found.step if found else 0)
    if lost > EVERY:
        faults.append(f"{lost} updates are lost")
    return faults, {"said_s": round(said_s, 3), "updates_lost": lost}


def _cause_faults(place: Place, run: RunFolder) -> list[str]:
    """Return what is wrong with the cause that is told; who was not its parent knows no signal."""
    cause = Forge(place.home).diagnosis.cause(run.id)
    if cause is None or "killed" not in cause.what or not cause.remedy:
        return [f"the cause is {cause}"]
    return []


def _gone_on(
    place: Place, nursery: Nursery, run: RunFolder, whole: Whole, rng: random.Random
) -> list[str]:
    """Resume the run until it is over, with another kill now and then; return what is wrong."""
    supervisor = Supervisor(place.home)
    for _ in range(6):
        if supervisor.state(run) is RunState.FINISHED:
            break
        nursery.start(place, run, again=True)
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0.0, whole.seconds))
            _kill(run)
        until(lambda: not read_facts(run).alive, OVER_S, "the resumed worker has ended")
    if supervisor.state(run) is not RunState.FINISHED:
        return [f"resumed, the run is {supervisor.state(run)}"]
    until(lambda: not read_facts(run).alive, OVER_S, "the worker has left")
    faults = disorder(events_of(run))
    if _adapter(run) != whole.adapter:
        faults.append("the adapter has other bytes than the one that was never interrupted")
    if _course(events_of(run)) != whole.course:
        faults.append("losses or rates differ from those that were never interrupted")
    hidden = [path.name for path in run.path.rglob(".*") if path.name != ".output-staged"]
    if left := [name for name in hidden if name.startswith((".staged-", ".gone-"))]:
        faults.append(f"left behind: {left}")
    return faults


def _adapter(run: RunFolder) -> bytes:
    return (run.output / "adapter_model.safetensors").read_bytes()


def _course(events: list[EventRecord]) -> dict[int, Any]:
    """Return loss, rate and gradient of every update, as it stands after all resumptions."""
    course: dict[int, Any] = {}
    for event in events:
        if event.kind == "resumed":
            course = {
                step: reported for step, reported in course.items() if step <= event.data["step"]
            }
        elif event.kind == "step":
            names = ("loss", "learning_rate", "grad_norm", "tokens", "epoch")
            course[event.data["step"]] = [event.data.get(name) for name in names]
    return course
