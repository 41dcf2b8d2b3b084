"""Do one evaluation: find the rows, measure the contestants, write the report, record the end."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial

from modelforge.data.canonical.convert import summarization_prefix
from modelforge.errors import ForgeError
from modelforge.evaluate import worst_rows
from modelforge.evaluate.cases import CaseBuilder
from modelforge.evaluate.contestants import TUNED, Measurer, Models
from modelforge.evaluate.extra_prompts import measure_corrections, measure_general
from modelforge.evaluate.job import Job
from modelforge.evaluate.known import KnownResults
from modelforge.evaluate.lm_eval import measure_tasks
from modelforge.evaluate.measure import Results, RowMeasurement, optional
from modelforge.evaluate.report import write_report
from modelforge.evaluate.spans import SpanMeasurement, is_usable, make_case
from modelforge.evaluate.task_metrics import reward_rule
from modelforge.modeling.held_out import (
    RunRows,
    changed_sources,
    count_rows,
    read_run_rows,
    run_request,
)
from modelforge.modeling.job_problem import job_problem
from modelforge.runs.evaluations import EvaluationFolder, EvaluationResult, write_result
from modelforge.runs.jobs import StepWriter

# Training rows that are candidates for the examples in the prompt.
CANDIDATES = 64


def run_evaluation(folder: EvaluationFolder, ending: threading.Lock | None = None) -> int:
    """Do the evaluation of a folder and return the exit code; a result is always written.

    It is written under the lock `ending`, which is kept by who ends the process meanwhile.
    """
    try:
        Evaluation(Job.read(folder)).run()
        result = EvaluationResult("finished", time.time())
    except Exception as error:  # noqa: BLE001  # the outermost frame: a crash becomes a result
        traceback.print_exc(file=sys.stderr)
        result = EvaluationResult(
            "failed", time.time(), job_problem(error, folder, "evaluate again")
        )
    shutil.rmtree(folder.work, ignore_errors=True)
    with ending or contextlib.nullcontext(), contextlib.suppress(ForgeError):
        write_result(folder, result)
    return int(result.state == "failed")


class Evaluation:
    """An evaluation in progress; the report is written after every stage."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.results = Results(notes=list(job.record.facts.get("notes", ())))
        self.steps = StepWriter(job.folder.events)
        self._began = time.monotonic()

    def run(self) -> None:
        """Do all stages that were asked for."""
        job = self.job
        self.steps.begin("load", "Loading the model")
        models = Models(job)
        known = KnownResults(job.folder.answers, job.earlier, models.setting)
        measurer = Measurer(job, models, known, self.steps)
        builder = self._builder(models)
        self._find_rows(builder)
        self._do("The rows to look at", self._worst_rows)
        if builder is None:
            spans = SpanMeasurement(job, models, known, self.results, self.steps)
            spans.measure(models.contestants)
        else:
            rows = RowMeasurement(job, builder, models, measurer, self.results, self.steps)
            self._measure_texts(rows, models)
        self.steps.end()
        write_report(job, self.results, self._began)

    def _measure_texts(self, rows: RowMeasurement, models: Models) -> None:
        """Measure models that write text: a report without their losses would be of no use."""
        request = self.job.request
        rows.losses()
        write_report(self.job, self.results, self._began)
        self._do("What was learned", rows.exchanged)
        if request.answers:
            self._do("The answers", rows.answers)
        if request.prompted:
            self._do("The prompt with examples", rows.prompted)
        if self.job.head == "causal":
            self._measure_prompts(rows, models)

    def _measure_prompts(self, rows: RowMeasurement, models: Models) -> None:
        job, results, steps, names = self.job, self.results, self.steps, models.contestants
        self._do("General prompts", lambda: measure_general(job, rows, names, results, steps))
        self._do("Corrected answers", lambda: measure_corrections(job, rows, results, steps))
        self._do("Tasks", lambda: measure_tasks(job, models, names, results, steps))

    def _do(self, what: str, stage: Callable[[], None]) -> None:
        """Do a stage and write the report; an error of the stage becomes a note in it."""
        optional(self.results, what, stage)
        write_report(self.job, self.results, self._began)

    def _builder(self, models: Models) -> CaseBuilder | None:
        if self.job.head == "span":
            return None
        prefix = ""
        if self.job.head == "seq2seq":
            with models.use(TUNED) as model:
                prefix = summarization_prefix(model.config)
        return CaseBuilder(self.job.template(prefix), self.job.options)

    def _find_rows(self, builder: CaseBuilder | None) -> None:
        """Find the evaluation rows, and check that the run has not trained on them."""
        job, results = self.job, self.results
        self.steps.begin("rows", "Finding the evaluation rows")
        if changed := changed_sources(job.run_record):
            results.notes.append(
                f"{', '.join(changed)} has changed since the run was trained, so that its "
                "evaluation rows cannot be told from its training rows. None are compared."
            )
            return
        try:
            results.rows = self._read_rows(builder)
        except ForgeError as error:
            results.notes.append(f"The evaluation rows cannot be read: {error.problems[0]}")
            return
        for numbered in results.rows.evaluation:
            case = (
                make_case(numbered)
                if builder is None
                else builder.case(numbered.number, numbered.row)
            )
            results.cases += [case] if case is not None else []
        results.notes += self._row_notes()

    def _read_rows(self, builder: CaseBuilder | None) -> RunRows:
        job = self.job
        total = max(1, 2 * count_rows(job.run_record))
        return read_run_rows(
            run_request(job.run_record, job.plan),
            lambda done, _count: self.steps.share(done / total),
            evaluation=job.request.rows,
            training=CANDIDATES,
            seed=job.request.seed,
            is_usable=builder.is_usable if builder else partial(is_usable, job),
        )

    def _row_notes(self) -> list[str]:
        job, rows, notes = self.job, self.results.rows, []
        self.results.parts["never_trained_on"] = "checked"
        if rows.left_out:
            count = "1 evaluation row is" if rows.left_out == 1 else f"{rows.left_out} rows are"
            notes.append(f"{count} left out of the comparison: the run trained on equal rows.")
        if rows.repeated:
            count = "1 evaluation row repeats another"
            count = f"{rows.repeated} evaluation rows repeat others" if rows.repeated > 1 else count
            notes.append(f"{count}: each counts once.")
        if job.plan.start_from:
            notes.append(
                "The run started from the adapter of another run; its rows are not checked."
            )
        if job.plan.method == "rlhf" and reward_rule(job) is None:
            notes.append(
                "A reward model gave the rewards of this run. Evaluations measure rewards by rule "
                "only, so that there is no metric of its task."
            )
        return notes

    def _worst_rows(self) -> None:
        # Without the data of the training, the numbers of rows mean nothing.
        if self.results.rows.training_count:
            self.results.parts["rows"] = worst_rows.find_rows(self.job, self.results.rows)
