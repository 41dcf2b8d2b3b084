"""The dial of a training from nothing: size, tokens, memory and time of each depth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from modelforge.config.resolve import Layer, flatten
from modelforge.config.schema.base import Gib, about
from modelforge.preflight.report import SecondsBasis
from modelforge.services.cache import Cache
from modelforge.services.preflight import PreflightResult, PreflightService

ENABLED, DEPTH = "pretraining.enabled", "pretraining.depth"
DEPTHS = tuple(range(2, 25, 2))
CACHED_DIALS = 16
MEASURED = ("trial_run", "last_run")


@dataclass(frozen=True, kw_only=True)
class DialPoint:
    """What one depth means on this machine; None is unknown."""

    depth: Annotated[int, about("Number of layers.")]
    parameters: Annotated[int | None, about("All weights of the model.")] = None
    tokens: Annotated[int | None, about("Tokens that are trained on.")] = None
    flops: Annotated[float | None, about("Floating point operations of the run.")] = None
    memory_gib: Gib = None
    fits: Annotated[bool | None, about("Whether the memory suffices.")] = None
    seconds: Annotated[float | None, about("Duration in seconds.")] = None
    seconds_basis: Annotated[
        SecondsBasis | None,
        about("How the duration is known; `trial_run` also where that of another depth is."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Dial:
    """What depths mean on this machine, the smallest first."""

    memory_available_gib: Gib = None
    points: Annotated[list[DialPoint], about("One entry per depth.")]


class DialService:
    """Compute what depths mean. Dials are cached by settings, data and free memory."""

    def __init__(self, preflight: PreflightService) -> None:
        self._preflight = preflight
        self._dials: Cache[str, Dial] = Cache(CACHED_DIALS)

    def read(self, *layers: Layer, depths: Sequence[int] = DEPTHS) -> Dial:
        """Return the dial of these settings; settings that cannot be used give unknown values.

        Args:
            layers: settings; their depth has no effect.
            depths: which depths, each at least 1.
        """
        checked = self._preflight.check(*layers, _at(depths[0]))
        key = _key(layers, depths, checked)
        return self._dials.get(key, lambda: self._compute(layers, depths, checked))

    def _compute(
        self, layers: Sequence[Layer], depths: Sequence[int], first: PreflightResult
    ) -> Dial:
        rest = [self._preflight.check(*layers, _at(depth)) for depth in depths[1:]]
        points = [_point(*pair) for pair in zip(depths, [first, *rest], strict=True)]
        available = first.report.memory_available_gib if first.report else None
        return Dial(memory_available_gib=available, points=with_measured_speed(points))


def with_measured_speed(points: Sequence[DialPoint]) -> list[DialPoint]:
    """Return the points with the speed of the nearest depth that a run has measured, if any.

    The time of a depth without a measurement is its FLOPs by the FLOPs per second of that depth.
    """
    measured = [
        each for each in points if each.seconds_basis in MEASURED and each.seconds and each.flops
    ]
    if not measured:
        return list(points)
    return [_by_speed(each, measured) for each in points]


def _by_speed(point: DialPoint, measured: Sequence[DialPoint]) -> DialPoint:
    if point.seconds_basis in MEASURED or not point.flops:
        return point
    nearest = min(measured, key=lambda each: abs(each.depth - point.depth))
    seconds = (nearest.seconds or 0.0) * point.flops / (nearest.flops or 1.0)
    return replace(point, seconds=seconds, seconds_basis=nearest.seconds_basis)


def _at(depth: int) -> Layer:
    return Layer("dial", {ENABLED: True, DEPTH: depth})


def _point(depth: int, checked: PreflightResult) -> DialPoint:
    report = checked.report
    parameters = checked.facts.parameters if checked.facts else None
    if report is None:
        return DialPoint(depth=depth, parameters=parameters)
    needed, free = report.memory_total_gib, report.memory_available_gib
    return DialPoint(
        depth=depth,
        parameters=parameters,
        tokens=report.tokens,
        flops=report.flops,
        memory_gib=needed,
        fits=None if needed is None or free is None else needed <= free,
        seconds=report.seconds,
        seconds_basis=report.seconds_basis,
    )


def _key(layers: Sequence[Layer], depths: Sequence[int], checked: PreflightResult) -> str:
    """Return a text that differs where a dial may differ, by the check of the first depth."""
    values: dict[str, object] = {}
    for layer in layers:
        values |= flatten(layer.values)
    values.pop(DEPTH, None)
    report, summary = checked.report, checked.summary
    state = (
        summary.sha256 if summary else None,
        report.seconds_basis if report else None,
        report.step_time_factor if report else None,
        round(report.memory_available_gib or 0.0) if report else None,
        [str(problem) for problem in checked.problems],
    )
    return json.dumps([values, list(depths), state], default=str, sort_keys=True)
