"""Events become a picture of a run: its stages, what they measured, samples, scores and a log."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from modelforge.runs.downsample import Point, Trace
from modelforge.runs.events import EventRecord
from ui.html import format as fmt

READ_BYTES = 2**22
LOG_LINES = 200
SAMPLES = 24
PHASES = {
    "loading": "Loading the model",
    "tokenizing": "Tokenizing",
    "training": "Training",
    "evaluating": "Evaluating",
    "saving": "Saving",
}


@dataclass
class RunPicture:
    """All that a run's events say so far. Only `add` changes it."""

    phase: str = ""
    phase_text: str = ""
    done: int | None = None
    total: int | None = None
    stages: int | None = None
    stretches: list[Stretch] = field(default_factory=lambda: [Stretch()])
    peak_memory_gib: float | None = None
    began: float | None = None
    latest: float | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)
    samples: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    scores: dict[str, Any] | None = None
    ending: EventRecord | None = None
    saved: str | None = None
    lines: deque[tuple[float, str | Mapping[str, Any]]] = field(
        default_factory=lambda: deque(maxlen=LOG_LINES)
    )

    @property
    def log(self) -> list[str]:
        """Return the newest lines of the log; an update becomes words only here."""
        return [
            f"{fmt.time_of_day(t)}  {told if isinstance(told, str) else _of_update(told)}"
            for t, told in self.lines
        ]

    def add(self, event: EventRecord) -> None:
        """Take in one event; kinds of later versions are passed over."""
        take = _TAKERS.get(event.kind)
        if take is not None:
            take(self, event)
            self.latest = event.t

    @property
    def now(self) -> Stretch:
        """Return the stage that is at work, or was last."""
        return self.stretches[-1]

    @property
    def step(self) -> int:
        """Return the newest update of the stage at work."""
        return self.now.step

    @property
    def is_training(self) -> bool:
        """Whether updates are made, or checked in between."""
        return self.phase in ("training", "evaluating")

    @property
    def share(self) -> float | None:
        """Return how much of the work in hand is done, from 0 to 1; None when nobody knows."""
        if self.ending is not None and self.ending.kind == "finished":
            return 1.0
        if self.is_training and self.now.share is not None:
            return self.now.share
        if self.done is not None and self.total:
            return min(1.0, self.done / self.total)
        return None

    @property
    def seconds_left(self) -> float | None:
        """Return the time until the stage's last update, by the pace so far, checks included."""
        now = self.now
        if now.first is None or self.latest is None or not now.total_steps:
            return None
        steps, seconds = now.step - now.first[0], self.latest - now.first[1]
        return (now.total_steps - now.step) * seconds / steps if steps > 0 else None

    @property
    def seconds_taken(self) -> float | None:
        """Return how long the run has taken until its newest event."""
        known = self.began is not None and self.latest is not None
        return (self.latest or 0.0) - (self.began or 0.0) if known else None


class RunWatcher:
    """Follows one run's events for every tab that looks at it; reads each byte once.

    `version` grows when something was new, so a look at an unchanged run costs one `stat`.
    """

    def __init__(self, read: Callable[[int], tuple[Sequence[EventRecord], int]]) -> None:
        self._read = read
        self._cursor = 0
        self._turn = threading.Lock()
        self.picture = RunPicture()
        self.version = 0

    def poll(self) -> int:
        """Take in what is new and return the version."""
        with self._turn:
            while True:
                events, cursor = self._read(self._cursor)
                for event in events:
                    self.picture.add(event)
                self.version += bool(events)
                # A reader that gives a long file in parts has more to give while it moves on.
                if not events or cursor - self._cursor < READ_BYTES:
                    self._cursor = cursor
                    return self.version
                self._cursor = cursor


def _log(picture: RunPicture, event: EventRecord, text: str) -> None:
    picture.lines.append((event.t, text))


def _of_update(data: Mapping[str, Any]) -> str:
    return (
        f"step {data.get('step')}  loss {fmt.number(data.get('loss'), 3)}  "
        f"rate {fmt.compact(data.get('learning_rate'))}  "
        f"{fmt.number(data.get('tokens_per_s'))} tok/s"
    )


def _started(picture: RunPicture, event: EventRecord) -> None:
    if picture.began is None or picture.latest is None:
        picture.began = event.t
    else:
        # A run that goes on: the time in between was not spent on it.
        picture.began += max(0.0, event.t - picture.latest)
    picture.ending = picture.saved = picture.scores = None
    _log(picture, event, "the worker started")


def _resumed(picture: RunPicture, event: EventRecord) -> None:
    """Forget what came after the checkpoint, and begin the pace anew."""
    step, stage = event.data.get("step"), event.data.get("stage")
    if not isinstance(step, int):
        return
    number = stage if isinstance(stage, int) else picture.now.number
    kept = [one for one in picture.stretches if one.number <= number]
    picture.stretches = kept or [Stretch(number=number)]
    if picture.now.number == number:
        picture.now.cut(step)
    picture.samples = deque(
        (one for one in picture.samples if _is_before(one, number, step)), SAMPLES
    )
    _log(picture, event, f"resumed from step {step:,}")
    for one in event.data.get("damaged") or ():
        _log(picture, event, f"{one.get('name')} was skipped: {one.get('why')}")


def _is_before(sample: Mapping[str, Any], stage: int, step: int) -> bool:
    at, made = sample.get("stage"), sample.get("step")
    is_earlier = isinstance(at, int) and at < stage
    is_later = isinstance(at, int) and at > stage
    return is_earlier or (not is_later and not (isinstance(made, (int, float)) and made > step))


def _phase(picture: RunPicture, event: EventRecord) -> None:
    data = event.data
    name = str(data.get("name", ""))
    text = str(data.get("text") or PHASES.get(name, name))
    if (name, text) != (picture.phase, picture.phase_text):
        _log(picture, event, text[:1].lower() + text[1:])
    picture.phase, picture.phase_text = name, text
    picture.done, picture.total = data.get("done"), data.get("total")


def _plan(picture: RunPicture, event: EventRecord) -> None:
    stages = event.data.get("stages")
    picture.stages = int(stages) if isinstance(stages, int) else picture.stages
    stretch = _stretch(picture, event)
    stretch.plan = event.data
    stretch.name = str(event.data.get("stage_name") or stretch.name)


def _stretch(picture: RunPicture, event: EventRecord) -> Stretch:
    """Return the stage that an event belongs to; a later one than the last begins here."""
    stage = event.data.get("stage")
    if not isinstance(stage, int):
        return picture.now
    if stage > picture.now.number:
        picture.stretches.append(Stretch(number=stage))
    return next((one for one in picture.stretches if one.number == stage), picture.now)


def _step(picture: RunPicture, event: EventRecord) -> None:
    data, stretch = event.data, _stretch(picture, event)
    stretch.step, stretch.epoch = int(data.get("step") or 0), data.get("epoch", stretch.epoch)
    picture.phase, picture.done, picture.total = "training", None, None
    if stretch.first is None:
        stretch.first = (stretch.step, event.t)
    measured(stretch.series, stretch.step, data, SERIES)
    measured(stretch.metrics, stretch.step, data.get("metrics"))
    used = data.get("vram_gib") or data.get("ram_gib")
    if used is not None:
        picture.peak_memory_gib = max(used, picture.peak_memory_gib or 0.0)
    picture.lines.append((event.t, data))


def _eval(picture: RunPicture, event: EventRecord) -> None:
    loss, stretch = event.data.get("loss"), _stretch(picture, event)
    step = int(event.data.get("step") or stretch.step)
    measured(stretch.held, step, event.data.get("metrics"))
    if not isinstance(loss, (int, float)):
        return
    stretch.evals.append((step, float(loss)))
    if event.data.get("best"):
        stretch.best = (step, float(loss))
    praise = " (best so far, kept)" if event.data.get("best") else ""
    _log(picture, event, f"evaluation loss {loss:.3f}{praise}")


def _sample(picture: RunPicture, event: EventRecord) -> None:
    picture.samples.appendleft(event.data)


def _scores(picture: RunPicture, event: EventRecord) -> None:
    picture.scores = event.data
    rows = event.data.get("rows")
    _log(picture, event, f"scored on {fmt.plural(rows, 'evaluation row')}" if rows else "scored")


def _saved(picture: RunPicture, event: EventRecord) -> None:
    picture.saved = str(event.data.get("path", ""))
    _log(picture, event, f"saved {picture.saved}")


def _note(picture: RunPicture, event: EventRecord) -> None:
    picture.notes.append(event.data)
    _log(picture, event, str(event.data.get("text", "")))


def _end(picture: RunPicture, event: EventRecord) -> None:
    picture.ending = event
    _log(picture, event, str(event.data.get("what") or event.kind))


_TAKERS: dict[str, Callable[[RunPicture, EventRecord], None]] = {
    "started": _started,
    "resumed": _resumed,
    "phase": _phase,
    "plan": _plan,
    "step": _step,
    "eval": _eval,
    "saved": _saved,
    "note": _note,
    "sample": _sample,
    "scores": _scores,
    "finished": _end,
    "stopped": _end,
    "failed": _end,
}

SERIES = ("loss", "learning_rate", "tokens_per_s", "cpu_percent", "gpu_percent")
Curves = dict[str, Trace]


@dataclass
class Stretch:
    """One stage of a run, or the whole of a run that has none: its updates and their numbers.

    `metrics` is measured while training, `held` on held-out rows, both by the trainer's names.
    Curves are traces: however long the run, they keep few points.
    """

    number: int = 1
    name: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    epoch: float | None = None
    series: Curves = field(default_factory=lambda: {name: Trace() for name in SERIES})
    evals: Trace = field(default_factory=Trace)
    metrics: Curves = field(default_factory=dict)
    held: Curves = field(default_factory=dict)
    best: Point | None = None
    first: tuple[int, float] | None = None

    def cut(self, step: int) -> None:
        """Forget what came after an update: the run went on from there."""
        for trace in (
            self.evals,
            *(
                trace
                for curves in (self.series, self.metrics, self.held)
                for trace in curves.values()
            ),
        ):
            trace.cut(step)
        if self.best is not None and self.best[0] > step:
            self.best = min(self.evals, key=lambda point: point[1], default=None)
        self.step, self.first = min(self.step, step), None

    @property
    def total_steps(self) -> int | None:
        """Return how many updates there will be."""
        return self.plan.get("total_steps")

    @property
    def share(self) -> float | None:
        """Return how much of its updates are made, from 0 to 1; None when nobody knows."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else None

    def last(self, name: str) -> float | None:
        """Return the newest value of a series, or of what else was measured while training."""
        points = self.evals if name == "eval" else self.series.get(name) or self.metrics.get(name)
        return points[-1][1] if points else None

    def last_held(self, name: str) -> float | None:
        """Return the newest value that was measured on held-out rows."""
        points = self.held.get(name)
        return points[-1][1] if points else None


def measured(curves: Curves, step: int, told: object, names: Sequence[str] | None = None) -> None:
    """Add what was measured at an update to the curves; what is no number is left out."""
    if not isinstance(told, dict):
        return
    for name in names or told:
        value = told.get(name)
        if isinstance(value, (float, int)) and isfinite(value):
            trace = curves.get(name)
            if trace is None:
                trace = curves[str(name)] = Trace()
            trace.append((step, float(value)))
