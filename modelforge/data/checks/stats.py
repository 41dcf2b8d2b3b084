"""Numbers about a data set that people look at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from modelforge.data.checks.counters import Tally


@dataclass(frozen=True)
class Stats:
    """Rows, bytes, characters a row as a histogram, scripts of the answers, shares.

    `histogram` holds [from, below, rows] for each span of characters that has rows.
    """

    rows: int
    skipped: int
    bytes: int
    mean_chars: float
    longest_chars: int
    mean_answer_chars: float
    mean_turns: float
    empty_share: float
    duplicate_share: float
    scripts: dict[str, float]
    histogram: list[tuple[int, int, int]]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return asdict(self)


def stats_of(tally: Tally, size: int) -> Stats:
    """Return the numbers of a file of `size` bytes."""
    counts = tally.counts
    empty = sum(counts.get(code, 0) for code in ("empty-answer", "empty-text", "empty-question"))
    scripts = sorted(tally.scripts.items(), key=lambda each: -each[1])
    answers = sum(tally.scripts.values())
    return Stats(
        rows=tally.rows,
        skipped=tally.skipped,
        bytes=size,
        mean_chars=_share(tally.chars, tally.rows, 1),
        longest_chars=tally.longest,
        mean_answer_chars=_share(tally.answer_chars, tally.answers, 1),
        mean_turns=_share(tally.turns, tally.rows, 1),
        empty_share=_share(empty, tally.rows + tally.skipped, 4),
        duplicate_share=_share(counts.get("duplicate-rows", 0), tally.rows, 4),
        scripts={name: _share(count, answers, 4) for name, count in scripts},
        histogram=[
            (2**power // 2, 2**power, count) for power, count in enumerate(tally.sizes) if count
        ],
    )


def _share(part: float, whole: int, digits: int) -> float:
    return round(part / whole, digits) if whole else 0.0
