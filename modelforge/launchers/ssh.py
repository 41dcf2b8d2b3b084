"""`ssh:HOST[:PORT][/FOLDER]`: another computer, with the ssh and rsync of the system.

The worker there is a process of its own, which outlives the connection. A record of its number and
its start, in `jobs/` of the home there, is how it is found again.
"""

from __future__ import annotations

import re
from pathlib import Path

from modelforge.errors import ConfigError, ForgeError, Problem
from modelforge.launchers.bundle import Bundle
from modelforge.launchers.launcher import Condition, Progress, Report, StopMode
from modelforge.launchers.remote_home import RemoteHome
from modelforge.launchers.shell import Shell
from modelforge.launchers.wheel import Code
from modelforge.runs.process.launch import Launch, Target

OPTIONS = {
    "environment": "Python of an environment with the same versions; empty has one made.",
    "extras": "Extras to install, such as quantization.",
    "python": "Python 3.11 to 3.13 there (python3).",
    "ssh_config": "A configuration file for ssh, in place of that of the user.",
}
ADDRESS = re.compile(
    r"(?P<host>(?:[\w.][\w.-]*@)?(?:[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:]+\]))"
    r"(?::(?P<port>\d{1,5}))?(?P<folder>/[^\x00-\x1f]*)?",
    re.ASCII,
)


def open_target(target: Target) -> SshLauncher:
    """Return the launcher of a target; raises ConfigError for an address that names no host."""
    match = ADDRESS.fullmatch(target.address)
    if match is None or int(match["port"] or 22) not in range(1, 65536):
        what = f"{target.address[:80]!r} is not the address of a computer."
        remedy = "Write HOST, USER@HOST, HOST:PORT or HOST/FOLDER."
        raise ConfigError(Problem("address", what, remedy))
    own_python = target.options.get("environment", "")
    python = target.options.get("python", "") or own_python or "python3"
    port = int(match["port"]) if match["port"] else None
    shell = Shell(match["host"].strip("[]"), port, python, target.options.get("ssh_config", ""))
    return SshLauncher(target, RemoteHome(shell, match["folder"] or "", own_python))


class SshLauncher:
    """Runs on another computer."""

    def __init__(self, target: Target, place: RemoteHome) -> None:
        self._target = target
        self._place = place
        self._python = ""

    def check(self, code: Code, report: Report) -> Condition:
        """Return what hinders a run there; prepare the environment and read the hardware."""
        try:
            return self._place.check(code, report)
        except ForgeError as error:
            return Condition(error.problems)

    def prepare(self, bundle: Bundle, report: Report) -> str:
        """Bring code, files and checkpoints there; return the address of the home."""
        report(f"Connecting to {self._place.shell.name}")
        home, self._python = self._place.prepare(bundle, report)
        return home

    def find(self, launch: Launch) -> str | None:
        """Return the id of the job, which is its name."""
        found = self._place.shell.far("find", launch.home, launch.job)["id"]
        return launch.job if found else None

    def submit(self, bundle: Bundle, launch: Launch) -> str:
        """Start the worker as a process of its own."""
        self._place.send_run(launch.home, bundle)
        where = (launch.home, bundle.run.id, launch.job, self._python, bundle.code.key)
        self._place.shell.far("start", *where)
        return launch.job

    def poll(self, launch: Launch, run: str, events_at: int, log_at: int) -> Progress:
        """Return the state of the process and what it has written."""
        return self._place.read(launch, run, (events_at, log_at), launch.job)

    def stop(self, launch: Launch, run: str, mode: StopMode, *, kill: bool = False) -> None:
        """Write the stop file there, or kill the processes of the job."""
        if kill:
            self._place.shell.far("kill", launch.home, launch.job)
        else:
            self._place.shell.far("stop", launch.home, run, mode)

    def fetch(self, launch: Launch, run: str, into: Path, *, checkpoints: bool) -> None:
        """Copy the run folder there into a folder here."""
        self._place.fetch(launch, run, into, checkpoints=checkpoints)

    def close(self) -> None:
        """End the connection."""
        self._place.shell.close()
