"""No room on the disk, no memory: said by name, with nothing lost that was there before."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from modelforge.config.resolve import Layer
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.layout import RunFolder
from modelforge.runs.states import RunState, read_facts
from tests.actors.points import fill_the_disk
from tests.faults.nursery import Blow, Nursery
from tests.faults.place import SLACK, Place, Tally, disorder, events_of, until

TOLD_S = 5.0 * SLACK
OVER_S = 60.0
DISK_MIB = 48
ADAPTER = "adapter_model.safetensors"


def why_no_small_disk() -> str:
    """Return why no disk of a few MiB can be had here, or nothing."""
    if not sys.platform.startswith("linux"):
        return "a small disk is made with tmpfs, which is Linux's"
    if os.geteuid() != 0:
        return "mounting a small tmpfs needs root"
    with tempfile.TemporaryDirectory() as folder:
        done = _mount(Path(folder))
        if done.returncode:
            return f"no tmpfs can be mounted: {done.stderr.strip()}"
        _unmount(Path(folder))
    return ""


@contextmanager
def small_disk(root: Path) -> Iterator[Path]:
    """Yield a folder on a disk of its own with little room."""
    folder = root / "small"
    folder.mkdir()
    done = _mount(folder)
    assert not done.returncode, done.stderr
    try:
        yield folder
    finally:
        _unmount(folder)


def disk_full(place: Place, nursery: Nursery, times: int, seed: int) -> Tally:
    """Fill the disk that the home of `place` lies on at each point, `times` times."""
    tally = Tally("disk full", seed)
    whole = place.new_run(max_steps=2)
    nursery.start(place, whole)
    until(lambda: not read_facts(whole).alive, OVER_S, "a first run finishes")
    before = _prints(whole.path)
    for _ in range(times):
        for case, part in (_SERVER | dict.fromkeys(_WORKER, _in_the_worker)).items():
            began = time.monotonic()
            try:
                faults = part(place, nursery, case)
            finally:
                _free(place)
            if _prints(whole.path) != before:
                faults.append("the run that had finished has changed")
            tally.add(case, faults, seconds=round(time.monotonic() - began, 2))
            _clear(place, whole)
    return tally


def _in_the_worker(place: Place, nursery: Nursery, case: str) -> list[str]:
    run = place.new_run(max_steps=6, eval_steps=2)
    supervisor = nursery.start(place, run, Blow(_WORKER[case], "fill", nth=_NTH.get(case, 1)))
    until((place.home.root / "ballast").exists, OVER_S, "the disk is full")
    began = time.monotonic()
    until(lambda: not read_facts(run).alive, OVER_S, "the worker has ended")
    reported_s = time.monotonic() - began
    state, ending = supervisor.state(run), events_of(run)[-1]
    faults = disorder(events_of(run))
    if reported_s > TOLD_S:
        faults.append(f"reported after {reported_s:.1f} s")
    if case in _ALL_IS_DONE:
        return faults if state is RunState.FINISHED else [*faults, f"the run is {state}"]
    if state is not RunState.FAILED or ending.data["cause"] != "disk-full":
        faults.append(f"the run is {state}, and says {ending.data}")
    _free(place)
    nursery.start(place, run, again=True)
    until(lambda: not read_facts(run).alive, OVER_S, "the resumed worker has ended")
    if supervisor.state(run) is not RunState.FINISHED:
        faults.append(f"resumed with room on the disk, the run is {supervisor.state(run)}")
    resumed = [event.data["step"] for event in events_of(run) if event.kind == "resumed"]
    if case in _NTH and resumed != [2]:
        faults.append(f"it went on from {resumed}")
    return faults


def _upload(place: Place, _nursery: Nursery, _case: str) -> list[str]:
    _fill(place)
    forge = Forge(place.home)
    pieces = iter([b'{"input": "a", "output": "b"}\n' * 1000] * 50)
    faults = _refused(lambda: forge.datasets.upload("rows.jsonl", pieces, 2**30))
    forge.close()
    left = [path.name for path in place.home.uploads.rglob("*") if path.is_file()]
    return [*faults, *(["something of the upload is left"] if left else [])]


def _record(place: Place, _nursery: Nursery, _case: str) -> list[str]:
    before = {path.name for path in place.home.runs.iterdir()}
    forge = Forge(place.home)
    layer = Layer("body", place.answers())
    forge.preflight.check(layer)
    _fill(place)
    faults = _refused(lambda: forge.runs.start(layer))
    forge.close()
    left = {path.name for path in place.home.runs.iterdir()} - before
    return [*faults, *([f"{len(left)} folders are left"] if left else [])]


def _launch(place: Place, nursery: Nursery, _case: str) -> list[str]:
    run = place.new_run()
    _fill(place)
    faults = _refused(lambda: nursery.start(place, run))
    if read_facts(run).launched or read_facts(run).alive:
        faults.append("it counts as launched")
    _free(place)
    supervisor = nursery.start(place, run)
    until(lambda: supervisor.state(run) is RunState.FINISHED, OVER_S, "it finishes afterwards")
    return faults


_SERVER: dict[str, Callable[[Place, Nursery, str], list[str]]] = {
    "at an upload": _upload,
    "at the run's record": _record,
    "at the launch": _launch,
}
_WORKER = {
    "at the tokens": "turning rows into tokens",
    "at an update": "inside optimizer.step",
    "at a checkpoint": "between weights and optimizer",
    "at the final save": "in the final save",
    "at the last event": "between final save and last event",
}
# The output is in place; only the word is missing, for which room was held.
_ALL_IS_DONE = {"at the last event"}
# The second, so that there is a whole one to go on from.
_NTH = {"at a checkpoint": 2}


def _refused(act: Callable[[], Any]) -> list[str]:
    began = time.monotonic()
    try:
        act()
    except ForgeError as error:
        words = " ".join(f"{each.what} {each.remedy}" for each in error.problems)
        faults = (
            [] if "full" in words or "space" in words or "free" in words else [f"said {words!r}"]
        )
        return faults + ([] if time.monotonic() - began < TOLD_S else ["refused late"])
    return ["it was not refused"]


def memory(place: Place, nursery: Nursery, times: int, seed: int) -> Tally:
    """Let memory run out in an update: the GPU's, and the computer's."""
    tally = Tally("out of memory", seed)
    rng = tally.rng
    for _ in range(times):
        for case, deed, words in (("GPU", "cuda", "GPU"), ("computer", "host", "computer")):
            run = place.new_run(max_steps=6, memory={"autopilot": False})
            nth = rng.randint(1, 6)
            supervisor = nursery.start(place, run, Blow("in the first update", deed, nth))
            until(lambda: not read_facts(run).alive, OVER_S, "the worker has ended")  # noqa: B023
            faults = disorder(events_of(run))
            ending = events_of(run)[-1]
            if supervisor.state(run) is not RunState.FAILED:
                faults.append(f"the run is {supervisor.state(run)}")
            elif "out-of-memory" not in ending.data["cause"] or words not in ending.data["what"]:
                faults.append(f"it says {ending.data['cause']}: {ending.data['what']}")
            elif not ending.data["remedy"]:
                faults.append("there is no remedy")
            tally.add(f"the memory of the {case}", faults, update=nth)
            place.store.delete(run.id)
    return tally


def autopilot(place: Place, nursery: Nursery, times: int, seed: int) -> Tally:
    """Let memory run out for good in an update; the run is to end as the undisturbed one does."""
    tally = Tally("memory autopilot", seed)
    rng = tally.rng
    large = {"per_device_train_batch_size": 8, "max_steps": 6, "lora_dropout": 0.0}
    plain = place.new_run(**large)
    nursery.start(place, plain)
    until(lambda: not read_facts(plain).alive, OVER_S, "the undisturbed run finishes")
    for _ in range(times):
        for case, deed in (("GPU", "small-card"), ("computer", "small-host")):
            run = place.new_run(**large)
            nth = rng.randint(1, 5)
            supervisor = nursery.start(place, run, Blow("in the first update", deed, nth))
            until(lambda: not read_facts(run).alive, OVER_S, "the worker has ended")  # noqa: B023
            events = events_of(run)
            faults = [*disorder(events), *_unlike(plain, run)]
            if supervisor.state(run) is not RunState.FINISHED:
                faults.append(f"the run is {supervisor.state(run)}: {events[-1].data}")
            adjusted = [event.data for event in events if event.kind == "adjusted"]
            if not adjusted:
                faults.append("memory never ran out")
            elif any(a["micro_batch"] * a["accumulation"] != 8 for a in adjusted):
                faults.append(f"another number of rows: {adjusted}")
            tally.add(f"too little memory of the {case}", faults, update=nth, turns=len(adjusted))
            place.store.delete(run.id)
    return tally


def _unlike(plain: RunFolder, run: RunFolder) -> list[str]:
    """Return in what a run has learned anything else, beyond the rounding of another order."""
    pairs = zip(*(_steps(each) for each in (plain, run)), strict=False)
    faults = [f"update {a['step']}: loss {a['loss']} and {b['loss']}"
              for a, b in pairs
              if abs(a["loss"] - b["loss"]) > 1e-4 or a["tokens"] != b["tokens"]]  # fmt: skip
    if not (run.output / ADAPTER).is_file():
        return [*faults, "there is no adapter"]
    ours, theirs = (load_file(each.output / ADAPTER) for each in (plain, run))
    apart = max(float(np.abs(value - theirs[name]).max()) for name, value in ours.items())
    return faults if apart < 1e-4 else [*faults, f"weights differ by {apart:.1e}"]


def _steps(run: RunFolder) -> list[dict[str, Any]]:
    return [event.data for event in events_of(run) if event.kind == "step"]


def _fill(place: Place) -> None:
    place.home.root.mkdir(parents=True, exist_ok=True)
    fill_the_disk(place.home.root)()


def _free(place: Place) -> None:
    (place.home.root / "ballast").unlink(missing_ok=True)


def _clear(place: Place, keep: RunFolder) -> None:
    for run in place.store.list():
        if run.id != keep.id:
            place.store.delete(run.id)


def _prints(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _mount(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None:
        return subprocess.CompletedProcess(command, 1, "", "there is no mount")
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=False)
