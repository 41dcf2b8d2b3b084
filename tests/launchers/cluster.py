"""Stand-ins for sbatch, squeue, scancel and sacct that really run jobs; the name says which.

The jobs are in the folder of the environment variable CLUSTER. A job waits while the file `full`
exists there; `calls` has the names of the programs that were called.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["CLUSTER"])
NAME = Path(sys.argv[0]).name


def jobs() -> list[dict]:
    """Return the jobs with their states, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.job"))]


def write(job: dict) -> None:
    path = FOLDER / f"{job['id']}.job"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(job))
    draft.replace(path)


def read(number: str) -> dict:
    return json.loads((FOLDER / f"{number}.job").read_text())


def options(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options --name=value, and what follows them."""
    given: dict[str, str] = {}
    while arguments and arguments[0].startswith("--"):
        name, _, value = arguments.pop(0)[2:].partition("=")
        given[name] = value
    return given, arguments


def sbatch(given: dict[str, str], words: list[str]) -> None:
    if given["partition"] != "debug":
        sys.exit("sbatch: error: invalid partition specified: " + given["partition"])
    if (FOLDER / "refuse").exists():
        sys.exit("sbatch: error: QOSMaxSubmitJobPerUserLimit")
    number = f"{len(jobs()) + 1}"
    script = FOLDER / f"{number}.sh"
    script.write_text(Path(words[0]).read_text())
    job = {"id": number, "name": given["job-name"], "state": "PENDING", "pid": None}
    write(job | {"output": given["output"], "words": words[1:]})
    runner = [sys.executable, __file__, "run", number]
    subprocess.Popen(runner, start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
    print(number)


def run(number: str) -> None:
    """Do a job, as a node does."""
    while (FOLDER / "full").exists():
        time.sleep(0.1)
        if read(number)["state"] == "CANCELLED":
            return
    job = read(number)
    command = ["/bin/sh", str(FOLDER / f"{number}.sh"), *job["words"]]
    with Path(job["output"]).open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    write(job | {"state": "RUNNING", "pid": process.pid})
    code = process.wait()
    ended = read(number)
    if ended["state"] == "RUNNING":
        write(ended | {"state": "COMPLETED" if code == 0 else "FAILED"})


def squeue(given: dict[str, str], _words: list[str]) -> None:
    for job in jobs():
        if job["state"] not in ("PENDING", "RUNNING"):
            continue
        if (
            given.get("jobs", job["id"]) == job["id"]
            and given.get("name", job["name"]) == job["name"]
        ):
            reason = "Resources" if job["state"] == "PENDING" else "None"
            form = given["format"].replace("%T", job["state"]).replace("%r", reason)
            print(form.replace("%i", job["id"]))


def sacct(given: dict[str, str], _words: list[str]) -> None:
    for job in jobs():
        if (
            given.get("jobs", job["id"]) == job["id"]
            and given.get("name", job["name"]) == job["name"]
        ):
            print({"JobID": job["id"], "State": job["state"]}[given["format"]])


def scancel(_given: dict[str, str], words: list[str]) -> None:
    job = read(words[0])
    write(job | {"state": "CANCELLED"})
    if job["pid"]:
        os.killpg(job["pid"], signal.SIGTERM)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(sys.argv[2])
    else:
        with (FOLDER / "calls").open("a") as file:
            file.write(f"{NAME}\n")
        globals()[NAME](*options(sys.argv[1:]))
