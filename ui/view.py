"""Events become what a person wants to know: numbers, curves, time left, a log and a verdict."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.runs.events import Event
from ui import words

LOG_LINES = 200
SERIES = ("loss", "learning_rate", "tokens_per_s", "cpu_percent", "gpu_percent")
PHASES = {
    "loading": "Loading the model",
    "tokenizing": "Turning rows into tokens",
    "training": "Training",
    "evaluating": "Checking on held-out rows",
    "saving": "Saving",
}
Point = tuple[float, float]


@dataclass
class RunPicture:
    """All that a run's events say so far. Only `add` changes it."""

    phase: str = ""
    phase_text: str = ""
    done: int | None = None
    total: int | None = None
    step: int = 0
    epoch: float | None = None
    plan: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[Point]] = field(default_factory=lambda: {name: [] for name in SERIES})
    evals: list[Point] = field(default_factory=list)
    best: Point | None = None
    peak_memory_gib: float | None = None
    began: float | None = None
    first: tuple[int, float] | None = None
    latest: float | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)
    ending: Event | None = None
    saved: str | None = None
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    def add(self, event: Event) -> None:
        """Take in one event; kinds of later versions are passed over."""
        take = _TAKERS.get(event.kind)
        if take is not None:
            take(self, event)
            self.latest = event.t

    def last(self, name: str) -> float | None:
        """Return the newest value of a series."""
        points = self.evals if name == "eval" else self.series[name]
        return points[-1][1] if points else None

    @property
    def is_training(self) -> bool:
        """Whether updates are made, or checked in between."""
        return self.phase in ("training", "evaluating")

    @property
    def total_steps(self) -> int | None:
        """Return how many updates the run will have."""
        return self.plan.get("total_steps")

    @property
    def share(self) -> float | None:
        """Return how much of the work in hand is done, from 0 to 1; None when nobody knows."""
        if self.ending is not None and self.ending.kind == "finished":
            return 1.0
        if self.is_training and self.total_steps:
            return min(1.0, self.step / self.total_steps)
        if self.done is not None and self.total:
            return min(1.0, self.done / self.total)
        return None

    @property
    def seconds_left(self) -> float | None:
        """Return the time until the last update, from the pace so far, evaluations included."""
        if self.first is None or self.latest is None or not self.total_steps:
            return None
        steps, seconds = self.step - self.first[0], self.latest - self.first[1]
        return (self.total_steps - self.step) * seconds / steps if steps > 0 else None

    @property
    def seconds_expected(self) -> float | None:
        """Return how long the whole run will have taken, from the pace so far."""
        left = 0.0 if self.ending is not None else self.seconds_left
        if left is None or self.began is None or self.latest is None:
            return None
        return self.latest - self.began + left


class RunWatcher:
    """Follows one run's events for every tab that looks at it; reads each byte once.

    `version` grows when something was new, so a look at an unchanged run costs one `stat`.
    """

    def __init__(self, read: Callable[[int], tuple[Sequence[Event], int]]) -> None:
        self._read = read
        self._cursor = 0
        self._turn = threading.Lock()
        self.picture = RunPicture()
        self.version = 0

    def poll(self) -> int:
        """Take in what is new and return the version."""
        with self._turn:
            events, self._cursor = self._read(self._cursor)
            for event in events:
                self.picture.add(event)
            self.version += bool(events)
            return self.version


def progress_line(picture: RunPicture) -> str:
    """Return what the worker is at, in words: `update 71 of 154 · epoch 1.4 of 3`."""
    if not picture.is_training and picture.ending is None:
        text = picture.phase_text or PHASES.get(picture.phase, "")
        if picture.done is not None and picture.total:
            text = f"{text} · {words.number(picture.done)} of {words.number(picture.total)}"
        return text
    parts = [f"update {picture.step:,}"]
    if picture.total_steps:
        parts[0] += f" of {words.number(picture.total_steps)}"
    if picture.epoch is not None:
        epochs = picture.plan.get("epochs")
        parts.append(
            f"epoch {picture.epoch:.1f}"
            + (f" of {epochs:.1f}".removesuffix(".0") if epochs else "")
        )
    if picture.phase == "evaluating":
        parts.append("checking on held-out rows")
    return " · ".join(parts)


def verdict(picture: RunPicture) -> str:
    """Return how the run went in one or two plain sentences; empty while it goes on."""
    ending = picture.ending
    if ending is None:
        return ""
    if ending.kind == "failed":
        return " ".join(str(ending.data.get(part) or "") for part in ("what", "remedy")).strip()
    if ending.kind == "stopped":
        kept = (
            "What it had learned by then is kept."
            if ending.data.get("kept")
            else "Nothing is kept."
        )
        made = words.plural(ending.data.get("step") or picture.step, "update")
        return f"Stopped after {made}. {kept}"
    took = words.duration(ending.data.get("seconds"))
    steps = words.plural(ending.data.get("steps") or picture.step, "update")
    return " ".join(part for part in (f"{steps} in {took}.", _learned(picture)) if part)


def _learned(picture: RunPicture) -> str:
    loss = picture.series["loss"]
    told = ""
    if len(loss) > 1:
        start, end = _mean(loss[:3]), _mean(loss[-3:])
        word = "fell" if end < start * 0.98 else "rose" if end > start * 1.02 else "stayed near"
        told = (
            f"The loss {word} {start:.2f}."
            if word == "stayed near"
            else f"The loss {word} from {start:.2f} to {end:.2f}."
        )
    if not picture.evals:
        return told
    best = picture.best or min(picture.evals, key=lambda point: point[1])
    last = picture.evals[-1][1]
    if last > best[1] * 1.02:
        return (
            f"{told} On rows it never saw it went up again, from {best[1]:.2f} at update "
            f"{best[0]:,.0f} to {last:.2f}: it had begun to learn rows by heart. "
            "The better state was kept."
        )
    return f"{told} On rows it never saw it is {last:.2f}."


def _mean(points: Sequence[Point]) -> float:
    return sum(value for _, value in points) / len(points)


def _log(picture: RunPicture, event: Event, text: str) -> None:
    picture.log.append(f"{words.clock(event.t)}  {text}")


def _started(picture: RunPicture, event: Event) -> None:
    picture.began = event.t
    _log(picture, event, "the worker started")


def _phase(picture: RunPicture, event: Event) -> None:
    data = event.data
    name = str(data.get("name", ""))
    text = str(data.get("text") or PHASES.get(name, name))
    if (name, text) != (picture.phase, picture.phase_text):
        _log(picture, event, text[:1].lower() + text[1:])
    picture.phase, picture.phase_text = name, text
    picture.done, picture.total = data.get("done"), data.get("total")


def _plan(picture: RunPicture, event: Event) -> None:
    picture.plan = event.data


def _step(picture: RunPicture, event: Event) -> None:
    data = event.data
    picture.step, picture.epoch = int(data.get("step") or 0), data.get("epoch", picture.epoch)
    picture.phase, picture.done, picture.total = "training", None, None
    if picture.first is None:
        picture.first = (picture.step, event.t)
    for name, points in picture.series.items():
        value = data.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            points.append((picture.step, float(value)))
    used = data.get("vram_gib") or data.get("ram_gib")
    if used is not None:
        picture.peak_memory_gib = max(used, picture.peak_memory_gib or 0.0)
    _log(
        picture,
        event,
        f"update {picture.step}  loss {words.number(data.get('loss'), 3)}  "
        f"rate {words.small(data.get('learning_rate'))}  "
        f"{words.number(data.get('tokens_per_s'))} tok/s",
    )


def _eval(picture: RunPicture, event: Event) -> None:
    loss = event.data.get("loss")
    step = int(event.data.get("step") or picture.step)
    if not isinstance(loss, (int, float)):
        return
    picture.evals.append((step, float(loss)))
    if event.data.get("best"):
        picture.best = (step, float(loss))
    praise = " (best so far, kept)" if event.data.get("best") else ""
    _log(picture, event, f"held-out rows: loss {loss:.3f}{praise}")


def _saved(picture: RunPicture, event: Event) -> None:
    picture.saved = str(event.data.get("path", ""))
    _log(picture, event, f"saved {picture.saved}")


def _note(picture: RunPicture, event: Event) -> None:
    picture.notes.append(event.data)
    _log(picture, event, str(event.data.get("text", "")))


def _end(picture: RunPicture, event: Event) -> None:
    picture.ending = event
    _log(picture, event, str(event.data.get("what") or event.kind))


_TAKERS: dict[str, Callable[[RunPicture, Event], None]] = {
    "started": _started,
    "phase": _phase,
    "plan": _plan,
    "step": _step,
    "eval": _eval,
    "saved": _saved,
    "note": _note,
    "finished": _end,
    "stopped": _end,
    "failed": _end,
}
