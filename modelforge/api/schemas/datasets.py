"""Responses about datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from modelforge.api.schemas.errors import about
from modelforge.data.checks.findings import DataFinding
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.sources.library import DATASET
from modelforge.errors import Finding, Problem


class DatasetDetails(BaseModel):
    """A dataset and its summary."""

    dataset: str = about(DATASET)
    name: str
    size_bytes: int
    rows: int = about("The number of usable rows.")
    skipped: int = about("The number of unusable rows.")
    columns: list[str]
    mapping: ColumnMapping | None = about(
        "How rows are read, and why; null if they cannot be read."
    )
    findings: list[Finding]
    sha256: str
    mean_chars: float
    longest_chars: int
    encoding: str = about("How the text is decoded, by Python's name; empty for tables.")

    @classmethod
    def of(cls, summary: DatasetSummary, dataset: str) -> DatasetDetails:
        """Return the response for a dataset summary."""
        values = {
            name: value for name, value in asdict(summary).items() if name in cls.model_fields
        }
        return cls(**{**values, "dataset": dataset})

    @classmethod
    def unreadable(cls, name: str, size_bytes: int, problems: Sequence[Problem]) -> DatasetDetails:
        """Return the response for a stored file that cannot be used for training yet."""
        findings = [
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
            findings=findings,
            sha256="",
            mean_chars=0.0,
            longest_chars=0,
            encoding="",
        )


class PreviewRow(BaseModel):
    """A row in the file and as training reads it."""

    file: str
    line: int = about("The first line; the row number in a Parquet or Arrow file.")
    raw: dict[str, Any] = about("The columns; long texts are shortened.")
    reads: dict[str, Any] | None = about("The row as training reads it, or null.")
    why: str = Field("", description="The finding code of an unreadable row.")


class Preview(BaseModel):
    """Rows of a dataset in file order."""

    mapping: ColumnMapping = about("How rows are read, and why.")
    columns: list[str]
    rows: list[PreviewRow]


class FileFindings(BaseModel):
    """The data findings of one file."""

    file: str
    blocked: bool = about("Whether the file cannot be used for training.")
    encoding: str = about("How the text is decoded, by Python's name; empty for tables.")
    findings: list[DataFinding]
    stats: dict[str, Any] = about("Rows, bytes, characters per row, scripts of the completions.")


class DataFindings(BaseModel):
    """The data findings of a dataset."""

    trainable: bool = about("Whether the dataset can be used for training.")
    files: list[FileFindings]


class TokenPage(BaseModel):
    """Tokenized rows."""

    rows: list[dict[str, Any]] = about(
        "Each with `pieces`, a list of `id`, `text` and `role`: masked, trained, end, cut or pad."
    )
    totals: dict[str, Any] = about("Token count by role.")
    notes: list[dict[str, str]] = Field([], description="Notes on the rows, with codes.")
