"""What callers see of an evaluation: its state, its steps, its prediction and its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.errors import Problem
from modelforge.runs.evaluations import EvaluationFolder, EvaluationRecord, EvaluationRequest
from modelforge.runs.jobs import JobState, JobStep
from modelforge.services.jobs.view import ended_at, lost_problem, seconds_left


@dataclass(frozen=True)
class Prediction:
    """What an evaluation needs."""

    seconds: Annotated[float, about("Duration.")]
    memory_bytes: Annotated[int, about("Peak memory in bytes.")]
    rows: Annotated[int, about("Evaluation rows that are used.")]
    device: Annotated[str, about("Where the models answer: cpu or cuda.")]
    notes: Annotated[
        tuple[str, ...], about("What the report cannot show, as sentences; empty if nothing.")
    ] = ()


@dataclass(frozen=True)
class EvaluationView:
    """An evaluation of a run. Times are Unix seconds."""

    id: str
    state: JobState
    run: Annotated[str, about("Id of the run.")]
    run_name: str
    request: EvaluationRequest
    created: float
    ended: float | None
    steps: tuple[JobStep, ...]
    seconds_left: Annotated[float | None, about("Estimated; null unless it is in progress.")]
    queued_behind: Annotated[str, about("What it waits for; empty unless it is queued.")]
    prediction: Prediction
    report: Annotated[
        dict[str, Any] | None,
        about("As described in docs/evaluation.md; null until there is one, with gaps if stopped."),
    ]
    problem: Annotated[Problem | None, about("Why it failed.")]


def view_evaluation(folder: EvaluationFolder, queued_behind: str = "") -> EvaluationView | None:
    """Return the view of an evaluation; None if its record is missing or damaged.

    `queued_behind` is what it waits for, if it waits.
    """
    record = folder.record()
    if record is None:
        return None
    # The state first: a result that is written meanwhile belongs to a later state.
    state, result = folder.state(), folder.result()
    if result is None or not state.is_over:
        result = None
    steps = tuple(folder.steps())
    lost = lost_problem(folder, steps, "Evaluate again") if state is JobState.LOST else None
    return EvaluationView(
        id=folder.id,
        state=state,
        run=record.request.run,
        run_name=record.run_name,
        request=record.request,
        created=record.created,
        ended=ended_at(folder, state, result),
        steps=steps,
        seconds_left=seconds_left(record.seconds, steps) if state is JobState.RUNNING else None,
        queued_behind=queued_behind if state is JobState.QUEUED else "",
        prediction=_prediction(record),
        report=folder.read_report() if state.is_over else None,
        problem=result.problem if result else lost,
    )


def _prediction(record: EvaluationRecord) -> Prediction:
    facts = record.facts
    return Prediction(
        seconds=record.seconds,
        memory_bytes=record.memory_bytes,
        rows=facts.get("evaluation_rows") or 0,
        device=str(facts.get("device") or "cpu"),
        notes=tuple(facts.get("notes") or ()),
    )
