"""The doctor: everything that is odd about a data file, found in one pass over it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.config.schema.data import Source as Said
from modelforge.data.checks.counters import MAX_PLACES, Counters, DatasetStats, compute_stats
from modelforge.data.checks.file import check_file_format
from modelforge.data.checks.findings import DataFinding, ReadErrors, row_findings
from modelforge.data.checks.parallel import count_rows
from modelforge.data.checks.rows import CheckOptions
from modelforge.data.columns.detect import ColumnMapping, detect_mapping
from modelforge.data.columns.unknown import explain_unknown_columns
from modelforge.data.formats.read import read_file_rows
from modelforge.data.formats.sniff import DataFile, ReadError, sniff_file
from modelforge.data.sources.locate import find_source_files
from modelforge.errors import DataError
from modelforge.paths import Home

if TYPE_CHECKING:
    from modelforge.data.sources.load import LoadedSource

FEWEST = 10
_SAMPLE = 100
_LEVELS = ("blocker", "caution", "note")


@dataclass(frozen=True)
class CheckResult:
    """What was found in one file, the worst first, and its numbers."""

    file: str
    path: Path
    findings: list[DataFinding]
    stats: DatasetStats
    mapping: ColumnMapping | None = None
    fingerprints: array[int] = field(default_factory=lambda: array("Q"), repr=False, compare=False)

    @property
    def blocked(self) -> bool:
        """Whether the file cannot be trained on."""
        return any(found.level == "blocker" for found in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain data."""
        return {
            "file": self.file,
            "blocked": self.blocked,
            "findings": [found.as_dict() for found in self.findings],
            "stats": self.stats.as_dict(),
        }


def check_loaded(loaded: LoadedSource, max_chars: int | None = None) -> list[CheckResult]:
    """Return the diagnosis of every file of an opened source."""
    return [check_file(path, mapping=loaded.mapping, max_chars=max_chars) for path in loaded.files]


def check_sources(
    sources: Sequence[Said],
    home: Home,
    validation: Sequence[Said] = (),
    max_chars: int | None = None,
) -> list[CheckResult]:
    """Return the diagnosis of every file of sources, also of those that cannot be opened.

    Rows that stand in `validation` as well are found. Raises NotFoundError where there is no file.
    """
    held = array("Q")
    for said in validation:
        for path in find_source_files(said, home):
            held.extend(check_file(path, said).fingerprints)
    return [
        check_file(path, said, max_chars=max_chars, eval_fingerprints=held)
        for said in sources
        for path in find_source_files(said, home)
    ]


def check_file(
    path: Path,
    source: Said | None = None,
    *,
    mapping: ColumnMapping | None = None,
    max_chars: int | None = None,
    eval_fingerprints: Sequence[int] = (),
) -> CheckResult:
    """Return the diagnosis of one file; nothing that is wrong with it raises.

    `longest` is the longest row in characters, `held` are the prints of rows to check on.
    """
    path = Path(path)
    faults = ReadErrors()
    try:
        file = sniff_file(path)
    except ReadError as fault:
        faults.add(fault)
        return _hopeless(path, faults.findings(path.name))
    try:
        return _examined(file, source, mapping, max_chars, eval_fingerprints, faults)
    except ReadError as fault:  # the packing, a table or an encoding breaks on the way
        faults.add(fault)
        return _hopeless(path, faults.findings(path.name))


def _examined(
    source: DataFile,
    said: Said | None,
    mapping: ColumnMapping | None,
    longest: int | None,
    held: Sequence[int],
    faults: ReadErrors,
) -> CheckResult:
    path, name = source.path, source.name
    signs = list(check_file_format(source))
    first = [row.data for row in islice(read_file_rows(source, faults.add), _SAMPLE)]
    if not first:
        empty = [] if faults.counts else [_no_rows(source)]
        return _hopeless(path, [*faults.findings(name), *empty, *signs])
    try:
        mapping = mapping or detect_mapping(first, name, said)
    except DataError as error:
        found = explain_unknown_columns(source, first, error)
        return _hopeless(path, [*faults.findings(name), found, *signs])
    faults = ReadErrors()
    tally = count_rows(
        source, CheckOptions(mapping, longest, source.format in ("csv", "tsv")), faults.add
    )
    _note_leaks(tally, held)
    unit = "row" if source.format in ("parquet", "arrow") else "line"
    told = [*faults.findings(name), *row_findings(tally, name, unit), *signs]
    told += _on_amount(tally, name, longest)
    told.sort(key=lambda found: _LEVELS.index(found.level))
    stats = compute_stats(tally, path.stat().st_size)
    return CheckResult(name, path, told, stats, mapping, tally.fingerprints)


def _hopeless(path: Path, findings: list[DataFinding]) -> CheckResult:
    size = path.stat().st_size if path.is_file() else 0
    return CheckResult(path.name, path, findings, compute_stats(Counters(), size))


def _no_rows(source: DataFile) -> DataFinding:
    remedy = "Give a file with at least one row."
    if source.format in ("csv", "tsv"):
        what, code = "It holds a header and no row below it.", "header-only"
    else:
        what, code = "It holds no rows.", "no-rows"
    return DataFinding(code, "blocker", what, remedy, source.name, 1, [(1, None)])


def _note_leaks(tally: Counters, held: Sequence[int]) -> None:
    if held:
        known = set(held)
        for key, line in zip(tally.fingerprints, tally.fingerprint_lines, strict=True):
            if key in known:
                tally.record("leaked-rows", line)


def _on_amount(tally: Counters, name: str, longest: int | None) -> list[DataFinding]:
    rows, counts = tally.rows, tally.counts
    if not rows:
        what = f"It has no usable row among {tally.skipped:,}."
        remedy = "Mend the rows as the other findings say."
        return [DataFinding("no-usable-row", "blocker", what, remedy, name, tally.skipped)]
    found = []
    if counts.get("answer-beyond-length") == rows:
        what = f"Every one of the {rows:,} rows loses its whole answer: nothing is learned."
        remedy = "Raise max_seq_length, or shorten the questions."
        places = tally.places["answer-beyond-length"][:MAX_PLACES]
        found.append(DataFinding("nothing-learned", "blocker", what, remedy, name, rows, places))
    if counts.get("too-long") == rows:
        what = f"Every one of the {rows:,} rows is longer than {longest:,} characters."
        remedy = "Raise max_seq_length, or split the rows."
        places = tally.places["too-long"][:MAX_PLACES]
        found.append(DataFinding("all-too-long", "caution", what, remedy, name, rows, places))
    if rows < FEWEST:
        noun = "row is" if rows == 1 else "rows are"
        what = f"{rows} usable {noun} few; at least {FEWEST} are advised."
        code = "one-row" if rows == 1 else "few-rows"
        remedy = "Add rows; 50 already show a style."
        found.append(DataFinding(code, "caution", what, remedy, name, rows))
    return found
