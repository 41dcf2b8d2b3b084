"""What REST answers about data sets: the shape of every response, with what each part means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, Field

from modelforge.api.schemas.runs import about
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.columns.detect import ColumnMapping
from modelforge.errors import Finding, Problem


class Upload(BaseModel):
    """A data set, and the first look at it."""

    dataset: str = about("What the setting `dataset` says for it.")
    name: str
    size_bytes: int
    rows: int = about("Rows that can be learned from.")
    skipped: int = about("Rows that cannot.")
    columns: list[str]
    mapping: ColumnMapping | None = about("How a row is read, and why; null when it cannot be.")
    findings: list[Finding]
    sha256: str
    mean_chars: float
    longest_chars: int

    @classmethod
    def of(cls, look: DatasetSummary, dataset: str) -> Upload:
        """Return the answer for a look."""
        facts = {name: value for name, value in asdict(look).items() if name in cls.model_fields}
        return cls(**{**facts, "dataset": dataset})

    @classmethod
    def unreadable(cls, name: str, size_bytes: int, problems: Sequence[Problem]) -> Upload:
        """Return the answer for a file that is kept although it cannot be learned from yet."""
        told = [
            Finding("blocker", "unreadable", problem.sentence, problem.remedy)
            for problem in problems
        ]
        return cls(
            dataset=name,
            name=name,
            size_bytes=size_bytes,
            rows=0,
            skipped=0,
            columns=[],
            mapping=None,
            findings=told,
            sha256="",
            mean_chars=0.0,
            longest_chars=0,
        )


class DatasetRow(BaseModel):
    """One data set at hand."""

    name: str = about("Its name in every address.")
    dataset: str = about("What the setting `dataset` says for it.")
    kind: Literal["upload", "fetched", "sample"]
    path: str
    size_bytes: int
    changed: float = about("When the file was written, in Unix seconds.")


class PreviewRow(BaseModel):
    """One row as it stands in the file, and as it is read."""

    file: str
    line: int = about("Where it begins; its number in a Parquet or Arrow file.")
    raw: dict[str, Any] = about("The columns; long texts are shortened.")
    reads: dict[str, Any] | None = about("The row as training reads it, or null.")
    why: str = Field("", description="Why it cannot be read; a code of the findings.")


class Preview(BaseModel):
    """Rows of a data set, in the order of the file."""

    mapping: ColumnMapping = about("How a row is read, and why.")
    columns: list[str]
    rows: list[PreviewRow]


class DataFindingRow(BaseModel):
    """One thing that is odd about the rows; counted, not repeated."""

    code: str = about("Stable; names the cause.")
    level: Literal["blocker", "caution", "note"]
    what: str
    remedy: str
    file: str
    count: int = about("How many rows or places.")
    places: list[tuple[int, int | str | None]] = about(
        "The first lines, with the column or its name where known."
    )
    repair: str | None = about("What the repair would do; null where it can do nothing.")


class FileFindings(BaseModel):
    """What the doctor says of one file."""

    file: str
    blocked: bool = about("Whether it cannot be trained on.")
    findings: list[DataFindingRow]
    stats: dict[str, Any] = about("Rows, bytes, characters a row, scripts of the answers.")


class Findings(BaseModel):
    """What the doctor says of a data set."""

    trainable: bool = about("Whether it can be trained on.")
    files: list[FileFindings]


class TokenPage(BaseModel):
    """Rows as the model will see them."""

    rows: list[dict[str, Any]] = about(
        "Each with `pieces`, a list of `id`, `text` and `role`: masked, trained, end, cut or pad."
    )
    totals: dict[str, Any] = about("Tokens of each role.")
    notes: list[dict[str, str]] = Field([], description="What is to be said of them, with codes.")


class Repaired(BaseModel):
    """A repaired copy of a data file."""

    dataset: str = about("What the setting `dataset` says for the copy.")
    path: str
    original: str = about("The name of the file it was made from.")
    rows: int = about("How many rows it has.")
    changes: dict[str, int] = about("Rows changed or left out, by the code of the finding.")
