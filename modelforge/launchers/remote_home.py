"""The home folder of ModelForge on another computer, or on a shared disk: check, send, fetch."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from modelforge.errors import ConfigError, Problem
from modelforge.hardware.machine import Machine
from modelforge.launchers.bundle import Bundle
from modelforge.launchers.launcher import Condition, JobState, Progress, Report
from modelforge.launchers.shell import Shell, clean
from modelforge.launchers.wheel import Code
from modelforge.runs.process.launch import Launch
from modelforge.units import GIB, human_gib

DEFAULT_HOME = "~/.modelforge"
# Without an environment: PyTorch with CUDA and the rest take about 6 GiB.
NEEDED_GIB = 8.0
NEEDED_WITH_ENVIRONMENT_GIB = 1.0
# Files of a run folder that have one writer here, or that the relay follows.
NOT_FETCHED = (
    "/config.json", "/process.json", "/events.jsonl", "/worker.log", "/stop", "/launch.json",
    "/tokens", "/trunk_cache", "/ranks", ".*",
)  # fmt: skip
_MACHINE = TypeAdapter(Machine)


class RemoteHome:
    """What launchers with a folder and a shell share.

    Args:
        home: The folder there; `~` stands for the home folder of the user there.
        own_python: The Python of an environment that the user has made; empty for ours.
    """

    def __init__(self, shell: Shell, home: str, own_python: str = "") -> None:
        self.shell = shell
        self._home = home or DEFAULT_HOME
        self._own_python = own_python

    def probe(self) -> tuple[dict[str, Any], list[Problem]]:
        """Return what is there, and what hinders a run; creates the home folder."""
        there = self.shell.far("probe", self._home)
        name = self.shell.name
        problems = []
        if not there["is_supported"]:
            what = f"has Python {clean(there['python'])} on {clean(there['system'])}."
            remedy = "Python 3.11 to 3.13 on Linux or macOS is needed; name it with python=PATH."
            problems.append(Problem(name, what, remedy))
        if not there["rsync"]:
            problems.append(Problem(name, "has no rsync.", "Install it there."))
        needed = NEEDED_WITH_ENVIRONMENT_GIB if self._own_python else NEEDED_GIB
        free = there["disk_free"] / GIB
        if free < needed:
            place = clean(there["home"])
            what = f"has {human_gib(free)} free in {place}; {needed:g} GiB are needed."
            remedy = "Free some disk space there, or name another folder in the address."
            problems.append(Problem(name, what, remedy))
        return there, problems

    def check(self, code: Code, report: Report) -> Condition:
        """Return what hinders a run there; prepare the environment and read the hardware."""
        there, problems = self.probe()
        if problems:
            return Condition(problems)
        python = self.install(there["home"], code, report)
        return Condition([], self.machine(there["home"], python, code))

    def prepare(self, bundle: Bundle, report: Report) -> tuple[str, str]:
        """Bring code, files and checkpoints there; return the address of the home and its Python.

        Raises ConfigError with what hinders a run there.
        """
        there, problems = self.probe()
        if problems:
            raise ConfigError(problems)
        home = str(there["home"])
        python = self.install(home, bundle.code, report, bundle)
        self.send(home, bundle)
        return home, python

    def install(self, home: str, code: Code, report: Report, bundle: Bundle | None = None) -> str:
        """Bring our code there and make its environment; return the path of its Python.

        With a bundle, the files that its run reads are sent as well. Raises ConfigError for an
        environment of the user with other versions.
        """
        report(f"Copying to {self.shell.name}")
        with tempfile.TemporaryDirectory() as staged:
            code.write(Path(staged, "code", code.key))
            if bundle is not None:
                _link(Path(staged), bundle.files.items())
                Path(staged, bundle.run_path).mkdir(parents=True)
            self.shell.push(Path(staged), home)
        report(f"Preparing the environment on {self.shell.name}")
        made = self.shell.far("install", home, code.key, self._own_python, limit_s=None)
        if made["differing"]:
            what = (
                f"The environment on {self.shell.name} has {clean(', '.join(made['differing']))}."
            )
            remedy = "Install these versions there, or leave out environment= to have one made."
            raise ConfigError(Problem("environment", what, remedy))
        return str(made["python"])

    def machine(self, home: str, python: str, code: Code) -> Machine:
        """Return the hardware there; raises ConfigError if it cannot be read."""
        call = self.job_command(home, python, code.key, "--machine")
        done = self.shell.run(call)
        return parse_machine(done.stdout, done.stderr)

    def job_command(self, home: str, python: str, key: str, run: str) -> list[str]:
        """Return the command that does a run there, or describes the computer."""
        code = f"PYTHONPATH={home}/code/{key}/unpacked"
        return ["env", code, python, "-m", "modelforge.launchers.job", home, run]

    def send(self, home: str, bundle: Bundle) -> None:
        """Make the run folder there what the run continues from, and nothing else."""
        self.shell.far("clear", home, bundle.run.id)
        with tempfile.TemporaryDirectory() as staged:
            _link(Path(staged), bundle.kept())
            self.shell.push(Path(staged), f"{home}/{bundle.run_path}", "--delete")

    def send_run(self, home: str, bundle: Bundle) -> None:
        """Copy the record and the events, as the last thing before a submission."""
        with tempfile.TemporaryDirectory() as staged:
            bundle.write_run(Path(staged))
            self.shell.push(Path(staged), f"{home}/{bundle.run_path}", "--ignore-times")

    def read(self, launch: Launch, run: str, at: tuple[int, int], job: str) -> Progress:
        """Return the state of a process there and what it has written after these offsets.

        Without a `job` it counts as running.
        """
        answer, data = self.shell.far("status", launch.home, run, job, *map(str, at))
        state: JobState = answer["state"]
        events = int(answer["events"])
        return Progress(state, data[:events], data[events:], cause=clean(answer["cause"]))

    def fetch(self, launch: Launch, run: str, into: Path, *, checkpoints: bool) -> None:
        """Copy the run folder into `into`, without the files that are ours."""
        excluded = [f"--exclude={pattern}" for pattern in NOT_FETCHED]
        if not checkpoints:
            excluded.append("--exclude=/checkpoints")
        self.shell.pull(f"{launch.home}/runs/{run}", into, *excluded)


def _link(folder: Path, entries: Iterable[tuple[str, Path]]) -> None:
    """Make a tree of links, which rsync follows."""
    for name, path in entries:
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)


def parse_machine(output: bytes, errors: bytes = b"") -> Machine:
    """Return the hardware that a job has described; raises ConfigError."""
    try:
        return _MACHINE.validate_python(json.loads(output.strip().rpartition(b"\n")[2]))
    except (ValueError, ValidationError) as error:
        what = f"The hardware there cannot be read: {clean(errors or output) or 'no output'}"
        remedy = "Check that ModelForge runs in its environment."
        raise ConfigError(Problem("target", what, remedy)) from error
