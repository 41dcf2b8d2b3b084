"""The read model of one run: settings, state and progress; and its row in the list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.errors import Problem, RunError
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.disk_usage import run_sizes
from modelforge.runs.eta import EtaEstimator, Schedule
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
from modelforge.runs.listing import RunRow
from modelforge.runs.notes import read_notes
from modelforge.runs.states import RunState, read_facts
from modelforge.runs.timeline import Timeline, tail_timeline

# The required parts of a record.
_PARTS = {"name": str, "config": dict, "origins": dict, "dataset": dict, "plan": dict}


@dataclass(frozen=True)
class RunView:
    """A run: settings, progress and ending. Times are Unix seconds, durations seconds.

    `metrics` has the newest training metrics, and those of the evaluation split with the prefix
    `eval_`. `stage` counts from 1; None without stages. `seconds_left` and `phase_left` count from
    `updated`. `scores`, `adjusted` and `ending` have the data of the newest event of that kind;
    `ending` also has its `kind`.
    """

    id: str
    name: str
    state: RunState
    created: float
    config: dict[str, Any]
    origins: dict[str, str]
    plan: Plan
    dataset: dict[str, Any]
    step: int
    total_steps: int | None
    loss: float | None
    eval_loss: float | None
    updated: float
    ending: dict[str, Any] | None
    metrics: dict[str, float] = field(default_factory=dict)
    stage: int | None = None
    scores: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    launched: float | None = None
    seconds_left: float | None = None
    phase_left: float | None = None
    adjusted: dict[str, Any] | None = None

    @property
    def began(self) -> float:
        """When the run was launched, or created while it waits."""
        return self.launched or self.created

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain data, for REST and `--json`."""
        return {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "created": self.created,
            "launched": self.launched,
            "updated": self.updated,
            "step": self.step,
            "total_steps": self.total_steps,
            "loss": self.loss,
            "eval_loss": self.eval_loss,
            "metrics": self.metrics,
            "stage": self.stage,
            "scores": self.scores,
            "seconds_left": self.seconds_left,
            "phase_left": self.phase_left,
            "adjusted": self.adjusted,
            "ending": self.ending,
            "tags": list(self.tags),
            "note": self.note,
            "config": self.config,
            "origins": self.origins,
            "plan": self.plan.as_dict(),
            "dataset": self.dataset,
        }


def view_run(folder: RunFolder, state: RunState, timeline: Timeline | None = None) -> RunView:
    """Return the view of a run.

    The time left is only estimated from a complete `timeline`; without one, the end of the events
    is read. Raises RunError when the record is damaged.
    """
    return _view(folder, state, read_json(folder.config), timeline)


def _view(
    folder: RunFolder, state: RunState, record: dict[str, Any], timeline: Timeline | None = None
) -> RunView:
    try:
        return _read(folder, state, record, timeline)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Another program may have written anything there; the other runs must still be shown.
        what = f"The record of {folder.id} is damaged: {error}."
        raise RunError(Problem("run", what, "Its folder can only be deleted.")) from error


def _read(
    folder: RunFolder, state: RunState, record: dict[str, Any], complete: Timeline | None
) -> RunView:
    plan, notes = _plan_in(record), read_notes(folder)
    timeline = complete or tail_timeline(folder.events)
    step, evaluation = timeline.newest(StepEvent), timeline.newest(EvalEvent)
    planned, resumed = timeline.newest(PlanEvent), timeline.newest(ResumedEvent)
    scores, adjusted = timeline.newest(ScoresEvent), timeline.newest(AdjustedEvent)
    counted = step or planned
    launched = (find_json(folder.process) or {}).get("launched")
    eta = _estimator(folder, record, complete) if complete and state.is_active else None
    return RunView(
        id=folder.id,
        name=notes.name or record["name"],
        state=state,
        created=record["created"],
        config=record["config"],
        origins=record["origins"],
        plan=plan,
        dataset=record["dataset"],
        step=step.step if step else resumed.step if resumed else 0,
        total_steps=counted.total_steps if counted else plan.total_steps,
        loss=step.loss if step else None,
        eval_loss=evaluation.loss if evaluation else None,
        updated=record["created"] if timeline.updated is None else timeline.updated,
        ending=ending_data(timeline.ending),
        metrics=(step.metrics if step else {})
        | {f"eval_{name}": v for name, v in (evaluation.metrics if evaluation else {}).items()},
        stage=counted.stage if counted else None,
        scores=scores.as_data() if scores else None,
        tags=notes.tags,
        note=notes.note,
        launched=launched if isinstance(launched, float) else None,
        seconds_left=eta.seconds_left() if eta else None,
        phase_left=eta.phase_seconds_left() if eta else None,
        adjusted=adjusted.as_data() if adjusted else None,
    )


def ending_data(ending: Ending | None) -> dict[str, Any] | None:
    """Return an ending as plain data: its kind and its fields."""
    return None if ending is None else {"kind": ending.kind, **ending.as_data()}


def _estimator(folder: RunFolder, record: dict[str, Any], timeline: Timeline) -> EtaEstimator:
    report = find_json(folder.preflight) or {}
    # Reports of the first versions have another name for it.
    trial_run = report.get("trial_run", report.get("rehearsal"))
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


def read_row(folder: RunFolder) -> tuple[RunRow, Stability]:
    """Return a run as a row of the list, and whether it may still change.

    Raises RunError when the record is damaged.
    """
    facts = read_facts(folder)
    record = read_json(folder.config)
    view = _view(folder, facts.state, record)
    waits = facts.state is RunState.QUEUED
    over = facts.state.is_over and not facts.alive
    row = RunRow(
        id=view.id,
        name=view.name,
        state=str(view.state),
        created=view.created,
        launched=view.launched,
        updated=view.updated,
        step=view.step,
        total_steps=view.total_steps,
        loss=view.loss,
        eval_loss=view.eval_loss,
        metrics=view.metrics,
        stage=view.stage,
        scores=view.scores,
        ending=view.ending,
        model=_last_part(view.config.get("model_name")),
        data=data_name(view.config),
        task=str(view.config.get("task", "")),
        strategy=str(view.config.get("strategy", "sft")),
        method=view.plan.method,
        tags=view.tags,
        note=view.note,
        sizes=run_sizes(folder),
        has_result=folder.has_result,
        request_id=record.get("request_id"),
    )
    return row, "over" if over else "idle" if waits else "busy"


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
