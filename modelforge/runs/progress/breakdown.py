"""Measured time and memory of a run by part, for its page, REST and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.runs.progress.measured_events import MemoryBreakdownEvent, TimeBreakdownEvent
from modelforge.runs.timeline import Timeline

# Name of a part -> its words, in the order in which they are shown.
TIME_PARTS = {
    "loading": "Loading the model",
    "data": "Data",
    "generation": "Generating answers",
    "forward": "Forward pass",
    "backward": "Backward pass",
    "clipping": "Gradient norm",
    "optimizer": "Optimizer",
    "evaluation": "Evaluation and samples",
    "saving": "Checkpoints",
    "other": "Other",
}
MEMORY_PARTS = {
    "weights": "Weights",
    "adapter": "Adapter",
    "gradients": "Gradients",
    "optimizer": "Optimizer",
    "activations": "Activations",
    "overhead": "Program and libraries",
}
# Parts of the estimate that are measured as one.
_MEASURED_AS = {"logits": "activations"}


@dataclass(frozen=True)
class TimePart:
    """The time of one part of the training."""

    name: str
    label: str
    seconds: float
    share: Annotated[float, about("Share of all parts, from 0 to 1.")]


@dataclass(frozen=True)
class PartMemory:
    """The memory of one part of the training."""

    name: str
    label: str
    gib: float
    share: Annotated[float, about("Share of all parts, from 0 to 1.")]
    estimated_gib: Annotated[float | None, about("What the plan has estimated, in GiB.")] = None


@dataclass(frozen=True)
class Breakdown:
    """Time and memory by part. Without `logging.time_breakdown` or `memory_breakdown`, empty."""

    time: list[TimePart] = field(default_factory=list)
    time_step: Annotated[int | None, about("The step up to which the time was measured.")] = None
    memory: list[PartMemory] = field(default_factory=list)
    peak_gib: Annotated[float | None, about("Peak memory of the worker, in GiB.")] = None

    @property
    def is_measured(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.time or self.memory)


def breakdown(timeline: Timeline, planned: Iterable[Mapping[str, Any]] = ()) -> Breakdown:
    """Return what was measured so far; `planned` is the estimated memory, by `name` and `gib`."""
    time = timeline.newest(TimeBreakdownEvent)
    memory = timeline.newest(MemoryBreakdownEvent)
    return Breakdown(
        time=[TimePart(*part) for part in _parts(time.parts, TIME_PARTS)] if time else [],
        time_step=time.step if time else None,
        memory=_memory(memory.parts, planned) if memory else [],
        peak_gib=memory.peak_gib if memory else None,
    )


def _memory(parts: dict[str, float], planned: Iterable[Mapping[str, Any]]) -> list[PartMemory]:
    estimated: dict[str, float] = {}
    for part in planned:
        name = _MEASURED_AS.get(str(part.get("name")), str(part.get("name")))
        gib = part.get("gib")
        if isinstance(gib, int | float):
            estimated[name] = estimated.get(name, 0.0) + gib
    return [
        PartMemory(*part, estimated_gib=estimated.get(part[0]))
        for part in _parts(parts, MEMORY_PARTS)
    ]


def _parts(
    values: Mapping[str, Any], labels: Mapping[str, str]
) -> list[tuple[str, str, float, float]]:
    """Return name, label, value and share of the known parts with a value."""
    known = {
        name: float(values[name])
        for name in labels
        if isinstance(values.get(name), int | float) and isfinite(values[name])
    }
    total = sum(known.values()) or 1.0
    return [(name, labels[name], value, value / total) for name, value in known.items() if value]
