"""Commands for the other end of a connection. One file of the standard library.

The relay sends this file to the Python of the other computer, with a command as its arguments:
nothing of ours has to be installed there. It answers with a line of JSON; `status` adds bytes.
It needs Python 3.11 and a system with fork: Linux or macOS.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_READ_BYTES = 4 * 2**20
OLDEST_PYTHON = (3, 11)
# A job whose process is not recorded after this time was never started.
START_S = 30.0
# Versions that change what is computed. Those of an environment of the user must be the same.
DECISIVE = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")
ENDED = ("Z", "X")
# Commands that any Python can do for files of its own computer.
OF_FILES = ("clear", "find", "status", "stop", "kill")


def main(arguments: list[str]) -> None:
    """Do one command and print its answer."""
    found, data = answer(arguments)
    sys.stdout.buffer.write(json.dumps(found).encode() + b"\n" + data)
    sys.stdout.buffer.flush()


def answer(arguments: list[str]) -> tuple[dict[str, Any], bytes]:
    """Do one command and return its answer, and the bytes that belong to it."""
    commands: dict[str, Callable[..., Any]] = {
        "probe": probe,
        "install": install,
        "clear": clear,
        "start": start,
        "find": find,
        "status": status,
        "stop": stop,
        "kill": kill,
    }
    name, *rest = arguments
    try:
        found = commands[name](*rest)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}, b""
    return found if isinstance(found, tuple) else (found, b"")


def probe(home: str) -> dict[str, Any]:
    """Return what decides whether runs are possible here; creates the home folder."""
    folder = Path(home).expanduser()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "home": str(folder.resolve()),
        "python": platform.python_version(),
        "is_supported": sys.version_info[:2] >= OLDEST_PYTHON and hasattr(os, "fork"),
        "system": platform.system(),
        "disk_free": shutil.disk_usage(folder).free,
        "rsync": shutil.which("rsync") is not None,
    }


def install(home: str, key: str, own_python: str) -> dict[str, Any]:
    """Unpack the code and make its environment; return its Python, or the versions that differ.

    With `own_python` that is the environment, and nothing is installed into it.
    """
    folder = Path(home, "code", key)
    wheel = next(folder.glob("*.whl"))
    code = folder / "unpacked"
    if not code.is_dir():
        draft = folder / f".unpacked-{os.getpid()}"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(draft)
        try:
            draft.rename(code)
        except OSError:  # another run has unpacked it meanwhile
            shutil.rmtree(draft, ignore_errors=True)
    if own_python:
        python = str(Path(own_python).expanduser())
        return {"python": python, "differing": _differing(python, folder / "pins.txt")}
    return _environment(Path(home), folder, code)


def clear(home: str, run: str) -> dict[str, Any]:
    """Kill what an earlier job of a run has left, before its folder is written."""
    for record in Path(home, "jobs").glob("*.json"):
        if record.name.startswith(f"{run}-"):
            kill(home, record.stem)
    return {}


def start(home: str, run: str, job: str, python: str, key: str) -> dict[str, Any]:
    """Start the worker of a run on its own; a job of the same name is started once."""
    record = _record(home, job)
    record.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return {"id": job}
    folder = Path(home, "runs", run)
    for name in ("stop", "exit.json"):
        (folder / name).unlink(missing_ok=True)
    if os.fork() == 0:
        _become_worker(record, folder, [python, "-m", "modelforge.launchers.job", home, run], key)
    deadline = time.monotonic() + START_S
    while not record.stat().st_size and time.monotonic() < deadline:
        time.sleep(0.02)
    return {"id": job}


def find(home: str, job: str) -> dict[str, Any]:
    """Return the id of a job that was started, or null."""
    return {"id": job if _record(home, job).exists() else None}


def status(
    home: str, run: str, job: str, events_at: str, log_at: str
) -> tuple[dict[str, Any], bytes]:
    """Return the state of a job, and its events and its log from these bytes on.

    Without a job only the files are read.
    """
    # Before the files: what a process writes last is read then.
    state, cause = _state(_record(home, job)) if job else ("running", "")
    folder = Path(home, "runs", run)
    if not folder.is_dir():
        return {"state": "ended", "events": 0, "cause": f"The folder {folder} is gone."}, b""
    events, more = _read(folder / "events.jsonl", int(events_at))
    log, more_log = _read(folder / "worker.log", int(log_at))
    state = "running" if more or more_log else state
    return {"state": state, "events": len(events), "cause": cause}, events + log


def stop(home: str, run: str, mode: str) -> dict[str, Any]:
    """Request a stop."""
    path = Path(home, "runs", run, "stop")
    if not path.exists() or path.read_text() != mode:
        draft = path.with_name(".stop-draft")
        draft.write_text(mode)
        draft.replace(path)
    return {}


def kill(home: str, job: str) -> dict[str, Any]:
    """Kill the processes of a job."""
    who = _read_record(_record(home, job))
    if who and _is_alive(who):
        os.killpg(who["pid"], signal.SIGKILL)
    return {}


def _environment(home: Path, folder: Path, code: Path) -> dict[str, Any]:
    """Return the Python of an environment with the required versions, which is made if needed."""
    # `setup` is of the standard library; it knows the build of PyTorch for each GPU.
    sys.path.insert(0, str(code))
    from modelforge.setup.environment import PIP_ENVIRONMENT  # noqa: PLC0415
    from modelforge.setup.state import fingerprint  # noqa: PLC0415
    from modelforge.setup.system_checks import query_nvidia_gpu  # noqa: PLC0415
    from modelforge.setup.torch_build import torch_arguments  # noqa: PLC0415

    needed, pins = folder / "requirements.txt", folder / "pins.txt"
    mark = fingerprint(platform.python_version(), needed, pins)
    place = home / "environments" / mark[:16]
    python, done = place / "bin" / "python", place / "complete"
    if done.exists():
        return {"python": str(python), "differing": []}
    log = home / "environments" / f"{place.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    pip = [str(python), "-m", "pip", "install", "--progress-bar", "off"]
    torch = torch_arguments(platform.system(), platform.machine(), **query_nvidia_gpu())
    commands = [
        [sys.executable, "-m", "venv", str(place)],
        [*pip, *torch, "-c", str(pins)],
        [*pip, "-r", str(needed), "-c", str(pins)],
    ]
    with log.open("ab") as file:
        # Another relay may be at it; the system releases the lock with the process.
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in [] if done.exists() else commands:
            environment = os.environ | PIP_ENVIRONMENT
            if subprocess.run(
                command, stdout=file, stderr=file, env=environment, check=False
            ).returncode:
                return {"error": _last_lines(log), "log": str(log)}
    done.touch()
    return {"python": str(python), "differing": []}


def _differing(python: str, pins: Path) -> list[str]:
    """Return the packages of an environment whose versions are not those of the pins."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def version(name):\n"
        "    try: return m.version(name).partition('+')[0]\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *DECISIVE], capture_output=True, check=True)
    there = json.loads(done.stdout)
    here = dict(line.split("==") for line in pins.read_text().split())
    return [
        f"{name} {there[name] or 'missing'} instead of {here[name]}"
        for name in DECISIVE
        if name in here and there[name] != here[name]
    ]


def _become_worker(record: Path, folder: Path, command: list[str], key: str) -> None:
    """Record this process, which is to outlive the connection, and become the command."""
    try:
        os.setsid()
        draft = record.with_suffix(".draft")
        draft.write_text(json.dumps(_describe(os.getpid())))
        draft.replace(record)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.closerange(3, 256)
        code = Path(folder.parents[1], "code", key, "unpacked")
        os.chdir(folder)
        os.execve(command[0], command, os.environ | {"PYTHONPATH": str(code)})
    finally:
        os._exit(127)


def _record(home: str, job: str) -> Path:
    return Path(home, "jobs", f"{job}.json")


def _read_record(record: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _state(record: Path) -> tuple[str, str]:
    """Return the state of a job, and why it has ended if that is known."""
    who = _read_record(record)
    if who is None:
        try:
            is_new = time.time() - record.stat().st_mtime < START_S
        except OSError:
            return "ended", f"The record {record.name} of the job is gone."
        return ("waiting", "") if is_new else ("ended", "The job was never started.")
    if _is_alive(who):
        return "running", ""
    if who["boot"] != _boot():
        return "ended", "The computer was restarted."
    if _out_of_memory_kills() > who["memory_kills"]:
        return "ended", "The system has killed a process because the memory was full."
    return "ended", ""


def _describe(pid: int) -> dict[str, Any]:
    about = {"pid": pid, "birth": _birth(pid), "boot": _boot()}
    return about | {"memory_kills": _out_of_memory_kills()}


def _is_alive(who: dict[str, Any]) -> bool:
    return (
        who["boot"] == _boot() and who["birth"] is not None and _birth(who["pid"]) == who["birth"]
    )


def _birth(pid: int) -> str | None:
    """Return what tells a process from another one with its number; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in ENDED else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    call = ["ps", "-o", "lstart=,stat=", "-p", str(pid)]
    shown = subprocess.run(call, capture_output=True, text=True, check=False).stdout.split()
    return None if not shown or shown[-1].startswith("Z") else " ".join(shown[:-1])


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        call = ["sysctl", "-n", "kern.boottime"]
        return subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip()


def _out_of_memory_kills() -> int:
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _read(path: Path, after: int) -> tuple[bytes, bool]:
    """Return the bytes after an offset, at most `MAX_READ_BYTES`, and whether there are more."""
    try:
        with path.open("rb") as file:
            file.seek(after)
            data = file.read(MAX_READ_BYTES)
            return data, bool(file.read(1))
    except OSError:
        return b"", False


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return "\n".join(lines[-3:])


if __name__ == "__main__":
    main(sys.argv[1:])
