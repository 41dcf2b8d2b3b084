"""Votes on pairs of answers whose models were not shown, kept with the runs that took part."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.paths import read_regular
from modelforge.runs.atomic_files import disk_error
from modelforge.units import MIB

MAX_BYTES = 64 * MIB


@dataclass(frozen=True)
class VotedSide:
    """A model that took part: a run or a base model, with the name it had then."""

    model: str
    tuned: Annotated[bool, about("False: the base model of the run.")]
    name: str

    @property
    def key(self) -> tuple[str, bool]:
        """What identifies the model."""
        return self.model, self.tuned


@dataclass(frozen=True)
class Vote:
    """A vote. `winner` is the index of the better side, None if both are as good."""

    question: Annotated[str, about("Id of the question.")]
    voted: Annotated[float, about("Unix seconds.")]
    sides: tuple[VotedSide, VotedSide]
    winner: int | None
    left: Annotated[int, about("The index of the side that was shown on the left.")]
    prompt: Annotated[str, about("The question, shortened.")]
    answers: Annotated[tuple[str, str], about("The answers of the sides, shortened.")]
    sampling: dict[str, Any]


def add_vote(path: Path, vote: Vote) -> None:
    """Add a vote to the file of a run; raises RunError if it cannot be written."""
    line = json.dumps(asdict(vote)).encode() + b"\n"
    try:
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(error, path) from error


def read_votes(path: Path) -> list[Vote]:
    """Return the votes in a file, the oldest first; lines that cannot be read are left out."""
    try:
        lines = read_regular(path, MAX_BYTES).splitlines()
    except OSError:
        return []
    votes = (_vote(line) for line in lines if line.strip())
    return [vote for vote in votes if vote is not None]


def _vote(line: bytes) -> Vote | None:
    try:
        data = json.loads(line)
        one, other = (VotedSide(**side) for side in data["sides"])
        answers: Sequence[str] = data["answers"]
        winner = data["winner"]
        if winner not in (0, 1, None):
            return None
        return Vote(**{**data, "sides": (one, other), "answers": tuple(answers)})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
