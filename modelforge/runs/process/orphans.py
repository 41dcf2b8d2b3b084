"""What a worker that was killed leaves behind: its children, who are remembered while it lives."""

from __future__ import annotations

from collections.abc import Collection

import psutil

from modelforge.runs.process import identity
from modelforge.runs.process.identity import Identity


class Orphans:
    """Remembers the families of workers, since nobody can tell them once the worker is gone.

    psutil knows each member by its birth, so that a process id that was reused is left alone.
    """

    def __init__(self) -> None:
        self._families: dict[str, list[psutil.Process]] = {}

    def remember(self, run_id: str, who: Identity) -> None:
        """Note who belongs to the worker of a run now."""
        family = identity.family(who)
        if family:
            self._families[run_id] = family

    def end(self, alive: Collection[str]) -> None:
        """End what is left of the families whose worker is not among the living."""
        for run_id in [run_id for run_id in self._families if run_id not in alive]:
            identity.kill_each(self._families.pop(run_id))
