"""What an engine starts that offers jobs and no shell: prepare, train, stop. Standard library only.

    python far_engine.py prepare HOME KEY PYTHON [NODES]  code, environment, hardware
    python far_engine.py train HOME KEY PYTHON RUN [SHARED [NODES GPUS]]  the run, in the files
        beside this one
    python far_engine.py stop HOME RUN MODE  the stop file

It stands beside `far.py`, `far_parts.py` and the files of a bundle, in the working folder of the
job. Answers are lines of the output that begin with `MARK`. While a run trains, its events and its
log are also in parts of `PART_BYTES`, so that what is new can be read without an offset. SHARED is
a folder for a run whose computer is given back at its end: parts, checkpoints and result are copied
there, and the stop file is read from it. NODES of a Ray cluster train a run together, each with
GPUS; they share the home (`far_nodes.py`).
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import far
from far_parts import MARK, PART_BYTES, PARTS, PIECES

FOLLOWED = {"events": "events.jsonl", "log": "worker.log"}
POLL_S = 0.5
# Loaded before a process is started: Ray has threads, and after a fork their locks stay locked.
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
# What is brought with each run; the rest of a run folder there is older.
BROUGHT = ("code", "files", "runs")
# What stays where the run was trained, and what is in parts.
NOT_KEPT = (
    "config.json", "process.json", "events.jsonl", "worker.log", "stop", "checkpoints", "tokens",
    "trunk_cache", "ranks",
)  # fmt: skip


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


def prepare(home: str, key: str, own_python: str, nodes: str = "1") -> dict[str, Any]:
    """Return what is here, the Python of the environment, and the hardware; also of the nodes."""
    there: dict[str, Any] = far.probe(home)
    if not there["is_supported"]:
        return there
    _bring(Path(home))
    made = far.install(there["home"], key, own_python)
    if made.get("error") or made["differing"]:
        return {**there, **made}
    command = [made["python"], "-m", "modelforge.launchers.job", there["home"], "--machine"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=_environment(there["home"], key)
    )
    described: dict[str, Any] = there | made
    if int(nodes) > 1:
        import far_nodes  # noqa: PLC0415  # sent along where it is needed

        described["nodes"] = far_nodes.check(there["home"], command, _code(there["home"], key))
    return described | {"machine": json.loads(done.stdout.strip().splitlines()[-1])}


def train(home: str, key: str, own_python: str, run: str, shared: str = "", *several: str) -> int:
    """Train a run to its end, and return the exit code of its worker."""
    _bring(Path(home))
    made = far.install(home, key, own_python)
    if made.get("error") or made["differing"]:
        return _answer(made)
    folder = Path(home, "runs", run)
    for name in ("stop", "exit.json"):
        (folder / name).unlink(missing_ok=True)
    parts = Path(shared or folder, PARTS)
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    if not shared:
        _show(folder)
    command = [made["python"], "-m", "modelforge.launchers.job", home, run]
    others = _other_nodes(folder, command, _code(home, key), *several)
    variables = _environment(home, key) | (others.variables() if others else {})
    worker = _start(command, folder, variables)
    sizes: dict[str, int] = {}
    while worker.poll() is None:
        _divide(folder, parts, sizes)
        if shared:
            _pass_stop(Path(shared, "stop"), folder / "stop")
            _keep_checkpoints(folder, Path(shared))
        if others:
            others.look(worker)
        time.sleep(POLL_S)
    if shared:
        _keep(folder, Path(shared))
    # The ending event comes after the files that it is about.
    _divide(folder, parts, sizes)
    if others:
        others.close()
    return worker.returncode


def _other_nodes(
    folder: Path, command: list[str], code: str, nodes: str = "1", gpus: str = "0"
) -> Any:
    """Return the nodes that train the run beside this one; None if there are none."""
    if int(nodes) == 1:
        return None
    import far_nodes  # noqa: PLC0415  # sent along where it is needed

    return far_nodes.OtherNodes(int(nodes), int(gpus), folder, [*command, "--node"], code)


def _start(command: list[str], folder: Path, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the worker, and pass signals on to it."""
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # it takes no lock
        )
    # The worker gets the signal too, or this passes it on; it saves and ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _terminate(worker))
    return worker


def _pass_stop(request: Path, target: Path) -> None:
    """Copy the request to stop when it is new."""
    try:
        mode = request.read_text().strip()
    except OSError:
        return
    if mode and (not target.exists() or target.read_text() != mode):
        far.stop(str(target.parents[2]), target.parent.name, mode)


def _keep_checkpoints(folder: Path, shared: Path) -> None:
    """Copy new complete checkpoints, and remove those that the worker has removed."""
    source, target = folder / "checkpoints", shared / "checkpoints"
    sealed = {path.parent for path in source.glob("checkpoint-*/manifest.json")}
    for path in sealed:
        if not (target / path.name / "manifest.json").exists():
            _copy(path, target / path.name)
    for path in target.glob("checkpoint-*") if sealed else ():
        if source / path.name not in sealed:
            shutil.rmtree(path, ignore_errors=True)


def _keep(folder: Path, shared: Path) -> None:
    """Copy what the run has made."""
    _keep_checkpoints(folder, shared)
    for path in folder.iterdir():
        if path.name in NOT_KEPT or path.name.startswith("."):
            continue
        _copy(path, shared / path.name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, its manifest last."""
    if source.is_file():
        shutil.copyfile(source, target)
        return
    files = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in sorted(files, key=lambda path: path.name == "manifest.json"):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _terminate(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.terminate()


def _end_with_parent() -> None:
    """Let the worker stop when this process is killed, which follows it."""
    if PRCTL is not None:
        set_death_signal = 1
        PRCTL(set_death_signal, signal.SIGTERM)


def _bring(home: Path) -> None:
    """Copy code, files and run from the working folder, or from pieces of a zip, into the home."""
    pieces = sorted(
        (path for folder in sys.path for path in Path(folder, PIECES).glob("*")),
        key=lambda path: path.name,
    )
    if not pieces:
        _copy_new(Path(__file__).parent, home)
        return
    with tempfile.TemporaryDirectory(dir=home) as folder:
        joined = Path(folder, "brought.zip")
        with joined.open("wb") as file:
            for piece in pieces:
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, file)
        with zipfile.ZipFile(joined) as archive:
            archive.extractall(folder)
        _copy_new(Path(folder), home)


def _copy_new(folder: Path, home: Path) -> None:
    for part in BROUGHT:
        source = folder / part
        for path in source.rglob("*") if source.is_dir() else ():
            target = home / path.relative_to(source.parent)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif part == "runs" or not target.exists():  # others are named by their content
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


def _divide(folder: Path, parts: Path, sizes: dict[str, int]) -> None:
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
                draft = parts / "draft"
                draft.write_bytes(data)
                draft.replace(parts / f"{name}-{number}")
                sizes[name] = number * PART_BYTES + len(data)
                number += 1


def _environment(home: str, key: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": _code(home, key)}


def _code(home: str, key: str) -> str:
    return str(Path(home, "code", key, "unpacked"))


def _answer(answer: dict[str, Any]) -> int:
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()
    return int("error" in answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
