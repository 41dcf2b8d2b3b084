"""The numbers of a run as curves: over updates, tokens or time."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import orjson

from modelforge.runs.downsample import MOST_POINTS, Point, decimate

READ_BYTES = 2**22
AXES = ("step", "tokens", "seconds")
SERIES = ("loss", "learning_rate", "grad_norm", "tokens_per_s", "cpu_percent", "gpu_percent")


@dataclass
class Curve:
    """Values of one thing, each with the place in its stage where it was measured."""

    places: array[int] = field(default_factory=lambda: array("l"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def cut(self, places: int) -> None:
        """Forget what was measured at that place or later."""
        keep = len(self.places)
        while keep and self.places[keep - 1] >= places:
            keep -= 1
        del self.places[keep:], self.values[keep:]

    def __len__(self) -> int:
        return len(self.places)


@dataclass
class Stage:
    """One stage: at every place the update, the epoch, and the tokens and seconds until then.

    Seconds are those spent on updates: neither checks nor pauses count. `held` was measured on
    held-out rows; both are by the trainer's names, `loss` among them. `began` is the update it went
    on from, which may have been made in another run.
    """

    number: int = 1
    name: str = ""
    began: float = 0.0
    total_steps: int | None = None
    step: array[float] = field(default_factory=lambda: array("d"))
    epoch: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    trained: dict[str, Curve] = field(default_factory=dict)
    held: dict[str, Curve] = field(default_factory=dict)

    def points(self, curve: Curve, axis: str = "step") -> list[Point]:
        """Return a curve over `step`, `epoch`, `tokens` or `seconds`."""
        across: array[float] = getattr(self, axis)
        return [(across[place], value) for place, value in zip(*_columns(curve), strict=True)]

    def rows(self, curve: Curve, most: int = MOST_POINTS) -> list[list[float]]:
        """Return at most `most` points, each with step, epoch, tokens, seconds and value."""
        kept = decimate([*zip(*_columns(curve), strict=True)], most)
        told = (self.step, self.epoch, self.tokens, self.seconds)
        return [[*(column[int(place)] for column in told), value] for place, value in kept]

    def place(self, step: float, epoch: Any, tokens: float, seconds: float) -> int:
        """Add an update and return its place."""
        before = (self.tokens[-1], self.seconds[-1]) if self.step else (0.0, 0.0)
        known = self.epoch[-1] if self.epoch else math.nan
        self.step.append(step)
        self.epoch.append(epoch if is_number(epoch) else known)
        self.tokens.append(before[0] + tokens)
        self.seconds.append(before[1] + seconds)
        return len(self.step) - 1

    def place_of(self, step: float, epoch: Any) -> int:
        """Return the place of an update that is known, or of the last one before it."""
        if not self.step or step > self.step[-1]:
            return self.place(step, epoch, 0.0, 0.0)
        return max(0, bisect_right(self.step, step) - 1)

    def cut(self, step: float) -> None:
        """Forget what came after an update."""
        keep = len(self.step)
        while keep and self.step[keep - 1] > step:
            keep -= 1
        for column in (self.step, self.epoch, self.tokens, self.seconds):
            del column[keep:]
        for curve in (*self.trained.values(), *self.held.values()):
            curve.cut(keep)


@dataclass
class Curves:
    """All that a run has measured, stage by stage."""

    stages: list[Stage] = field(default_factory=lambda: [Stage()])

    def as_dict(self, most: int = MOST_POINTS) -> dict[str, Any]:
        """Return the curves thinned to `most` points each, as REST gives them."""

        def thinned(stage: Stage, curves: Mapping[str, Curve]) -> dict[str, list[list[float]]]:
            return {name: stage.rows(curve, most) for name, curve in curves.items() if curve}

        return {
            "columns": ["step", "epoch", "tokens", "seconds", "value"],
            "stages": [
                {
                    "stage": stage.number,
                    "name": stage.name,
                    "total_steps": stage.total_steps,
                    "points": len(stage.step),
                    "trained": thinned(stage, stage.trained),
                    "held": thinned(stage, stage.held),
                }
                for stage in self.stages
            ],
        }

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take in one event; a run that went on from a checkpoint forgets what came after it."""
        if kind == "resumed":
            self._went_on(data)
            return
        stage = self._stage(data.get("stage"))
        if kind == "plan":
            total = data.get("total_steps")
            stage.total_steps = total if isinstance(total, int) else None
            stage.name = str(data.get("stage_name") or stage.name)
        elif kind == "step":
            _take_step(stage, data)
        elif kind == "eval":
            _take_eval(stage, data)

    def _stage(self, number: object) -> Stage:
        if not isinstance(number, int):
            return self.stages[-1]
        if number > self.stages[-1].number:
            self.stages.append(Stage(number))
        return next((one for one in self.stages if one.number == number), self.stages[-1])

    def _went_on(self, data: Mapping[str, Any]) -> None:
        number, step = data.get("stage"), data.get("step")
        if isinstance(number, int):
            self.stages = [one for one in self.stages if one.number <= number] or [Stage(number)]
        if is_number(step):
            stage = self.stages[-1]
            stage.cut(float(step))
            if not stage.step:
                stage.began = float(step)


def read_curves(path: Path) -> Curves:
    """Return what the events in a file have measured; never raises for what is no event."""
    curves = Curves()
    for kind, data in read_said(path):
        curves.take(kind, data)
    return curves


def read_said(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and data of every event in a file, without holding more than a part of it."""
    rest = b""
    try:
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    try:
                        said = orjson.loads(line)
                        kind, data = said["kind"], said["data"]
                    except (ValueError, KeyError, TypeError):
                        continue
                    if isinstance(kind, str) and isinstance(data, dict):
                        yield kind, data
    except FileNotFoundError:
        return


def is_number(value: object) -> TypeGuard[float]:
    """Say whether a value can be drawn."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _columns(curve: Curve) -> tuple[array[int], array[float]]:
    return curve.places, curve.values


def _take_step(stage: Stage, data: Mapping[str, Any]) -> None:
    step = _number(data.get("step"))
    updates = step - (stage.step[-1] if stage.step else stage.began)
    seconds = _number(data.get("seconds")) * max(0.0, updates)
    place = stage.place(step, data.get("epoch"), _number(data.get("tokens")), seconds)
    for name in SERIES:
        _add(stage.trained, name, place, data.get(name))
    memory = data.get("vram_gib")
    _add(stage.trained, "memory_gib", place, data.get("ram_gib") if memory is None else memory)
    _measured(stage.trained, place, data.get("metrics"))


def _take_eval(stage: Stage, data: Mapping[str, Any]) -> None:
    place = stage.place_of(_number(data.get("step")), data.get("epoch"))
    _add(stage.held, "loss", place, data.get("loss"))
    _measured(stage.held, place, data.get("metrics"))


def _measured(curves: dict[str, Curve], place: int, metrics: object) -> None:
    if isinstance(metrics, dict):
        for name, value in metrics.items():
            _add(curves, name, place, value)


def _add(curves: dict[str, Curve], name: str, place: int, value: object) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return
    curve = curves.get(name)
    if curve is None:
        curve = curves[name] = Curve()
    curve.places.append(place)
    curve.values.append(value)


def _number(value: object) -> float:
    return float(value) if is_number(value) else 0.0
