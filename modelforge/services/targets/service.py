"""Targets: add, list, check and remove the places that train runs elsewhere."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from modelforge.config.schema.base import about
from modelforge.errors import BusyError, ConfigError, NotFoundError, Problem
from modelforge.hardware.machine import Machine
from modelforge.launchers.launcher import KINDS, open_launcher
from modelforge.launchers.relay import fetch_run
from modelforge.launchers.wheel import build_code
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.launch import Target, read_launch
from modelforge.runs.process.lock import exclusive
from modelforge.runs.process.supervisor import Supervisor
from modelforge.units import human_gib

FORMAT = 1
# Stands for this computer where a target can be chosen.
HERE = "here"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
MAX_SLOTS = 1000


@dataclass(frozen=True)
class KnownTarget(Target):
    """A target as it is stored. Times are Unix seconds."""

    machine: Annotated[
        Machine | None, about("Its hardware, for which runs are planned; null until it was read.")
    ] = None
    checked: Annotated[
        float | None, about("When a check last found it usable; null if none has.")
    ] = None

    @property
    def target(self) -> Target:
        """The target alone."""
        return Target(self.name, self.kind, self.address, self.slots, self.options)

    @property
    def hardware(self) -> str:
        """Its hardware in a few words; empty while it is unknown."""
        if self.machine is None:
            return ""
        gpus = [f"{gpu.name}, {human_gib(gpu.total_gib or 0)}" for gpu in self.machine.gpus]
        found = "; ".join(gpus) or f"{self.machine.cpu or 'CPU'}, no GPU"
        return f"{self.machine.nodes} nodes: {found}" if self.machine.nodes > 1 else found


@dataclass(frozen=True)
class TargetCheck:
    """What a check of a target has found."""

    name: str
    usable: Annotated[bool, about("Whether runs can be sent there.")]
    problems: Annotated[list[Problem], about("What hinders them, with what to do.")]
    hardware: Annotated[str, about("Its hardware in a few words; empty while it is unknown.")]
    seconds: Annotated[float, about("How long the check took.")]


_STORED = TypeAdapter(list[KnownTarget])


class TargetService:
    """The targets of a home. Thread-safe."""

    def __init__(self, home: Home, supervisor: Supervisor) -> None:
        self._home = home
        self._supervisor = supervisor

    def list(self) -> list[KnownTarget]:
        """Return the targets by name; a damaged file counts as empty."""
        stored = (find_json(self._home.targets) or {}).get("targets", [])
        try:
            return _STORED.validate_python(stored)
        except ValidationError:
            return []

    def get(self, name: str) -> KnownTarget:
        """Return a target; raises NotFoundError."""
        known = self.list()
        for target in known:
            if target.name == name:
                return target
        what = f"There is no target {name[:40]!r}."
        names = ", ".join(target.name for target in known)
        remedy = f"Choose {names}." if known else "Add one: modelforge targets add NAME ssh:HOST."
        raise NotFoundError(Problem("target", what, remedy))

    def planned_for(self, name: str) -> tuple[Target, Machine]:
        """Return a target and the hardware that its runs are planned for.

        Raises NotFoundError, and ConfigError for a target that no check has found usable.
        """
        known = self.get(name)
        if known.machine is None:
            what = f"The hardware of {name} is not known."
            raise ConfigError(Problem("target", what, f"Run: modelforge targets check {name}."))
        return known.target, known.machine

    def find_machine(self, name: str | None) -> Machine | None:
        """Return the hardware of a target; None if there is none of that name, or it is unknown."""
        return next((each.machine for each in self.list() if each.name == name), None)

    def add(
        self, name: str, place: str, *, slots: int = 1, options: Mapping[str, str] | None = None
    ) -> Target:
        """Store a target, `place` is KIND:ADDRESS; raises ConfigError. Nothing is contacted."""
        kind, _, address = place.partition(":")
        target = Target(name, kind, address.removeprefix("//"), slots, dict(options or {}))
        problems = []
        if not NAME.fullmatch(name) or name == HERE:
            what = f"{name[:40]!r} cannot be the name of a target."
            remedy = "Use up to 40 letters, digits, dots and hyphens; `here` is this computer."
            problems.append(Problem("name", what, remedy))
        if not 1 <= slots <= MAX_SLOTS:
            what = f"{slots} is not between 1 and {MAX_SLOTS:,}."
            problems.append(Problem("slots", what, "Give the number of runs at a time."))
        if kind not in KINDS or not address:
            what = f"{place[:80]!r} is not KIND:ADDRESS."
            kinds = ", ".join(f"{each}:…" for each in KINDS)
            problems.append(Problem("address", what, f"Write {kinds}, such as ssh:me@server."))
        if problems:
            raise ConfigError(problems)
        open_launcher(target)
        with exclusive(self._home.root / ".targets.lock"):
            if any(known.name == name for known in self.list()):
                what = f"There is a target {name!r} already."
                raise ConfigError(Problem("name", what, "Remove it first, or use another name."))
            self._write([*self.list(), KnownTarget(**asdict(target))])
        return target

    def remove(self, name: str) -> None:
        """Forget a target; raises NotFoundError, and BusyError while a run is there."""
        self.get(name)
        for run, launch in self._supervisor.elsewhere():
            if launch.target.name == name:
                what = f"The run {run.id} is at {name}."
                raise BusyError(Problem("target", what, "Stop it, or wait for it."), run.id)
        with exclusive(self._home.root / ".targets.lock"):
            self._write([known for known in self.list() if known.name != name])

    def check(self, name: str, report: Callable[[str], None] = lambda _text: None) -> TargetCheck:
        """Reach a target, prepare its environment and read its hardware; this may take minutes.

        `report` gets what is done now. Raises NotFoundError.
        """
        known, began = self.get(name), time.monotonic()
        extras = tuple(filter(None, known.options.get("extras", "").split(",")))
        code = build_code(self._home.cache / "code", extras)
        launcher = open_launcher(known.target)
        try:
            found = launcher.check(code, report)
        finally:
            launcher.close()
        if not found.problems:
            known = replace(known, machine=found.machine or known.machine, checked=time.time())
            with exclusive(self._home.root / ".targets.lock"):
                rest = [each for each in self.list() if each.name != name]
                self._write([*rest, known])
        seconds = round(time.monotonic() - began, 1)
        return TargetCheck(name, not found.problems, found.problems, known.hardware, seconds)

    def fetch(self, run: RunFolder) -> None:
        """Bring all files of a run at a target here, its checkpoints as well.

        Raises ConfigError for a run that trains here or is not at its target yet.
        """
        launch = read_launch(run.launch)
        if launch is None or not launch.id:
            what = f"{run.id} is not at a target."
            raise ConfigError(Problem("run", what, "Its files are on this computer."))
        if not launch.is_over:
            what = f"{run.id} is still active."
            raise BusyError(Problem("run", what, "Stop it, or wait for it."), run.id)
        launcher = open_launcher(launch.target)
        try:
            fetch_run(run, launcher, launch, checkpoints=True)
        finally:
            launcher.close()

    def busy_reason(self, target: Target) -> str:
        """Return why a target takes no further run now; empty if it does."""
        return self.busy_reasons([target]).get(target.name, "")

    def busy_reasons(self, targets: Sequence[Target]) -> dict[str, str]:
        """Return why targets take no further run, by the names of those that do not."""
        if not targets:
            return {}
        runs = Counter(launch.target.name for _run, launch in self._supervisor.elsewhere())
        reasons = {}
        for target in targets:
            if (count := runs[target.name]) >= target.slots:
                users = "a run" if count == 1 else f"{count} runs"
                reasons[target.name] = f"{target.name} is in use by {users}."
        return reasons

    def _write(self, targets: Sequence[KnownTarget]) -> None:
        ordered = sorted(targets, key=lambda target: target.name)
        stored = TypeAdapter(Any).dump_python(ordered, mode="json")
        write_json(self._home.targets, {"format": FORMAT, "targets": stored})
