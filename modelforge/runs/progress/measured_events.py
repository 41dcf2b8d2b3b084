"""Events with what a run has measured about itself, beside those of `event_types`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from modelforge.runs.event_fields import Info, StageEvent


@dataclass(frozen=True, kw_only=True)
class TimeBreakdownEvent(StageEvent):
    """How long each part of the training has taken since the newest start.

    Parts: loading, data, generation, forward, backward, clipping, optimizer, evaluation, saving,
    other.
    """

    kind: ClassVar[str] = "time_breakdown"
    step: Annotated[int, Info("Newest step.")]
    parts: Annotated[dict[str, float], Info("Seconds by part.", "s")]


@dataclass(frozen=True, kw_only=True)
class MemoryBreakdownEvent(StageEvent):
    """How much memory each part of the training has taken at its peak.

    Parts: weights, adapter, gradients, optimizer, activations, overhead.
    """

    kind: ClassVar[str] = "memory_breakdown"
    step: Annotated[int, Info("Newest step.")]
    parts: Annotated[dict[str, float], Info("GiB by part.", "GiB")]
    peak_gib: Annotated[float | None, Info("Peak memory of the worker.", "GiB")] = None


@dataclass(frozen=True, kw_only=True)
class PrivacyEvent(StageEvent):
    """The privacy that the training has spent so far, for each training row (DP-SGD)."""

    kind: ClassVar[str] = "privacy"
    step: Annotated[int, Info("Newest step.")]
    epsilon: Annotated[float, Info("Epsilon of the weights after this step.")]
    delta: Annotated[float, Info("Probability that the bound does not hold.")]
    noise_multiplier: Annotated[float, Info("Standard deviation of the noise, in clipping norms.")]
    sample_rate: Annotated[float, Info("Probability of each row to be in a step.")]
    max_grad_norm: Annotated[float, Info("Norm to which the gradient of each row is clipped.")]


@dataclass(frozen=True, kw_only=True)
class GrowthEvent(StageEvent):
    """A stage of a growing model begins; layers are numbered as in the model of the stage."""

    kind: ClassVar[str] = "growth"
    stages: Annotated[int, Info("Number of stages.")]
    name: Annotated[str, Info("Name of the stage.")]
    layers: Annotated[int, Info("Layers of the model in this stage.")]
    new: Annotated[list[int], Info("Layers that it adds; empty in the joint stage.")]
    trained: Annotated[list[int], Info("Layers with weights or adapters that train.")]
    frozen: Annotated[list[int], Info("Layers in which nothing trains.")]
    adapters: Annotated[dict[str, list[int]], Info("Layers by the name of an adapter.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True, kw_only=True)
class GainEvent(StageEvent):
    """What growing has given after a stage: evaluation losses on the same rows."""

    kind: ClassVar[str] = "gain"
    before: Annotated[float, Info("Evaluation loss before growing.")]
    after: Annotated[float, Info("Best evaluation loss of the stage.")]
    low: Annotated[float | None, Info("Low end of the 95 % interval of the difference.")] = None
    high: Annotated[float | None, Info("High end of that interval.")] = None
    batches: Annotated[int, Info("Evaluation batches.")] = 0


@dataclass(frozen=True, kw_only=True)
class CoreEvent(StageEvent):
    """The model was scored on CORE: the mean of tasks, each centred on guessing.

    Each of `tasks` has `name`, `kind`, `rows`, `shots`, `accuracy`, `baseline` and `score`.
    """

    kind: ClassVar[str] = "core"
    step: Annotated[int, Info("Step after which it was scored.")]
    score: Annotated[float, Info("The mean; 0 is guessing, 1 is all correct.")]
    low: Annotated[float | None, Info("Low end of the 95 % interval of the mean.")] = None
    high: Annotated[float | None, Info("High end of that interval.")] = None
    tasks: Annotated[list[dict[str, Any]], Info("The score of each task.")] = field(
        default_factory=list
    )
    seconds: Annotated[float | None, Info("Time that scoring took.", "s")] = None
