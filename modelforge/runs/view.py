"""The read model of one run: settings, state and progress; and its row in the list."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.plan.make import Plan
from modelforge.config.schema.base import about
from modelforge.errors import Problem, RunError
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.disk_usage import run_sizes
from modelforge.runs.event_types import (
    AdjustedEvent,
    Ending,
    EvalEvent,
    PlanEvent,
    ResumedEvent,
    ScoresEvent,
    StepEvent,
)
from modelforge.runs.index import Stability
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunRow, RunSummary
from modelforge.runs.notes import read_notes, short_model_name
from modelforge.runs.process.launch import Elsewhere, elsewhere, read_launch
from modelforge.runs.progress.eta import EtaEstimator, Schedule
from modelforge.runs.progress.growth import Growth, growth_of
from modelforge.runs.progress.whole_run import run_steps
from modelforge.runs.states import RunState, read_facts, seconds_worked
from modelforge.runs.timeline import Timeline, tail_timeline

# The required parts of a record.
_PARTS = {"name": str, "config": dict, "origins": dict, "dataset": dict, "plan": dict}


@dataclass(frozen=True, kw_only=True)
class RunView(RunSummary):
    """A run with its settings and its plan."""

    config: Annotated[dict[str, Any], about("The settings as given.")]
    origins: Annotated[dict[str, str], about("The origin of each setting.")]
    plan: Plan
    dataset: Annotated[
        dict[str, Any],
        about("The dataset: its sources, each with files, sha256, rows and mapping."),
    ]
    elsewhere: Annotated[
        Elsewhere | None, about("Where it trains, or has trained; null for this computer.")
    ] = None
    seconds_left: Annotated[
        float | None, about("Estimated seconds left, counted from `updated`; null if unknown.")
    ] = None
    phase_left: Annotated[
        float | None, about("Estimated seconds left in the current phase, counted from `updated`.")
    ] = None
    growth: Annotated[
        Growth | None, about("The stages of a growing model; null for other runs.")
    ] = None
    adjusted: Annotated[
        dict[str, Any] | None,
        about(
            "Changes after an out-of-memory error: `step`, `micro_batch`, "
            "`accumulation`, `gradient_checkpointing`, `check_batch` and `why`; null if memory "
            "never ran out."
        ),
    ] = None

    def time_left(self, now: float | None = None) -> float | None:
        """Return the estimated seconds left at `now`; None if unknown or the run is over."""
        if self.seconds_left is None or self.state.is_over:
            return None
        return max(0.0, self.seconds_left - max(0.0, (now or time.time()) - self.updated))


def view_run(folder: RunFolder, state: RunState, timeline: Timeline | None = None) -> RunView:
    """Return the view of a run.

    The time left is only estimated from a complete `timeline`; without one, the end of the events
    is read. Raises RunError when the record is damaged.
    """
    record = read_json(folder.config)
    try:
        plan = _plan_in(record)
        events = timeline or tail_timeline(folder.events)
        adjusted = events.newest(AdjustedEvent)
        eta = _estimator(folder, record, timeline) if timeline and state.is_active else None
        return RunView(
            **_summary(folder, state, record, plan, events),
            config=record["config"],
            origins=record["origins"],
            plan=plan,
            dataset=record["dataset"],
            elsewhere=elsewhere(read_launch(folder.launch)),
            seconds_left=eta.seconds_left() if eta else None,
            phase_left=eta.phase_seconds_left() if eta else None,
            growth=_growth(folder, plan, events, state),
            adjusted=adjusted.as_data() if adjusted else None,
        )
    except _DAMAGED as error:
        raise _damaged(folder, error) from error


def read_row(folder: RunFolder) -> tuple[RunRow, Stability]:
    """Return a run as a row of the list, and whether it may still change.

    Raises RunError when the record is damaged.
    """
    facts = read_facts(folder)
    record = read_json(folder.config)
    try:
        plan, config = _plan_in(record), record["config"]
        row = RunRow(
            **_summary(folder, facts.state, record, plan, tail_timeline(folder.events)),
            model=short_model_name(str(config.get("model_name") or "")),
            data=data_name(config),
            task=str(config.get("task", "")),
            strategy=str(config.get("strategy", "sft")),
            sizes=run_sizes(folder),
            has_result=folder.has_result,
            request_id=record.get("request_id"),
            target=launch.target.name if (launch := read_launch(folder.launch)) else "",
        )
    except _DAMAGED as error:
        raise _damaged(folder, error) from error
    over = facts.state.is_over and not facts.alive
    return row, "over" if over else "idle" if facts.state is RunState.QUEUED else "busy"


# Another program may have written anything into a record; the other runs must still be shown.
_DAMAGED = (KeyError, TypeError, AttributeError, ValueError)


def _damaged(folder: RunFolder, error: Exception) -> RunError:
    what = f"The record of {folder.id} is damaged: {error}."
    return RunError(Problem("run", what, "Its folder can only be deleted."))


def _summary(
    folder: RunFolder, state: RunState, record: dict[str, Any], plan: Plan, timeline: Timeline
) -> dict[str, Any]:
    """Return the fields of a `RunSummary`."""
    notes = read_notes(folder)
    step, evaluation = timeline.newest(StepEvent), timeline.newest(EvalEvent)
    planned, scores = timeline.newest(PlanEvent), timeline.newest(ScoresEvent)
    counted = step or planned
    done, total = _steps(plan, timeline)
    process = find_json(folder.process) or {}
    launched, before = process.get("launched"), process.get("worked_before")
    created = record["created"]
    updated = created if timeline.updated is None else timeline.updated
    metrics = dict(step.metrics) if step else {}
    if evaluation:
        metrics |= {f"eval_{name}": value for name, value in evaluation.metrics.items()}
    return {
        "id": folder.id,
        "name": notes.name or record["name"],
        "state": state,
        "created": created,
        "launched": launched if isinstance(launched, float) else None,
        "worked_before": before if isinstance(before, float) else 0.0,
        "duration": seconds_worked(process, updated, created),
        "updated": updated,
        "step": done,
        "total_steps": total,
        "loss": step.loss if step else None,
        "eval_loss": evaluation.loss if evaluation else None,
        "eval_bits_per_byte": metrics.get("eval_bits_per_byte"),
        "metrics": metrics,
        "stage": counted.stage if counted else None,
        "scores": scores.as_data() if scores else None,
        "core": timeline.core_scores[-1].as_data() if timeline.core_scores else None,
        "ending": ending_data(timeline.ending),
        "tags": notes.tags,
        "note": notes.note,
    }


def _steps(plan: Plan, timeline: Timeline) -> tuple[int, int | None]:
    """Return the steps that are done, and all there are: of the stage, if a model does not grow."""
    if plan.growing is not None:
        return run_steps(plan, timeline)[1:]
    step, resumed = timeline.newest(StepEvent), timeline.newest(ResumedEvent)
    counted = step or timeline.newest(PlanEvent)
    done = step.step if step else resumed.step if resumed else 0
    return done, counted.total_steps if counted else plan.total_steps


def ending_data(ending: Ending | None) -> dict[str, Any] | None:
    """Return an ending as plain data: its kind and its fields."""
    return None if ending is None else {"kind": ending.kind, **ending.as_data()}


def _growth(folder: RunFolder, plan: Plan, timeline: Timeline, state: RunState) -> Growth | None:
    if plan.growing is None:
        return None
    return growth_of(plan, timeline, find_json(folder.preflight), is_over=state.is_over)


def _estimator(folder: RunFolder, record: dict[str, Any], timeline: Timeline) -> EtaEstimator:
    report = find_json(folder.preflight) or {}
    # Reports of the first versions have another name for it.
    trial_run = report.get("trial_run", report.get("rehearsal")) or report.get("last_run")
    return EtaEstimator(
        timeline.timings,
        Schedule.of(record["config"], record["plan"]),
        trial_run if isinstance(trial_run, dict) else None,
    )


def _plan_in(record: dict[str, Any]) -> Plan:
    """Return the plan of a record; raises TypeError for a part of the wrong type."""
    for name, kind in _PARTS.items():
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is not a {kind.__name__}")
    return Plan.from_dict(record["plan"], record["config"])


def data_name(config: dict[str, Any]) -> str:
    """Return the name of the first data file, with the number of further ones."""
    data = config.get("data")
    sources = data.get("sources") if isinstance(data, dict) else None
    if not sources:
        return _last_part(config.get("dataset"))
    more = f" +{len(sources) - 1}" if len(sources) > 1 else ""
    return _last_part(sources[0].get("path")) + more


def _last_part(path: object) -> str:
    return str(path or "").replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
