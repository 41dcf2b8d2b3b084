"""`slurm:PARTITION[/FOLDER]`: a cluster, with sbatch, squeue, scancel and sacct of this computer.

FOLDER is on a disk that this computer and the nodes share; by default it is below the home folder
of the user. The environment is made on this computer.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

from modelforge.errors import ConfigError, ForgeError, MissingPackageError, Problem, RunError
from modelforge.hardware.machine import Machine
from modelforge.launchers.bundle import Bundle
from modelforge.launchers.launcher import (
    Condition,
    Progress,
    Report,
    StopMode,
    UnreachableError,
)
from modelforge.launchers.remote_home import RemoteHome, parse_machine
from modelforge.launchers.shell import Shell, clean
from modelforge.launchers.wheel import Code
from modelforge.runs.process.launch import Launch, Target

OPTIONS = {
    "environment": "Python of an environment on the shared disk; empty has one made.",
    "extras": "Extras to install, such as quantization.",
    "python": "Python 3.11 to 3.13 of this computer (python3).",
    "time": "Time limit, as 8:00:00.",
    "gres": "Resources of the node, as gpu:1.",
    "cpus-per-task": "Cores.",
    "mem": "Memory, as 32G.",
    "account": "Account that is charged.",
    "qos": "Quality of service.",
    "constraint": "Features that the node must have.",
}
OF_SBATCH = ("time", "gres", "cpus-per-task", "mem", "account", "qos", "constraint")
ADDRESS = re.compile(r"(?P<partition>[\w.-]{1,80})(?P<folder>/[^\x00-\x1f]*)?", re.ASCII)
COMMAND_S = 60.0
# The worker, which the batch script becomes, gets SIGTERM this long before its limit, and saves.
WARNING_S = 120
# How long a check waits for a node that describes its hardware.
MACHINE_S = 120.0
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED"}
# What squeue and sacct call a job that runs, or whose end is not complete.
RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED"}
CAUSES = {
    "TIMEOUT": "Slurm has ended the job at its time limit.",
    "OUT_OF_MEMORY": "Slurm has ended the job because its memory was full.",
    "NODE_FAIL": "The node of the job has failed.",
    "BOOT_FAIL": "The node of the job has not started.",
    "PREEMPTED": "Slurm has ended the job in favour of another one.",
    "CANCELLED": "The job was cancelled.",
    "DEADLINE": "Slurm has ended the job at its deadline.",
}


def open_target(target: Target) -> SlurmLauncher:
    """Return the launcher of a target; raises ConfigError for an address without a partition."""
    match = ADDRESS.fullmatch(target.address)
    if match is None:
        what = f"{target.address[:80]!r} is not the name of a partition."
        raise ConfigError(Problem("address", what, "Write PARTITION or PARTITION/FOLDER."))
    own_python = target.options.get("environment", "")
    shell = Shell(python=target.options.get("python", "") or own_python or "python3")
    place = RemoteHome(shell, match["folder"] or "", own_python)
    return SlurmLauncher(target, place, match["partition"])


class SlurmLauncher:
    """Runs on a cluster."""

    def __init__(self, target: Target, place: RemoteHome, partition: str) -> None:
        self._target = target
        self._place = place
        self._partition = partition
        self._python = ""
        self._size = (0, 0)

    def check(self, code: Code, report: Report) -> Condition:
        """Return what hinders a run there; prepare the environment, let a node describe itself."""
        try:
            self._require_partition()
            there, problems = self._place.probe()
            if problems:
                return Condition(problems)
            self._python = self._place.install(there["home"], code, report)
            report("Waiting for a node that describes its hardware")
            return Condition([], self._machine(there["home"], code))
        except ForgeError as error:
            return Condition(error.problems)

    def prepare(self, bundle: Bundle, report: Report) -> str:
        """Bring code, files and checkpoints to the shared disk; return the address of the home."""
        self._require_partition()
        home, self._python = self._place.prepare(bundle, report)
        return home

    def find(self, launch: Launch) -> str | None:
        """Return the number of the job with this name, waiting, running or over."""
        waiting = _call("squeue", "--noheader", f"--name={launch.job}", "--format=%i")
        numbers = waiting.stdout.split()
        if not numbers:
            past = ("--starttime=now-60days", f"--name={launch.job}", "--format=JobID")
            numbers = _accounting(*past)
        return numbers[0].decode() if numbers else None

    def submit(self, bundle: Bundle, launch: Launch) -> str:
        """Submit a script that becomes the worker."""
        self._place.send_run(launch.home, bundle)
        run = f"{launch.home}/{bundle.run_path}"
        for name in ("stop", "exit.json"):
            Path(run, name).unlink(missing_ok=True)
        command = self._place.job_command(launch.home, self._python, bundle.code.key, bundle.run.id)
        return self._sbatch(launch.job, command, Path(run, "worker.log"))

    def poll(self, launch: Launch, run: str, events_at: int, log_at: int) -> Progress:
        """Return the state of the job, and what it has written to the shared disk.

        Slurm is not asked about a job that writes.
        """
        read = self._place.read(launch, run, (events_at, log_at), "")
        size = (events_at + len(read.events), log_at + len(read.log))
        if size != self._size:
            self._size = size
            return Progress("running", read.events, read.log)
        state, reason = _state(launch.id)
        # After the state: the job may have written in between.
        read = self._place.read(launch, run, (events_at, log_at), "")
        if state in WAITING:
            why = f": {reason}" if reason not in ("", "None") else ""
            return Progress("waiting", read.events, read.log, f"It waits in Slurm's queue{why}.")
        if state in RUNNING:
            return Progress("running", read.events, read.log)
        return Progress("ended", read.events, read.log, cause=CAUSES.get(state, ""))

    def stop(self, launch: Launch, run: str, mode: StopMode, *, kill: bool = False) -> None:
        """Write the stop file; cancel a job that waits, or that is to be killed."""
        self._place.shell.far("stop", launch.home, run, mode)
        if kill or _state(launch.id)[0] in WAITING:
            _call("scancel", launch.id)

    def fetch(self, launch: Launch, run: str, into: Path, *, checkpoints: bool) -> None:
        """Copy the run folder there into a folder here."""
        self._place.fetch(launch, run, into, checkpoints=checkpoints)

    def close(self) -> None:
        """Nothing is open."""

    def _require_partition(self) -> None:
        """Raise ConfigError for a partition that squeue does not know."""
        done = _call("squeue", "--noheader", f"--partition={self._partition}", "--format=%i")
        if b"nvalid partition" in done.stderr:
            what = f"Slurm has no partition {self._partition!r}: {clean(done.stderr)}"
            raise ConfigError(Problem("address", what, "`sinfo` lists the partitions."))

    def _sbatch(self, name: str, command: list[str], output: Path) -> str:
        """Submit a command and return the number of its job; raises ConfigError with the reason."""
        given = [
            f"--{option}={value}"
            for option in OF_SBATCH
            if (value := self._target.options.get(option))
        ]
        # The words are arguments of the script, which no shell reads.
        script = '#!/bin/sh\nexec "$@"\n'
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
            file.write(script)
            file.flush()
            done = _call(
                "sbatch", "--parsable", "--no-requeue", f"--job-name={name}",
                f"--partition={self._partition}", f"--output={output}", "--open-mode=truncate",
                f"--signal=B:TERM@{WARNING_S}", f"--chdir={output.parent}",
                *given, file.name, *command,
            )  # fmt: skip
        if done.returncode:
            what = f"Slurm refuses the job: {clean(done.stderr)}"
            remedy = "Check partition, limits and options: modelforge targets list."
            raise ConfigError(Problem("target", what, remedy))
        return done.stdout.decode().strip().partition(";")[0]

    def _machine(self, home: str, code: Code) -> Machine | None:
        """Return the hardware of a node; None if none is free soon."""
        output = Path(home, "jobs", f"machine-{time.time_ns()}.json")
        output.parent.mkdir(exist_ok=True)
        command = self._place.job_command(home, self._python, code.key, "--machine")
        number = self._sbatch("modelforge-check", command, output)
        deadline = time.monotonic() + MACHINE_S
        while _state(number)[0] in WAITING | RUNNING:
            if time.monotonic() > deadline:
                _call("scancel", number)
                return None
            time.sleep(1.0)
        try:
            return parse_machine(output.read_bytes())
        except OSError as error:
            what = f"The job {number} has left no output in {output.parent}."
            remedy = "The folder must be on a disk that the nodes share; name another one."
            raise ConfigError(Problem("target", what, remedy)) from error
        finally:
            output.unlink(missing_ok=True)


def _state(number: str) -> tuple[str, str]:
    """Return Slurm's state of a job and the reason; an unknown job has ended: an empty state."""
    done = _call("squeue", "--noheader", f"--jobs={number}", "--format=%T|%r")
    state, _, reason = done.stdout.decode().strip().partition("|")
    if state:
        return state, clean(reason)
    past = _accounting(f"--jobs={number}", "--format=State")
    # Such as CANCELLED by 1000.
    return (past[0].decode().split()[0] if past else ""), ""


def _accounting(*arguments: str) -> list[bytes]:
    """Return lines of sacct; none where a cluster keeps no accounts."""
    try:
        done = _call("sacct", "--noheader", "--allocations", "--parsable2", *arguments)
    except (MissingPackageError, UnreachableError, RunError):
        return []
    return done.stdout.splitlines()


def _call(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program of Slurm; raises UnreachableError while its controller does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_S, check=False)
    except FileNotFoundError as error:
        what = f"The program {command[0]} is not found on this computer."
        remedy = "Run ModelForge on a computer of the cluster, such as its login node."
        raise MissingPackageError(Problem("target", what, remedy)) from error
    except subprocess.TimeoutExpired as error:
        raise _no_answer(f"{command[0]} did not answer within {COMMAND_S:.0f} s") from error
    if b"ontact slurm controller" in done.stderr or b"ocket timed out" in done.stderr:
        raise _no_answer(clean(done.stderr))
    return done


def _no_answer(why: str) -> UnreachableError:
    return UnreachableError(Problem("target", f"Slurm does not answer: {why}.", "Wait for it."))
