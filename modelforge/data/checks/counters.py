"""What is counted on the way through a data file; the tallies of its parts add up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

Place = tuple[int, int | str | None]
MAX_PLACES = 5
MAX_COLUMNS = 200
# Eight bytes a row; beyond, copies are looked for among the first rows only.
MAX_FINGERPRINTS = 8_000_000
_FEW = 100_000


@dataclass
class Counters:
    """Counts of rows, characters, ailments and scripts; `lines` is how many lines were read."""

    rows: int = 0
    skipped: int = 0
    chars: int = 0
    longest: int = 0
    answers: int = 0
    answer_chars: int = 0
    messages: int = 0
    lines: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=lambda: [0] * 32)
    scripts: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[Place]] = field(default_factory=dict)
    fingerprints: array[int] = field(default_factory=lambda: array("Q"))
    fingerprint_lines: array[int] = field(default_factory=lambda: array("Q"))

    def record(self, code: str, line: int, column: int | str | None = None) -> None:
        """Count an ailment and keep its first places."""
        count = self.counts.get(code, 0) + 1
        self.counts[code] = count
        if count <= MAX_PLACES:
            self.places.setdefault(code, []).append((line, column))

    def add_columns(self, names: Iterable[str]) -> None:
        """Keep the names of columns in the order they are met, up to a bound."""
        for name in names:
            if len(self.columns) >= MAX_COLUMNS:
                return
            self.columns.setdefault(name)

    def merge(self, later: Counters) -> None:
        """Add the tally of the part of the file that follows."""
        self.rows += later.rows
        self.skipped += later.skipped
        self.chars += later.chars
        self.longest = max(self.longest, later.longest)
        self.answers += later.answers
        self.answer_chars += later.answer_chars
        self.messages += later.messages
        self.add_columns(later.columns)
        self.sizes = [mine + other for mine, other in zip(self.sizes, later.sizes, strict=True)]
        for script, count in later.scripts.items():
            self.scripts[script] = self.scripts.get(script, 0) + count
        for code, count in later.counts.items():
            self.counts[code] = self.counts.get(code, 0) + count
            kept = self.places.setdefault(code, [])
            moved = [(line + self.lines, column) for line, column in later.places.get(code, ())]
            kept += moved[: MAX_PLACES - len(kept)]
        room = MAX_FINGERPRINTS - len(self.fingerprints)
        self.fingerprints.extend(later.fingerprints[:room])
        self.fingerprint_lines.extend(line + self.lines for line in later.fingerprint_lines[:room])
        self.lines += later.lines

    def count_duplicates(self) -> None:
        """Note every row that repeats an earlier one."""
        for line in duplicate_lines(self.fingerprints, self.fingerprint_lines):
            self.record("duplicate-rows", line)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it, but for the prints."""
        kept = ("fingerprints", "fingerprint_lines", "columns")
        plain = {name: value for name, value in vars(self).items() if name not in kept}
        return plain | {"columns": list(self.columns), "printed": len(self.fingerprints)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], prints: bytes, print_lines: bytes) -> Counters:
        """Read back what `as_dict` gave, with the prints beside it."""
        data = {name: value for name, value in data.items() if name != "printed"}
        data["columns"] = dict.fromkeys(data["columns"])
        data["places"] = {
            code: [(line, column) for line, column in places]
            for code, places in data["places"].items()
        }
        tally = cls(**data)
        tally.fingerprints.frombytes(prints)
        tally.fingerprint_lines.frombytes(print_lines)
        return tally


def duplicate_lines(prints: array[int], lines: array[int]) -> Iterable[int]:
    """Return the lines of the rows whose print stands earlier as well, in order."""
    if len(prints) <= _FEW:
        seen: set[int] = set()
        found = []
        for key, line in zip(prints, lines, strict=True):
            if key in seen:
                found.append(line)
            seen.add(key)
        return found
    return _sorted_copies(prints, lines)


def _sorted_copies(prints: array[int], lines: array[int]) -> list[int]:
    """Do the same for many rows in a tenth of the memory."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    keys = pa.Array.from_buffers(pa.uint64(), len(prints), [None, pa.py_buffer(prints)])
    order = pc.sort_indices(keys)
    ordered = keys.take(order)
    later = pc.equal(ordered[1:], ordered[:-1])
    return sorted(lines[index] for index in order[1:].filter(later).to_pylist())


@dataclass(frozen=True)
class DatasetStats:
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


def compute_stats(tally: Counters, size: int) -> DatasetStats:
    """Return the numbers of a file of `size` bytes."""
    counts = tally.counts
    empty = sum(counts.get(code, 0) for code in ("empty-answer", "empty-text", "empty-question"))
    scripts = sorted(tally.scripts.items(), key=lambda each: -each[1])
    answers = sum(tally.scripts.values())
    return DatasetStats(
        rows=tally.rows,
        skipped=tally.skipped,
        bytes=size,
        mean_chars=_share(tally.chars, tally.rows, 1),
        longest_chars=tally.longest,
        mean_answer_chars=_share(tally.answer_chars, tally.answers, 1),
        mean_turns=_share(tally.messages, tally.rows, 1),
        empty_share=_share(empty, tally.rows + tally.skipped, 4),
        duplicate_share=_share(counts.get("duplicate-rows", 0), tally.rows, 4),
        scripts={name: _share(count, answers, 4) for name, count in scripts},
        histogram=[
            (2**power // 2, 2**power, count) for power, count in enumerate(tally.sizes) if count
        ],
    )


def _share(part: float, whole: int, digits: int) -> float:
    return round(part / whole, digits) if whole else 0.0
