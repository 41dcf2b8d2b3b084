"""Evaluate runs in a process of its own, one at a time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from modelforge.errors import BusyError, ForgeError, NotFoundError, Problem, RunError
from modelforge.runs.atomic_files import find_json
from modelforge.runs.evaluations import (
    EvaluationFolder,
    EvaluationRecord,
    EvaluationRequest,
    EvaluationResult,
    write_result,
)
from modelforge.runs.layout import RunFolder
from modelforge.services.chat import ChatService
from modelforge.services.evaluations.at_end import EndedRuns, record_evaluation
from modelforge.services.evaluations.prediction import predict
from modelforge.services.evaluations.sources import (
    EvaluationSourceFinder,
    EvaluationSources,
    require_packages,
)
from modelforge.services.evaluations.view import EvaluationView, Prediction, view_evaluation
from modelforge.services.jobs.service import REQUEST_ID, JobService
from modelforge.services.jobs.view import EARLIER, FORMULA
from modelforge.services.start import RunLauncher

COMMAND = (sys.executable, "-m", "modelforge.evaluate")


class EvaluationService(JobService[EvaluationFolder, EvaluationView]):
    """The evaluations of a home: see JobService."""

    AGAIN: ClassVar[str] = "Evaluate the run again."

    def __init__(
        self,
        finder: EvaluationSourceFinder,
        launcher: RunLauncher,
        chat: ChatService,
        command: Sequence[str],
        ended: EndedRuns,
    ) -> None:
        home = finder.home
        super().__init__(EvaluationFolder, home.evaluations, home, launcher, chat, command)
        self._home = home
        self._finder = finder
        self._ended = ended

    def predict(self, request: EvaluationRequest) -> Prediction:
        """Return what an evaluation needs, and what its report cannot show.

        Raises ConfigError, NotFoundError or BusyError with everything that is wrong with the
        request; a missing package is left to `start`.
        """
        return self._plan(request)[1]

    def start(self, request: EvaluationRequest, request_id: str | None = None) -> EvaluationView:
        """Queue an evaluation; `tend` starts it as soon as this computer is free.

        The same `request_id` never starts a second one. Raises what `predict` does, and
        MissingPackageError.
        """
        return self._queue(request_id, lambda: self._record(request, request_id))

    def report(self, evaluation_id: str) -> dict[str, Any] | None:
        """Return the report of an evaluation; None while there is none. Raises NotFoundError."""
        return self.folder(evaluation_id).read_report()

    def latest(self, run_id: str) -> EvaluationView | None:
        """Return the newest evaluation of a run; None if it was never evaluated."""
        return next(iter(self.list(run_id)), None)

    def of_end(self, run_id: str) -> EvaluationView | None:
        """Return the evaluation that was queued at the end of a run; None if there is none.

        Raises RunError with the reason if the run should have one and could not be evaluated.
        """
        self.tend()
        found = find_json(RunFolder(self._home.runs / run_id).evaluation) or {}
        if problem := found.get("problem"):
            raise RunError(Problem(**problem))
        try:
            return self.view(str(found.get("id") or ""))
        except NotFoundError:
            return None

    def _queue_due(self) -> None:
        for run in self._ended.due():
            request, request_id = EvaluationRequest(run.id), f"end-of-{run.id}"
            made, problem = None, None
            try:
                made = self._create_once(request_id, partial(self._record, request, request_id))
            except BusyError:
                continue
            except ForgeError as error:
                problem = error.problems[0]
            with contextlib.suppress(RunError):
                record_evaluation(run, made.id if made else None, problem)

    def _record(self, request: EvaluationRequest, request_id: str | None) -> EvaluationRecord:
        sources, prediction, formula = self._plan(request)
        require_packages(request)
        return EvaluationRecord(
            request=request,
            run_name=sources.name,
            created=time.time(),
            seconds=prediction.seconds,
            memory_bytes=prediction.memory_bytes,
            facts=sources.facts() | {FORMULA: formula, REQUEST_ID: request_id},
        )

    def _plan(self, request: EvaluationRequest) -> tuple[EvaluationSources, Prediction, float]:
        """Return what is read, what is needed, and the duration before its correction."""
        sources = self._finder.find(request)
        known = self._answers(request.run)
        return sources, *predict(request, sources, reversed(self._folders()), known)

    def _read(self, folder: EvaluationFolder, queued_behind: str) -> EvaluationView | None:
        return view_evaluation(folder, queued_behind)

    def _refreshed(self, folder: EvaluationFolder) -> EvaluationRecord | None:
        record = folder.record()
        if record is None:
            return None
        sources = self._finder.find(record.request, refresh=True)
        require_packages(record.request)
        earlier = {EARLIER: list(map(str, self._answers(record.request.run, folder)))}
        return replace(record, facts=record.facts | sources.facts() | earlier)

    def _answers(self, run_id: str, current: EvaluationFolder | None = None) -> list[Path]:
        """Return the answers of other evaluations of a run's model, the newest first."""
        trained = _trained_at(RunFolder(self._home.runs / run_id))
        found = []
        for folder in reversed(self._folders()):
            record = folder.record()
            if folder == current or record is None or not record.request.uses(run_id):
                continue
            # A run that was resumed since then has another model.
            if record.created >= trained:
                found.append(folder.answers)
        return [path for path in found if path.is_file()]

    def _write_failed(self, folder: EvaluationFolder, problem: Problem) -> None:
        write_result(folder, EvaluationResult("failed", time.time(), problem))


def _trained_at(run: RunFolder) -> float:
    """Return when the output of a run was written last, in Unix seconds."""
    try:
        return max(path.stat().st_mtime for path in (run.output, *run.output.iterdir()))
    except OSError:
        return time.time()
