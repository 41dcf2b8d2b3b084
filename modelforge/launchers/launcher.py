"""What a kind of target has to offer: the interface of all launchers, and the list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

from modelforge.errors import ConfigError, Problem, RunError
from modelforge.hardware.machine import Machine
from modelforge.launchers.bundle import Bundle
from modelforge.launchers.wheel import Code
from modelforge.runs.process.launch import Launch, Target

# Kind → module with a function `open_target(target) -> Launcher`, and OPTIONS: the options of the
# kind with what they mean; others are refused, so that no secret is stored. It is imported when
# a target of the kind is used, so that an engine that is not installed costs nothing.
KINDS = {
    "ssh": "modelforge.launchers.ssh",
    "slurm": "modelforge.launchers.slurm",
    "ray": "modelforge.launchers.ray",
    "skypilot": "modelforge.launchers.skypilot",
    "hf-jobs": "modelforge.launchers.hf_jobs",
}
StopMode = Literal["keep", "discard"]
JobState = Literal["waiting", "running", "ended"]
# Reports what is done now, as a sentence.
Report = Callable[[str], None]


class UnreachableError(RunError):
    """The target does not answer now. The relay waits and tries again; the job may go on."""


@dataclass(frozen=True)
class Progress:
    """What became of a job since the last look.

    Attributes:
        state: `waiting` in the queue of the engine, `running`, or `ended`: its process is gone,
            and its files do not change any more.
        events: Bytes of the job's events.jsonl from the asked offset on; a last line may be torn.
        log: Bytes of its worker.log from the asked offset on.
        note: What it waits for, as a sentence; empty if nothing.
        cost: What it has cost until now, as the engine says it; empty if it says nothing.
        cause: Why the engine ended it, as a sentence, such as a time limit; empty if unknown.
    """

    state: JobState
    events: bytes = b""
    log: bytes = b""
    note: str = ""
    cost: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Condition:
    """What a check of a target has found; it is usable without problems.

    `machine` is that of the target, for which runs are planned; None if it cannot be known.
    """

    problems: list[Problem]
    machine: Machine | None = None


class Launcher(Protocol):
    """A target that is open. Every method may raise UnreachableError, or ForgeError with a cause.

    After UnreachableError the relay calls the method again later: each of them may be repeated.
    """

    def check(self, code: Code, report: Report) -> Condition:
        """Return what hinders a run there; prepare the environment and describe the machine.

        It raises nothing for a target that cannot be used: that is a problem it returns.
        """

    def prepare(self, bundle: Bundle, report: Report) -> str:
        """Bring the files of a run there, without its events; return the address of the home."""

    def find(self, launch: Launch) -> str | None:
        """Return the id of the job named `launch.job`, also of one that is over; None without."""

    def submit(self, bundle: Bundle, launch: Launch) -> str:
        """Bring the events there, start the job under the name `launch.job`, return its id."""

    def poll(self, launch: Launch, run: str, events_at: int, log_at: int) -> Progress:
        """Return the state of the job and what it has written after these offsets, in bytes."""

    def stop(self, launch: Launch, run: str, mode: StopMode, *, kill: bool = False) -> None:
        """Pass on a request to stop; with `kill` end the job without its consent."""

    def fetch(self, launch: Launch, run: str, into: Path, *, checkpoints: bool) -> None:
        """Copy the files of the run `run` there into the folder `into`.

        That is the run folder there without config.json, process.json, events and log. The folder
        may hold a part of them already; what it holds is checked by the caller.
        """

    def close(self) -> None:
        """Close connections."""


def open_launcher(target: Target) -> Launcher:
    """Return the launcher of a target; raises ConfigError for an unknown kind or option."""
    if target.kind not in KINDS:
        what = f"{target.kind[:40]!r} is not a kind of target."
        raise ConfigError(Problem("target", what, f"Choose {', '.join(KINDS)}."))
    module = import_module(KINDS[target.kind])
    for name in target.options:
        if name not in module.OPTIONS:
            what = f"{name[:40]!r} is not an option of {target.kind}."
            remedy = f"Choose {', '.join(module.OPTIONS)}."
            raise ConfigError(Problem("option", what, remedy))
    launcher: Launcher = module.open_target(target)
    return launcher
