"""Corrections of answers: questions with the right answer, on which later runs are tested."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from modelforge.config.schema.base import about
from modelforge.paths import read_regular
from modelforge.runs.atomic_files import write_text
from modelforge.units import MIB

MAX_BYTES = 64 * MIB
# As the model is asked: a conversation, a question about a passage, or a text to rewrite.
CorrectionKind = Literal["conversation", "passage", "document"]


@dataclass(frozen=True)
class Correction:
    """A question that a model has answered, and what it should have answered."""

    id: str
    created: Annotated[float, about("Unix seconds.")]
    run: Annotated[str, about("Id of the run, or name of the model, that was corrected.")]
    run_name: str
    kind: CorrectionKind
    messages: Annotated[
        tuple[dict[str, Any], ...],
        about("The conversation up to the question; of a passage it is the system message."),
    ]
    tools: Annotated[tuple[dict[str, Any], ...], about("The tools that could be called.")]
    answer: Annotated[str, about("What the model has answered.")]
    correction: Annotated[str, about("What it should have answered.")]
    dataset: Annotated[str, about("The data file with its row: a value of `dataset`.")]
    row: Annotated[dict[str, Any], about("The row of the data file.")]

    @property
    def question(self) -> str:
        """The text of the last message."""
        return str(self.messages[-1].get("content", "")) if self.messages else ""

    def asks_same(self, other: Correction) -> bool:
        """Return whether both correct the answer to the same question."""
        mine, others = (self.kind, self.messages, self.tools), other
        return mine == (others.kind, others.messages, others.tools)


def read_corrections(path: Path) -> list[Correction]:
    """Return the corrections in a file, the oldest first; lines that cannot be read are left out.

    A missing file has none.
    """
    try:
        lines = read_regular(path, MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = (_correction(line) for line in lines if line.strip())
    return [correction for correction in found if correction is not None]


def write_corrections(path: Path, corrections: Iterable[Correction]) -> None:
    """Write the corrections in place of those in the file; raises RunError as `write_text`."""
    lines = (json.dumps(asdict(each), ensure_ascii=False) for each in corrections)
    write_text(path, "".join(f"{line}\n" for line in lines))


def _correction(line: str) -> Correction | None:
    try:
        data = json.loads(line)
        lists = {name: tuple(data[name]) for name in ("messages", "tools")}
        return Correction(**{**data, **lists})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
