"""One run as a person sees it: its facts, its state and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelforge.config.plan import Plan
from modelforge.errors import Problem, RunError
from modelforge.runs.events import TAIL_BYTES, Event, tail_events
from modelforge.runs.layout import RunFolder, read_json
from modelforge.runs.states import RunState

# A long evaluation speaks of nothing but itself for a while.
FAR_BYTES = 2**22


@dataclass(frozen=True)
class RunView:
    """A run: what was asked, what is done, how it ended. Times are Unix seconds.

    `ending` is the last milestone ({"kind": "failed", "cause", "what", "remedy"}), or None.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain data, as REST and `--json` give it."""
        return {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "created": self.created,
            "updated": self.updated,
            "step": self.step,
            "total_steps": self.total_steps,
            "loss": self.loss,
            "eval_loss": self.eval_loss,
            "ending": self.ending,
            "config": self.config,
            "origins": self.origins,
            "plan": self.plan.as_dict(),
            "dataset": self.dataset,
        }


def view_run(folder: RunFolder, state: RunState) -> RunView:
    """Return the view of a run from its folder: the record, and the end of its events.

    Raises RunError when the record is damaged.
    """
    record = read_json(folder.config)
    try:
        plan = Plan.from_dict(record["plan"])
    except (KeyError, TypeError) as error:
        what = f"The record of {folder.id} is damaged: {error}."
        raise RunError(Problem("run", what, "Its folder can only be deleted.")) from error
    latest = _latest(folder)
    step, evaluated = latest.get("step"), latest.get("eval")
    ending = next(
        (latest[kind] for kind in ("finished", "stopped", "failed") if kind in latest), None
    )
    counted = step or latest.get("plan")
    return RunView(
        id=folder.id,
        name=record["name"],
        state=state,
        created=record["created"],
        config=record["config"],
        origins=record["origins"],
        plan=plan,
        dataset=record["dataset"],
        step=step.data["step"] if step else 0,
        total_steps=counted.data.get("total_steps") if counted else plan.total_steps,
        loss=step.data.get("loss") if step else None,
        eval_loss=evaluated.data.get("loss") if evaluated else None,
        updated=max((event.t for event in latest.values()), default=record["created"]),
        ending={"kind": ending.kind, **ending.data} if ending else None,
    )


def _latest(folder: RunFolder) -> dict[str, Event]:
    """Return the newest event of each kind, looking further back while no update is in sight."""
    for reach in (TAIL_BYTES, FAR_BYTES):
        latest = {event.kind: event for event in tail_events(folder.events, reach)}
        if "step" in latest:
            break
    return latest
