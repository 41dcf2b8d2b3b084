"""Measured time and memory of a run by part: a bar and a table for each."""

from __future__ import annotations

from modelforge.runs.progress.breakdown import Breakdown, PartMemory, TimePart
from ui.html import format as fmt
from ui.html.components import card
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render

TONES = ("c1", "ember", "c2", "c4", "c3", "c5")


def cards(measured: Breakdown) -> Markup:
    """Return the cards of what was measured; empty if nothing was."""
    if not measured.is_measured:
        return EMPTY
    found = []
    if measured.time:
        step = "" if measured.time_step is None else f"up to step {fmt.number(measured.time_step)}"
        found.append(card("Time by part", _table("Time", _times(measured.time), False), step))
    if measured.memory:
        peak = f"{fmt.number(measured.peak_gib, 1)} GiB at most" if measured.peak_gib else ""
        table = _table("Memory", _memory(measured.memory), True)
        found.append(card("Memory by part", table, peak))
    return join(found)


def _table(name: str, rows: list[tuple[str, str, str, float, str]], estimated: bool) -> Markup:
    spoken = ", ".join(f"{label} {100 * share:.0f} %" for _, label, _, share, _ in rows)
    return render("run", "breakdown", name, rows, spoken, estimated)


def _times(parts: list[TimePart]) -> list[tuple[str, str, str, float, str]]:
    return [
        (_tone(place), part.label, fmt.short_duration(part.seconds), part.share, "")
        for place, part in enumerate(parts)
    ]


def _memory(parts: list[PartMemory]) -> list[tuple[str, str, str, float, str]]:
    return [
        (
            _tone(place),
            part.label,
            fmt.memory_part(part.gib),
            part.share,
            fmt.UNKNOWN if part.estimated_gib is None else fmt.memory_part(part.estimated_gib),
        )
        for place, part in enumerate(parts)
    ]


def _tone(place: int) -> str:
    return TONES[place % len(TONES)]
