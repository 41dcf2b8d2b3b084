"""Runs that are evaluated at their end by themselves: the setting `evaluation.report`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from modelforge.errors import Problem
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, mtime_ns, write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState
from modelforge.runs.store import run_folders

# A run that ended before this server started is evaluated if it ended less than this ago.
RECENT_S = 24 * 3600.0


class EndedRuns:
    """Finds the runs that have finished and are still to be evaluated. Not thread-safe."""

    def __init__(self, home: Home, supervisor: Supervisor) -> None:
        self._runs = home.runs
        self._supervisor = supervisor
        # By id of runs that need no evaluation: the mtime of the process, which a resume changes.
        self._settled: dict[str, int] = {}

    def due(self) -> Iterator[RunFolder]:
        """Yield the runs that are to be evaluated now; record each with `record_evaluation`."""
        for folder in run_folders(self._runs):
            started = mtime_ns(folder.process)
            if self._settled.get(folder.id) == started:
                continue
            if self._is_due(folder):
                yield folder
            elif self._supervisor.state(folder).is_over or not self._may_be_due(folder):
                self._settled[folder.id] = started

    def _is_due(self, folder: RunFolder) -> bool:
        state = self._supervisor.state(folder)
        return state is RunState.FINISHED and folder.has_result and self._may_be_due(folder)

    def _may_be_due(self, folder: RunFolder) -> bool:
        try:
            changed = max(folder.events.stat().st_mtime, folder.config.stat().st_mtime)
        except FileNotFoundError:
            changed = time.time()
        except OSError:
            return False
        if time.time() - changed > RECENT_S or folder.evaluation.exists():
            return False
        return is_evaluated_at_end(find_json(folder.config) or {})


def is_evaluated_at_end(record: dict[str, Any]) -> bool:
    """Return whether the record of a run says that it is evaluated at its end.

    A model that is trained from nothing has no base model to be compared with.
    """
    config = record.get("config")
    if not isinstance(config, dict):
        return False
    group, new = config.get("evaluation"), config.get("pretraining")
    if isinstance(new, dict) and new.get("enabled") is True:
        return False
    return isinstance(group, dict) and group.get("report") is True


def record_evaluation(
    folder: RunFolder, evaluation_id: str | None, problem: Problem | None = None
) -> None:
    """Write which evaluation belongs to the end of a run, or why there is none.

    It is not repeated then, not even once it is deleted.
    """
    shown = problem.as_dict() if problem else None
    write_json(folder.evaluation, {"id": evaluation_id, "problem": shown})
