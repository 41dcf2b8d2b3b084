"""Checkpoints that were damaged on the disk: none is used, and the newest whole one is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelforge.runs.checkpoints import MANIFEST, newest_valid, verify
from modelforge.runs.layout import RunFolder
from modelforge.runs.states import read_facts
from tests.faults.nursery import Blow, Nursery
from tests.faults.place import Place, Tally, events_of, until

OVER_S = 60.0
# Each so manieth is not only looked at but gone on from, by a real worker.
RESUMED_EVERY = 12


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _zero(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def _flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


WAYS: dict[str, Callable[[Path], None]] = {
    "truncated": _truncate,
    "zeroed": _zero,
    "one bit flipped": _flip,
    "deleted": Path.unlink,
}


@dataclass(frozen=True)
class Case:
    """Which file of which checkpoint is damaged, and how."""

    way: str
    name: str
    file: str


def play(place: Place, nursery: Nursery, times: int, seed: int) -> Tally:
    """Damage `times` files of real checkpoints, one at a time, newest and the one before."""
    tally = Tally("damaged checkpoints", seed)
    run = _a_run_with_checkpoints(place, nursery)
    found, damaged = newest_valid(run)
    assert found is not None, "there is a checkpoint"
    assert not damaged
    newest, before = _names(run)
    kept = run.path / "kept"
    shutil.copytree(run.checkpoints, kept)
    cases = [
        Case(way, name, file.relative_to(kept / name).as_posix())
        for name in (newest, before)
        for file in sorted((kept / name).rglob("*"))
        if file.is_file() and file.stat().st_size
        for way in WAYS
    ]
    chosen = tally.rng.sample(cases, min(times, len(cases)))
    for number, case in enumerate(chosen, start=1):
        WAYS[case.way](run.checkpoints / case.name / case.file)
        faults = _faults(run, case, newest, before)
        if number % RESUMED_EVERY == 0:
            faults += _resumed_faults(place, nursery, run, case, newest, before)
        which = "newest" if case.name == newest else "one before"
        tally.add(f"{case.file} of the {which}: {case.way}", faults)
        shutil.rmtree(run.checkpoints)
        shutil.copytree(kept, run.checkpoints)
    return tally


def _a_run_with_checkpoints(place: Place, nursery: Nursery) -> RunFolder:
    run = place.new_run(max_steps=6, eval_steps=2)
    nursery.start(place, run, Blow("in the final save"))
    until(lambda: not read_facts(run).alive, OVER_S, "the worker is dead")
    return run


def _names(run: RunFolder) -> list[str]:
    steps = sorted(int(path.name.split("-")[1]) for path in run.checkpoints.glob("checkpoint-*"))
    return [f"checkpoint-{step}" for step in steps[:-3:-1]]


def _faults(run: RunFolder, case: Case, newest: str, before: str) -> list[str]:
    found, damaged = newest_valid(run)
    wanted = before if case.name == newest else newest
    faults = []
    if found is None or found.name != wanted:
        faults.append(f"{found.name if found else 'none'} is chosen, not {wanted}")
    damage = verify(run.checkpoints / case.name)
    if damage is None:
        faults.append("the damage is not seen")
    elif case.file != MANIFEST and damage.file != case.file:
        faults.append(f"{damage.file} is named, not {case.file}")
    if case.name == newest and [each.name for each in damaged] != [newest]:
        faults.append(f"named as damaged: {damaged}")
    return faults


def _resumed_faults(
    place: Place, nursery: Nursery, run: RunFolder, case: Case, newest: str, before: str
) -> list[str]:
    """Go on from there, to the first update after it."""
    count = len(events_of(run))
    # From the newest there is no update left to make.
    point = "in the first update" if case.name == newest else "in the final save"
    nursery.start(place, run, Blow(point), again=True)
    until(lambda: not read_facts(run).alive, OVER_S, "the resumed worker has ended")
    resumed = [event.data for event in events_of(run)[count:] if event.kind == "resumed"]
    wanted = before if case.name == newest else newest
    if not resumed or resumed[0]["checkpoint"] != wanted:
        return [f"the worker went on from {resumed}"]
    named = [each["name"] for each in resumed[0]["damaged"]]
    return [] if named == ([newest] if case.name == newest else []) else [f"it named {named}"]
