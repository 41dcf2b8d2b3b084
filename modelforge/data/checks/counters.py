"""Counters filled while a data file is read; those of its parts can be merged."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

# A line and a column; the column is a number, or the name of a field or file.
Place = tuple[int, int | str | None]
MAX_PLACES = 5
MAX_COLUMNS = 200
# Fingerprints, lines and prompts take 24 bytes per row; duplicates are searched among this many
# first rows.
MAX_FINGERPRINTS = 8_000_000
_MAX_ROWS_IN_SET = 100_000
# Questions with several answers are searched in files of up to this many rows.
MAX_PROMPTS = 500_000


@dataclass
class Counters:
    """Counts of rows, characters, findings and scripts.

    Args:
        lines: lines read, by which places move when counters are merged.
        length_histogram: rows by the bit length of their number of characters.
        fingerprints: 64-bit hashes of the rows, with their lines in `fingerprint_lines`.
        prompts: hash of what comes before the last answer of each of them; 0 without.
    """

    rows: int = 0
    skipped: int = 0
    chars: int = 0
    longest: int = 0
    answers: int = 0
    answer_chars: int = 0
    messages: int = 0
    lines: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    length_histogram: list[int] = field(default_factory=lambda: [0] * 32)
    scripts: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[Place]] = field(default_factory=dict)
    fingerprints: array[int] = field(default_factory=lambda: array("Q"))
    fingerprint_lines: array[int] = field(default_factory=lambda: array("Q"))
    prompts: array[int] = field(default_factory=lambda: array("Q"))

    def record(self, code: str, line: int, column: int | str | None = None) -> None:
        """Count a finding, and keep its place if it is among the first."""
        self.counts[code] += 1
        if self.counts[code] <= MAX_PLACES:
            self.places.setdefault(code, []).append((line, column))

    def add_columns(self, names: Iterable[str]) -> None:
        """Add column names in order of appearance, up to MAX_COLUMNS."""
        for name in names:
            if len(self.columns) >= MAX_COLUMNS:
                return
            self.columns.setdefault(name)

    def merge(self, later: Counters) -> None:
        """Add the counters of the part that follows."""
        for name in ("rows", "skipped", "chars", "answers", "answer_chars", "messages"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.longest = max(self.longest, later.longest)
        self.add_columns(later.columns)
        for power, count in enumerate(later.length_histogram):
            self.length_histogram[power] += count
        self.scripts.update(later.scripts)
        self.counts.update(later.counts)
        for code, places in later.places.items():
            kept = self.places.setdefault(code, [])
            moved = [(line + self.lines, column) for line, column in places]
            kept += moved[: MAX_PLACES - len(kept)]
        free = MAX_FINGERPRINTS - len(self.fingerprints)
        self.fingerprints.extend(later.fingerprints[:free])
        self.fingerprint_lines.extend(line + self.lines for line in later.fingerprint_lines[:free])
        self.prompts.extend(later.prompts[:free])
        self.lines += later.lines

    def count_duplicates(self) -> None:
        """Record every row that repeats an earlier one, or gives another answer to its question.

        Earlier counts are replaced.
        """
        lines = {
            "duplicate-rows": duplicate_lines(self.fingerprints, self.fingerprint_lines),
            "other-answers": self._lines_of_other_answers(),
        }
        for code, found in lines.items():
            self.counts.pop(code, None)
            self.places.pop(code, None)
            for line in found:
                self.record(code, line)

    def _lines_of_other_answers(self) -> list[int]:
        """Return the lines of rows whose question has another answer in an earlier row."""
        if len(self.prompts) > MAX_PROMPTS:
            return []
        first: dict[int, int] = {}
        seen: set[int] = set()
        lines = []
        for prompt, row, line in zip(
            self.prompts, self.fingerprints, self.fingerprint_lines, strict=True
        ):
            if prompt and row not in seen and first.setdefault(prompt, row) != row:
                lines.append(line)
            seen.add(row)
        return lines


def duplicate_lines(fingerprints: array[int], lines: array[int]) -> list[int]:
    """Return the lines of rows whose fingerprint occurs earlier, in order."""
    if len(fingerprints) > _MAX_ROWS_IN_SET:
        return _duplicate_lines_sorted(fingerprints, lines)
    seen: set[int] = set()
    duplicates = []
    for fingerprint, line in zip(fingerprints, lines, strict=True):
        if fingerprint in seen:
            duplicates.append(line)
        seen.add(fingerprint)
    return duplicates


def _duplicate_lines_sorted(fingerprints: array[int], lines: array[int]) -> list[int]:
    """Find duplicates by sorting, which takes a tenth of the memory of a set."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    buffers = [None, pa.py_buffer(fingerprints)]
    keys = pa.Array.from_buffers(pa.uint64(), len(fingerprints), buffers)
    order = pc.sort_indices(keys)
    ordered = keys.take(order)
    repeated = pc.equal(ordered[1:], ordered[:-1])
    return sorted(lines[index] for index in order[1:].filter(repeated).to_pylist())


@dataclass(frozen=True)
class DatasetStats:
    """Statistics of a file.

    Args:
        scripts: share of the completions by script.
        histogram: [from, below, rows] for each range of characters with rows.
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


def compute_stats(counters: Counters, size: int) -> DatasetStats:
    """Return the statistics of a file of `size` bytes."""
    counts = counters.counts
    empty = sum(counts[code] for code in ("empty-answer", "empty-text", "empty-question"))
    answers = counters.scripts.total()
    return DatasetStats(
        rows=counters.rows,
        skipped=counters.skipped,
        bytes=size,
        mean_chars=_share(counters.chars, counters.rows, 1),
        longest_chars=counters.longest,
        mean_answer_chars=_share(counters.answer_chars, counters.answers, 1),
        mean_turns=_share(counters.messages, counters.rows, 1),
        empty_share=_share(empty, counters.rows + counters.skipped, 4),
        duplicate_share=_share(counts["duplicate-rows"], counters.rows, 4),
        scripts={
            script: _share(count, answers, 4) for script, count in counters.scripts.most_common()
        },
        histogram=[
            (2**power // 2, 2**power, count)
            for power, count in enumerate(counters.length_histogram)
            if count
        ],
    )


def _share(part: float, whole: int, digits: int) -> float:
    return round(part / whole, digits) if whole else 0.0
