"""The verdict on a run from its event file: the stage that came last, its curves and samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelforge.diagnosis.verdict import Verdict, judge
from modelforge.runs.event_types import ENDINGS
from modelforge.runs.events import EventRecord, read_events

SAMPLES = 24
Points = list[tuple[float, float]]


def judge_run(path: Path) -> Verdict | None:
    """Return how the run with these events went; None while it goes on."""
    told = _Told()
    for event in read_events(path)[0]:
        told.take(event)
    if told.ending is None:
        return None
    return judge(
        loss=told.loss,
        held_out=told.held_out,
        metrics=told.metrics,
        held=told.held,
        samples=told.samples,
        scores=told.scores,
        ending=told.ending,
    )


@dataclass
class _Told:
    stage: int = 1
    loss: Points = field(default_factory=list)
    held_out: Points = field(default_factory=list)
    metrics: dict[str, Points] = field(default_factory=dict)
    held: dict[str, Points] = field(default_factory=dict)
    samples: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    scores: dict[str, Any] | None = None
    ending: dict[str, Any] | None = None

    def take(self, event: EventRecord) -> None:
        data = event.data
        match event.kind:
            case "started":
                self.ending = None
            case "resumed":
                self._forget_after(data)
            case "plan" | "step" | "eval" if _is_later(data.get("stage"), self.stage):
                self.stage = data["stage"]
                self.loss, self.held_out, self.metrics, self.held = [], [], {}, {}
        step = data.get("step")
        if event.kind == "step" and _is_number(step):
            _add(self.loss, step, data.get("loss"))
            _add_all(self.metrics, step, data.get("metrics"))
        elif event.kind == "eval" and _is_number(step):
            _add(self.held_out, step, data.get("loss"))
            _add_all(self.held, step, data.get("metrics"))
        elif event.kind == "sample":
            self.samples.appendleft(data)
        elif event.kind == "scores":
            self.scores = data
        elif event.kind in ENDINGS:
            self.ending = {"kind": event.kind, **data}

    def _forget_after(self, data: Mapping[str, Any]) -> None:
        """Drop what was measured after the checkpoint that the worker went on from."""
        step = data.get("step")
        if not isinstance(step, (int, float)):
            return
        for points in (self.loss, self.held_out, *self.metrics.values(), *self.held.values()):
            points[:] = [point for point in points if point[0] <= step]
        kept = [
            one for one in self.samples if not _is_number(one.get("step")) or one["step"] <= step
        ]
        self.samples = deque(kept, maxlen=SAMPLES)


def _add(points: Points, step: Any, value: object) -> None:
    if isinstance(value, (int, float)):
        points.append((step, float(value)))


def _add_all(curves: dict[str, Points], step: Any, metrics: object) -> None:
    for name, value in metrics.items() if isinstance(metrics, Mapping) else ():
        _add(curves.setdefault(str(name), []), step, value)


def _is_later(stage: object, than: int) -> bool:
    return isinstance(stage, int) and stage > than


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))
