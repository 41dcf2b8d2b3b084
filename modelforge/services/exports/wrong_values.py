"""What is wrong with a request for an export by itself, whatever its run is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from modelforge.errors import Problem
from modelforge.runs.exports import (
    COMBINATIONS,
    FORMATS,
    PRECISIONS,
    QUANTIZATIONS,
    WITH_PRECISION,
    ExportRequest,
)

MAX_ADAPTERS = 16
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def wrong_values(request: ExportRequest) -> Iterator[Problem]:
    """Yield what is wrong with a request, whatever the run is."""
    for name, known in (
        ("format", FORMATS),
        ("quantization", QUANTIZATIONS),
        ("precision", PRECISIONS),
        ("content", ("adapter", "merged", "gguf")),
        ("combination", COMBINATIONS),
    ):
        if (value := getattr(request, name)) not in known:
            yield Problem(name, f"{value!r} is not known.", f"Use {', '.join(known)}.")
    if request.format == "hub" and not _REPOSITORY.fullmatch(request.repository):
        what = f"{request.repository[:120]!r} is not a repository of the Hub."
        if not request.repository:
            what = "No repository is named."
        yield Problem("repository", what, "Write USER/NAME, such as anna/support-desk.")
    if request.precision != "base" and request.written not in WITH_PRECISION:
        what = f"{request.precision} is for merged weights, not for {request.written}."
        yield Problem("precision", what, f"Leave it out, or choose {' or '.join(WITH_PRECISION)}.")
    if not 0 < request.density <= 1:
        yield Problem("density", f"It is {request.density:g}.", "Give a share above 0, up to 1.")
    yield from _wrong_adapters(request)


def _wrong_adapters(request: ExportRequest) -> Iterator[Problem]:
    runs = [request.run, *(run for run, _weight in request.adapters)]
    for run in sorted({run for run in runs if runs.count(run) > 1}):
        yield Problem("adapters", f"{run} is named twice.", "Name each run once.")
    if len(runs) > MAX_ADAPTERS:
        yield Problem("adapters", f"There are {len(runs)}.", f"Combine up to {MAX_ADAPTERS}.")
    for weight in (request.weight, *(weight for _run, weight in request.adapters)):
        if not math.isfinite(weight) or weight == 0:
            yield Problem("adapters", f"The weight {weight:g} has no effect.", "Give a number.")
