"""`skypilot:TASK.yaml`: a cluster that SkyPilot starts in a cloud, with the program `sky` 0.14.

The task says which hardware; SkyPilot finds a cloud, and stops the cluster when it is idle. Files
go over ssh, whose configuration SkyPilot writes; the run is a job of the cluster's queue.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from modelforge.errors import ConfigError, ForgeError, MissingPackageError, Problem
from modelforge.launchers import far
from modelforge.launchers.bundle import Bundle
from modelforge.launchers.launcher import (
    Condition,
    Progress,
    Report,
    StopMode,
    UnreachableError,
)
from modelforge.launchers.remote_home import RemoteHome
from modelforge.launchers.shell import Shell, clean
from modelforge.launchers.wheel import Code
from modelforge.paths import expand_user
from modelforge.runs.process.launch import Launch, Target

OPTIONS = {
    "cluster": "Name of the cluster (modelforge-TARGET).",
    "environment": "Python of an environment there; empty has one made.",
    "extras": "Extras to install, such as quantization.",
    "home": "Folder there (~/.modelforge).",
    "idle_minutes": "Minutes without a job after which the cluster is stopped (30).",
    "python": "Python 3.11 to 3.13 there (python3).",
    "ssh_config": "A configuration file for ssh, in place of that of the user.",
}
VERSION = (0, 14)
IDLE_MINUTES = "30"
START_S, COMMAND_S = 3600.0, 180.0
# How often SkyPilot is asked: each question takes seconds.
ASK_S = 15.0
WAITING = ("INIT", "PENDING", "SETTING_UP")
RUNNING = "RUNNING"
CAUSES = {
    "CANCELLED": "The job was cancelled in SkyPilot.",
    "FAILED_DRIVER": "The driver of the job has ended; its memory may have been full.",
    "FAILED_SETUP": "The set-up of the task has failed.",
}
# Parts of a task that say where it runs. The rest is that of another program.
KEPT = ("resources", "setup", "config")
NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
MAX_TASK_BYTES = 100_000


def open_target(target: Target) -> SkyPilotLauncher:
    """Return the launcher of a target; raises ConfigError for a wrong name or number."""
    name = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")
    cluster = target.options.get("cluster") or f"modelforge-{name}"[:40].rstrip("-")
    idle = target.options.get("idle_minutes") or IDLE_MINUTES
    problems = []
    if not NAME.fullmatch(cluster):
        what = f"{cluster[:60]!r} cannot be the name of a cluster."
        remedy = "Use up to 40 small letters, digits and hyphens, beginning with a letter."
        problems.append(Problem("cluster", what, remedy))
    if not idle.isdecimal() or not 1 <= int(idle) <= 1440:
        what = f"{idle[:20]!r} is not a number of minutes from 1 to 1,440."
        problems.append(Problem("idle_minutes", what, "Write idle_minutes=30."))
    if problems:
        raise ConfigError(problems)
    own_python = target.options.get("environment", "")
    python = target.options.get("python", "") or own_python or "python3"
    # SkyPilot has made the computer and tells its address; its host key is new each time.
    config = target.options.get("ssh_config", "")
    shell = Shell(cluster, None, python, config, host_keys="accept-new")
    return SkyPilotLauncher(
        target, RemoteHome(shell, target.options.get("home", ""), own_python), cluster, idle
    )


class SkyPilotLauncher:
    """Runs as jobs of a cluster of SkyPilot."""

    def __init__(self, target: Target, place: RemoteHome, cluster: str, idle: str) -> None:
        self._task = expand_user(target.address)
        self._place = place
        self._cluster = cluster
        self._idle = idle
        self._python = ""
        self._asked, self._job, self._cost = -ASK_S, dict[str, Any](), ""

    def check(self, code: Code, report: Report) -> Condition:
        """Return what hinders a run; start the cluster, which costs, and read its hardware."""
        try:
            self._start(report)
            return self._place.check(code, report)
        except ForgeError as error:
            return Condition(error.problems)

    def prepare(self, bundle: Bundle, report: Report) -> str:
        """Start the cluster and bring code, files and checkpoints there; return the home."""
        self._start(report)
        home, self._python = self._place.prepare(bundle, report)
        return home

    def find(self, launch: Launch) -> str | None:
        """Return the number of the job with this name, also of one that is over."""
        jobs = (job for job in self._queue() if job.get("job_name") == launch.job)
        return next((str(job["job_id"]) for job in jobs), None)

    def submit(self, bundle: Bundle, launch: Launch) -> str:
        """Bring the events there and put the worker into the queue of the cluster."""
        self._place.send_run(launch.home, bundle)
        home, run = launch.home, bundle.run.id
        command = self._place.job_command(home, self._python, bundle.code.key, run)
        folder, log = (
            shlex.quote(f"{home}/runs/{run}"),
            shlex.quote(f"{home}/runs/{run}/worker.log"),
        )
        clear = f"cd {folder} && rm -f stop exit.json"
        task = {
            "name": launch.job,
            "num_nodes": 1,
            "resources": self._read_task().get("resources") or {},
            "run": f"{clear} && exec {shlex.join(command)} > {log} 2>&1",
        }
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(task, file)
            file.flush()
            self._sky("exec", "--detach-run", "--name", launch.job, self._cluster, file.name)
        found = self.find(launch)
        if found is None:
            what = f"SkyPilot does not show the job {launch.job} in its queue."
            raise UnreachableError(Problem("target", what, f"See: sky queue {self._cluster}."))
        return found

    def poll(self, launch: Launch, run: str, events_at: int, log_at: int) -> Progress:
        """Return the state of the job, and what it has written."""
        job = self._find_job(launch.id)
        if job is None:
            cause = f"The cluster {self._cluster} was stopped, or is gone."
            return Progress("ended", cost=self._cost, cause=cause)
        read = self._place.read(launch, run, (events_at, log_at), "")
        status = str(job.get("status"))
        if status in WAITING:
            note = "It waits in the queue of the cluster."
            return Progress("waiting", read.events, read.log, note, self._cost)
        has_more = max(len(read.events), len(read.log)) >= far.MAX_READ_BYTES
        if status == RUNNING or has_more:
            return Progress("running", read.events, read.log, cost=self._cost)
        cause = CAUSES.get(status, "")
        return Progress("ended", read.events, read.log, cost=self._cost, cause=cause)

    def stop(self, launch: Launch, run: str, mode: StopMode, *, kill: bool = False) -> None:
        """Write the stop file there; cancel a job that waits, or that is to be killed."""
        job = self._find_job(launch.id)
        if job is None:
            return
        self._place.shell.far("stop", launch.home, run, mode)
        if kill or job.get("status") in WAITING:
            self._sky("cancel", "--yes", self._cluster, launch.id)

    def fetch(self, launch: Launch, run: str, into: Path, *, checkpoints: bool) -> None:
        """Copy the run folder there into a folder here; nothing, where the cluster is gone."""
        if self._status() in ("UP", "INIT"):
            self._place.fetch(launch, run, into, checkpoints=checkpoints)

    def close(self) -> None:
        """End the connection. The cluster stops by itself when it is idle."""
        self._place.shell.close()

    def _start(self, report: Report) -> None:
        """Start the cluster unless it runs; raises ConfigError with what SkyPilot says."""
        self._require_sky()
        task = {name: part for name, part in self._read_task().items() if name in KEPT}
        task |= {"name": self._cluster, "num_nodes": 1}
        if self._status() != "UP":
            report(f"SkyPilot starts the cluster {self._cluster}, which costs from now on")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(task, file)
            file.flush()
            idle = ("--idle-minutes-to-autostop", self._idle)
            call = ("launch", "--yes", "--fast", "--detach-run", "--cluster", self._cluster)
            self._sky(*call, *idle, file.name, limit_s=START_S)
        self._status()  # writes the configuration of ssh

    def _require_sky(self) -> None:
        shown = self._sky("--version").stdout
        found = re.search(rb"(\d+)\.(\d+)", shown)
        if found is None or (int(found[1]), int(found[2])) < VERSION:
            what = f"`sky` is {clean(shown) or 'of an unknown version'}; 0.14 is needed."
            raise ConfigError(
                Problem("target", what, "Install skypilot 0.14: pip install skypilot")
            )

    def _read_task(self) -> dict[str, Any]:
        """Return the task of the target; raises ConfigError for a file that is none."""
        try:
            if self._task.stat().st_size > MAX_TASK_BYTES:
                raise ValueError("it is too large")
            task = yaml.safe_load(self._task.read_text(encoding="utf-8"))
            if not isinstance(task, dict):
                raise ValueError("it holds no settings")
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            # What YAML says by itself would show lines of the file.
            why = getattr(error, "problem", None) or "it cannot be read as YAML"
            why = str(error) if isinstance(error, (OSError, ValueError)) else why
            what = f"{self._task} cannot be used as a task: {clean(str(why))}."
            remedy = "Write a YAML file of SkyPilot with `resources`, such as accelerators: L4."
            raise ConfigError(Problem("address", what, remedy)) from error
        return task

    def _find_job(self, number: str) -> dict[str, Any] | None:
        """Return a job as SkyPilot reported it last; None if the cluster is gone."""
        if time.monotonic() - self._asked < ASK_S and self._job:
            return self._job
        found = [job for job in self._queue() if str(job.get("job_id")) == number]
        if not found:
            status = self._status(refresh=True)
            if status in ("UP", "INIT"):
                what = f"SkyPilot cannot tell the jobs of {self._cluster} now."
                remedy = f"See: sky queue {self._cluster}."
                raise UnreachableError(Problem("target", what, remedy))
            self._cost = self._read_cost() or self._cost
            return None
        self._job, self._asked = found[0], time.monotonic()
        self._cost = self._read_cost() or self._cost
        return self._job

    def _queue(self) -> list[dict[str, Any]]:
        jobs = self._json("queue", self._cluster)
        return list(jobs.get(self._cluster, [])) if isinstance(jobs, dict) else []

    def _status(self, *, refresh: bool = False) -> str:
        """Return the status of the cluster; empty without one."""
        known = self._json("status", *(["--refresh"] if refresh else []), self._cluster)
        records = known if isinstance(known, list) else []
        own = (each for each in records if each.get("name") == self._cluster)
        return next((str(each.get("status")) for each in own), "")

    def _read_cost(self) -> str:
        """Return what the cluster has cost until now, as SkyPilot estimates it."""
        try:
            records = self._json("cost-report")
        except ForgeError:
            return ""
        for record in records if isinstance(records, list) else []:
            cost = record.get("total_cost")
            if record.get("name") == self._cluster and isinstance(cost, int | float):
                return f"about ${cost:,.2f} (SkyPilot, the whole cluster)"
        return ""

    def _json(self, command: str, *arguments: str) -> Any:
        """Return the answer of a command with `--output json`; other lines stand before it."""
        text = self._sky(command, "--output", "json", *arguments).stdout.decode("utf-8", "replace")
        start = re.search(r"^[\[{]", text, re.MULTILINE)
        try:
            return json.loads(text[start.start() :]) if start else None
        except ValueError as error:
            what = f"`sky {command}` has answered: {clean(text)}"
            raise UnreachableError(Problem("target", what, "Run it in a terminal.")) from error

    def _sky(
        self, *arguments: str, limit_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(
                ["sky", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit_s,
                check=False,
            )
        except FileNotFoundError as error:
            what = "SkyPilot is not installed: the program `sky` is not found."
            remedy = 'Install it beside ModelForge: pip install "skypilot[aws]" for your cloud.'
            raise MissingPackageError(Problem("target", what, remedy)) from error
        except subprocess.TimeoutExpired as error:
            what = f"`sky {arguments[0]}` did not answer within {limit_s:,.0f} s."
            raise UnreachableError(Problem("target", what, "Run it in a terminal.")) from error
        if done.returncode:
            text = clean(done.stderr or done.stdout)
            what = f"SkyPilot refuses `sky {arguments[0]}`: {text}"
            remedy = "Run it in a terminal; `sky check` shows which clouds have their keys."
            raise ConfigError(Problem("target", what, remedy))
        return done
