"""Compare a growing model with LoRA, or with all new layers at once, for the same FLOPs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from modelforge.config.plan.growth_comparison import (
    Way,
    at_once_settings,
    lora_settings,
    steps_for,
    why_not,
)
from modelforge.config.resolve import Layer, resolve
from modelforge.config.schema.base import about
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, Problem
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.evaluation_losses import (
    LEAST_BATCHES,
    EvaluationLosses,
    interval,
    mean,
    read_evaluation_losses,
)
from modelforge.runs.states import RunState
from modelforge.runs.store import Store
from modelforge.runs.view import RunView
from modelforge.services.preflight import PreflightService
from modelforge.services.queue import QueueService
from modelforge.services.runs import RunService

NAMES = {Way.LORA: "LoRA, same FLOPs", Way.AT_ONCE: "all layers at once, same FLOPs"}
_OTHER_ROWS = "It was evaluated on other rows, so the losses cannot be compared."
_NOT_FINISHED = "This run has not finished."
_NO_ROWS = "This run has no evaluation rows."
_NO_FLOPS = "The FLOPs of this run are unknown."


@dataclass(frozen=True, kw_only=True)
class GrowthComparison:
    """A growing model beside another way to train, for the same FLOPs, on the same rows."""

    way: Annotated[Way, about("The other way: LoRA, or all new layers in one stage.")]
    why_not: Annotated[
        str, about("Why there is no comparison and none can be made; empty otherwise.")
    ] = ""
    run: Annotated[str | None, about("The run of the other way; null while there is none.")] = None
    state: Annotated[RunState | None, about("The state of that run.")] = None
    steps: Annotated[int | None, about("The steps of that run.")] = None
    before: Annotated[float | None, about("Evaluation loss before growing.")] = None
    loss: Annotated[float | None, about("Evaluation loss of the other way.")] = None
    lower_by: Annotated[
        float | None, about("How much lower the evaluation loss of the grown model is.")
    ] = None
    low: Annotated[float | None, about("Low end of its 95 % interval.")] = None
    high: Annotated[float | None, about("High end of that interval.")] = None
    sentence: Annotated[
        str, about("What the other way gave, and which was better; empty while it is unknown.")
    ] = ""

    @property
    def better(self) -> Literal["growing", "other", "no-difference", "unknown"]:
        """Which of the two has the lower evaluation loss beyond chance."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low > 0:
            return "growing"
        return "other" if self.high < 0 else "no-difference"


class GrowthComparisonService:
    """Make and read the runs that growing models are compared with."""

    def __init__(
        self, store: Store, runs: RunService, preflight: PreflightService, queue: QueueService
    ) -> None:
        self._store = store
        self._runs = runs
        self._preflight = preflight
        self._queue = queue

    def comparisons(self, run_id: str) -> list[GrowthComparison]:
        """Return the comparisons of a growing model.

        The list is empty for other runs, and where another version knows other settings. Raises
        NotFoundError.
        """
        view = self._runs.view(run_id)
        if view.growth is None:
            return []
        try:
            config = resolve(Layer("run", view.config)).config
        except ConfigError:
            return []
        ours = read_evaluation_losses(self._store.get(run_id))
        return [self._comparison(view, config, ours, way) for way in Way]

    def add(self, run_id: str, way: Way) -> str:
        """Add the run of the other way to the queue and return its id; it is made once.

        Raises NotFoundError, ConfigError where it cannot be compared, and what a start raises.
        """
        view = self._runs.view(run_id)
        config = resolve(Layer("run", view.config)).config
        ours = read_evaluation_losses(self._store.get(run_id))
        reason = self._why_not(view, config, ours, way)
        if reason:
            raise ConfigError(Problem("comparison", reason, "Compare another run."))
        layer = Layer("comparison", self._settings(view, config, way))
        name = f"{view.name} · {NAMES[way]}"
        return self._queue.add(layer, name=name, request_id=_request(run_id, way))

    def _comparison(
        self, view: RunView, config: TrainingConfig, ours: EvaluationLosses, way: Way
    ) -> GrowthComparison:
        other = self._store.find_request(_request(view.id, way))
        if other is None:
            return GrowthComparison(way=way, why_not=self._why_not(view, config, ours, way))
        state = self._runs.state(other.id)
        facts: dict[str, Any] = {"way": way, "run": other.id, "state": state}
        if state is not RunState.FINISHED:
            return GrowthComparison(**facts)
        found = GrowthComparison(**facts, **self._differences(ours, other))
        layers = sum(len(stage.new) for stage in view.growth.stages) if view.growth else 0
        return replace(found, sentence=sentence(found, layers))

    def _differences(self, ours: EvaluationLosses, other: RunFolder) -> dict[str, Any]:
        """Return the fields of a comparison about the losses."""
        theirs = read_evaluation_losses(other)
        found = {"steps": self._runs.view(other.id).step}
        if not ours.after or ours.rows != theirs.rows or _sizes(ours) != _sizes(theirs):
            return {**found, "why_not": _OTHER_ROWS}
        low, high = interval(theirs.after, ours.after)
        return {
            **found,
            "before": mean(ours.before) if ours.before else None,
            "loss": mean(theirs.after),
            "lower_by": mean(theirs.after) - mean(ours.after),
            "low": low,
            "high": high,
        }

    def _why_not(
        self, view: RunView, config: TrainingConfig, ours: EvaluationLosses, way: Way
    ) -> str:
        if view.growth is None:
            return "This run does not grow a model."
        if view.state is not RunState.FINISHED:
            return _NOT_FINISHED
        if not ours.after:
            return _NO_ROWS
        if len(ours.after) < LEAST_BATCHES:
            return (
                f"It has {len(ours.after)} evaluation batches; an interval needs {LEAST_BATCHES}."
            )
        if view.plan.flops is None:
            return _NO_FLOPS
        return why_not(config, way)

    def _settings(self, view: RunView, config: TrainingConfig, way: Way) -> dict[str, Any]:
        flops = view.plan.flops or 0.0
        if way is Way.LORA:
            return lora_settings(view.config, flops)
        group = config.progressive
        steps = view.plan.growing.stage_steps if view.plan.growing else None
        first = at_once_settings(view.config, config, (steps or 1) * group.stages)
        plan = self._preflight.check(Layer("comparison", first), idle=True).plan
        needed = steps_for(flops, plan.growing) if plan is not None and plan.growing else None
        if needed is None:
            raise ConfigError(Problem("comparison", _NO_FLOPS, "Compare with LoRA."))
        return at_once_settings(view.config, config, needed)


def _request(run_id: str, way: Way) -> str:
    """Return the id of the request that makes the run, by which it is found."""
    return f"grown-{run_id}-{way}"


def _sizes(losses: EvaluationLosses) -> list[int]:
    return [rows for _, rows in losses.after]


def sentence(found: GrowthComparison, layers: int) -> str:
    """Return what another way gave and which was better; `layers` are those that were added."""
    if found.loss is None or found.lower_by is None:
        return ""
    plural = "1 layer" if layers == 1 else f"{layers} layers"
    name = "LoRA" if found.way is Way.LORA else f"Training all {plural} at once"
    if found.before is None:
        lead = f"{name} with the same FLOPs reached {found.loss:.3f}."
    else:
        verb = "lowered" if found.loss <= found.before else "raised"
        lead = f"{name} with the same FLOPs {verb} it by {abs(found.before - found.loss):.3f}."
    if found.low is None or found.high is None:
        return f"{lead} Too few evaluation rows for an interval."
    low, high, size = found.low, found.high, f"{abs(found.lower_by):.3f}"
    if found.better == "growing":
        return f"{lead} Growing was better by {size} ({range_text(low, high)})."
    if found.better == "other":
        winner = "LoRA" if found.way is Way.LORA else "All at once"
        return f"{lead} {winner} was better by {size} ({range_text(-high, -low)})."
    return (
        f"{lead} The difference of {signed(found.lower_by)} ({range_text(low, high)}) may be "
        "chance: no difference is shown."
    )


def range_text(low: float, high: float) -> str:
    """Return an interval as text."""
    return f"{signed(low)} to {signed(high)}"


def signed(value: float) -> str:
    """Return a difference of losses with a minus sign."""
    return f"{value:.3f}".replace("-", "−")
