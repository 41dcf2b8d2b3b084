"""How much text the tasks of a CORE folder have, from their first rows, for estimates of time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean

from modelforge.data.core_tasks import Kind, Row, located_tasks, row_problem

# Rows whose text is measured.
MEASURED_ROWS = 50


@dataclass(frozen=True)
class CoreTaskSize:
    """The work of a task.

    Attributes:
        rows: Rows that are scored.
        sequences: Sequences that the model reads for a row: one for each option, on average.
        shots: Examples in front of each row.
        characters: Characters of a row with one of its answers, on average.
    """

    rows: int
    sequences: float
    shots: int
    characters: float

    @property
    def sequence_characters(self) -> float:
        """Characters of a sequence: the examples and the row."""
        return (self.shots + 1) * self.characters


def core_task_sizes(folder: Path, most: int) -> list[CoreTaskSize]:
    """Return the sizes of the tasks of a folder, of `most` rows of each, without damaged files.

    Raises:
        DataError: a task is missing or wrong.
    """
    sizes = [_size(path, kind, shots, most) for kind, path, shots in located_tasks(folder)]
    return [size for size in sizes if size is not None]


def _size(path: Path, kind: Kind, shots: int, most: int) -> CoreTaskSize | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = list(islice((line for line in file if line.strip()), most))
        rows = [json.loads(line) for line in lines[:MEASURED_ROWS]]
    except (OSError, ValueError):
        return None
    if not rows or any(row_problem(row, kind) for row in rows):
        return None
    measured = [_measure(row, kind) for row in rows]
    sequences, characters = (mean(column) for column in zip(*measured, strict=True))
    return CoreTaskSize(len(lines), sequences, shots, characters)


def _measure(row: Row, kind: Kind) -> tuple[int, float]:
    """Return the sequences of a row, and the characters of one of them."""
    if kind == "language_modeling":
        return 1, len(row["context"]) + len(row["continuation"])
    name, rest = ("choices", "query") if kind == "multiple_choice" else (
        "context_options", "continuation",
    )  # fmt: skip
    options = row[name]
    return len(options), len(row[rest]) + mean(map(len, options))
