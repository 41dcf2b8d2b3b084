"""Real workers in about a second: forked from a process that holds the training stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from tests.faults.place import ACTORS, ROOT, Place


@dataclass
class Blow:
    """What strikes a worker, and where: a deed at a named point, the `nth` time it is reached."""

    point: str
    deed: str = "kill"
    nth: int = 1


class Nursery:
    """Stands in for the warm worker: hands a run to a worker forked for it."""

    ready = False  # the pid of a forked worker is not known before

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.blow: Blow | None = None
        self._heard()

    def take(self, run: RunFolder) -> Any:
        """Have a worker forked for the run and return what the supervisor wants of a process."""
        asked: dict[str, Any] = {"run": str(run.path)}
        if self.blow is not None:
            asked |= {"point": self.blow.point, "deed": self.blow.deed, "nth": self.blow.nth}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return SimpleNamespace(pid=self._heard()["pid"])

    def start(
        self, place: Place, run: RunFolder, blow: Blow | None = None, **more: Any
    ) -> Supervisor:
        """Start the worker of a run, to be struck or not; return who looks after it."""
        supervisor = Supervisor(place.home)
        self.blow = blow
        supervisor.start(run, self, **more)  # type: ignore[arg-type]
        return supervisor

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return dict(json.loads(line))


@contextmanager
def nursing() -> Iterator[Nursery]:
    """Yield a nursery with its imports done."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        [sys.executable, str(ACTORS / "nursery.py")], cwd=ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)
