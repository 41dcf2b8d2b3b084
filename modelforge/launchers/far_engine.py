"""What an engine starts that offers jobs and no shell: prepare, train, stop. Standard library only.

    python far_engine.py prepare HOME KEY PYTHON   code, environment, hardware
    python far_engine.py train HOME KEY PYTHON RUN the run, in the files beside this one
    python far_engine.py stop HOME RUN MODE        the stop file

It stands beside `far.py`, `far_parts.py` and the files of a bundle, in the working folder of the
job. Answers are lines of the output that begin with `MARK`. While a run trains, its events and its
log are also in parts of `PART_BYTES`, so that what is new can be read without an offset.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import far
from far_parts import MARK, PART_BYTES, PARTS

FOLLOWED = {"events": "events.jsonl", "log": "worker.log"}
POLL_S = 0.5
# What is brought with each run; the rest of a run folder there is older.
BROUGHT = ("code", "files", "runs")


def main(arguments: list[str]) -> int:
    """Do one command and return the exit code."""
    name, home, *rest = arguments
    home = str(Path(home).expanduser())
    try:
        if name == "prepare":
            return _answer(prepare(home, *rest))
        if name == "stop":
            return _answer(far.stop(home, *rest))
        return train(home, *rest)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return _answer({"error": f"{type(error).__name__}: {error}"})


def prepare(home: str, key: str, own_python: str) -> dict[str, Any]:
    """Return what is here, the Python of the environment, and the hardware."""
    there = far.probe(home)
    if not there["is_supported"]:
        return there
    _bring(Path(home))
    made = far.install(there["home"], key, own_python)
    if made.get("error") or made["differing"]:
        return there | made
    command = [made["python"], "-m", "modelforge.launchers.job", there["home"], "--machine"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=_environment(there["home"], key)
    )
    return there | made | {"machine": json.loads(done.stdout.strip().splitlines()[-1])}


def train(home: str, key: str, own_python: str, run: str) -> int:
    """Train a run to its end, and return the exit code of its worker."""
    _bring(Path(home))
    made = far.install(home, key, own_python)
    if made.get("error") or made["differing"]:
        return _answer(made)
    folder = Path(home, "runs", run)
    for name in ("stop", "exit.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    (folder / PARTS).mkdir()
    _show(folder)
    command = [made["python"], "-m", "modelforge.launchers.job", home, run]
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(home, key),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # there are no threads
        )
    # The worker gets the signal too, or this passes it on; it saves and ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _terminate(worker))
    sizes: dict[str, int] = {}
    while worker.poll() is None:
        _divide(folder, sizes)
        time.sleep(POLL_S)
    _divide(folder, sizes)
    return worker.returncode


def _terminate(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.terminate()


def _end_with_parent() -> None:
    """Let the worker stop when this process is killed: nobody would follow it any more."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  # only where it is used

        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def _bring(home: Path) -> None:
    """Copy code, files and run from the working folder into the home."""
    for part in BROUGHT:
        source = Path(__file__).parent / part
        for path in source.rglob("*") if source.is_dir() else ():
            target = home / path.relative_to(source.parent)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif part == "runs" or not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                draft = target.with_name(f".{target.name}.part")
                shutil.copyfile(path, draft)
                draft.replace(target)


def _show(folder: Path) -> None:
    """Link the run folder into the folder of the engine's logs, which it serves over HTTP."""
    try:
        output = Path("/proc/self/fd/1").readlink()
    except OSError:
        return
    link = output.parent / f"modelforge-{folder.name}"
    if output.is_file():
        link.unlink(missing_ok=True)
        link.symlink_to(folder)


def _divide(folder: Path, sizes: dict[str, int]) -> None:
    """Bring the parts of the followed files up to date; `sizes` are their sizes in bytes."""
    for name, file in FOLLOWED.items():
        try:
            size = (folder / file).stat().st_size
        except OSError:
            continue
        if size == sizes.get(name, 0):
            continue
        number = sizes.get(name, 0) // PART_BYTES
        with (folder / file).open("rb") as source:
            source.seek(number * PART_BYTES)
            while data := source.read(PART_BYTES):
                draft = folder / PARTS / "draft"
                draft.write_bytes(data)
                draft.replace(folder / PARTS / f"{name}-{number}")
                sizes[name] = number * PART_BYTES + len(data)
                number += 1


def _environment(home: str, key: str) -> dict[str, str]:
    code = Path(home, "code", key, "unpacked")
    return os.environ | {"PYTHONPATH": str(code)}


def _answer(answer: dict[str, Any]) -> int:
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()
    return int("error" in answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
