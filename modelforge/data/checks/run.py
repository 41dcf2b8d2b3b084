"""Check data files: all findings of a file, from one pass over it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.config.schema.data import Source
from modelforge.data.checks.counters import MAX_PLACES, Counters, DatasetStats, compute_stats
from modelforge.data.checks.file import check_chats, check_file_format
from modelforge.data.checks.findings import (
    DataFinding,
    ReadErrors,
    few_rows_finding,
    message_tree_findings,
    row_findings,
)
from modelforge.data.checks.parallel import CountCache, count_rows
from modelforge.data.checks.rows import CheckOptions
from modelforge.data.columns.detect import SAMPLE_ROWS, detect_mapping
from modelforge.data.columns.joined import join_options
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.columns.unknown import explain_unknown_columns
from modelforge.data.columns.unused import unused_column_findings
from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_file_rows
from modelforge.data.formats.sniff import CHAT_FORMATS, TABLE_FORMATS, DataFile, sniff_file
from modelforge.data.repair.copy import tried_repairs
from modelforge.data.sources.locate import find_source_files
from modelforge.errors import DataError
from modelforge.paths import Home

_LEVELS = ("blocker", "caution", "note")


@dataclass(frozen=True)
class CheckResult:
    """The findings of one file, most severe first, and its statistics."""

    file: str
    path: Path
    findings: list[DataFinding]
    stats: DatasetStats
    mapping: ColumnMapping | None = None
    encoding: str = ""
    fingerprints: array[int] = field(default_factory=lambda: array("Q"), repr=False, compare=False)

    @property
    def blocked(self) -> bool:
        """Whether the file cannot be trained on."""
        return any(finding.level == "blocker" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {
            "file": self.file,
            "blocked": self.blocked,
            "encoding": self.encoding,
            "findings": [asdict(finding) for finding in self.findings],
            "stats": asdict(self.stats),
        }


def check_sources(
    sources: Sequence[Source],
    home: Home,
    validation: Sequence[Source] = (),
    max_chars: int | None = None,
    cache: CountCache | None = None,
) -> list[CheckResult]:
    """Check every file of the sources, including files that cannot be read.

    Rows that also occur in `validation` are reported. Raises NotFoundError for a missing file.
    """
    eval_fingerprints = array("Q")
    for source in validation:
        for path in find_source_files(source, home):
            eval_fingerprints.extend(check_file(path, source, cache=cache).fingerprints)
    return [
        check_file(
            path, source, max_chars=max_chars, eval_fingerprints=eval_fingerprints, cache=cache
        )
        for source in sources
        for path in find_source_files(source, home)
    ]


def check_file(
    path: Path,
    source: Source | None = None,
    *,
    max_chars: int | None = None,
    eval_fingerprints: Sequence[int] = (),
    cache: CountCache | None = None,
) -> CheckResult:
    """Check one file; every error in it becomes a finding.

    `max_chars` is the longest row allowed, `eval_fingerprints` are those of the evaluation rows.
    """
    path = Path(path)
    errors = ReadErrors()
    try:
        file = sniff_file(path, ReadOptions.of(source), join_options(source))
        result = _check(file, source, max_chars, eval_fingerprints, cache)
        return replace(result, findings=tried_repairs(file, source, result.findings))
    except ReadError as error:  # also an error in the middle of the file that ends the reading
        errors.add(error)
        return _unreadable(path, errors.findings(path.name))


def _check(
    file: DataFile,
    source: Source | None,
    max_chars: int | None,
    eval_fingerprints: Sequence[int],
    cache: CountCache | None,
) -> CheckResult:
    name = file.name
    notes = [*check_file_format(file), *check_chats([file], name)]
    errors = ReadErrors()
    first = [row.data for row in islice(read_file_rows(file, errors.add), SAMPLE_ROWS)]
    if not first:
        empty = [] if errors.counts else _no_rows(file)
        return _unreadable(file.path, [*errors.findings(name), *empty, *notes], file.encoding)
    try:
        mapping = detect_mapping(first, name, source)
    except DataError as error:
        unknown = explain_unknown_columns(file, first, error)
        return _unreadable(file.path, [*errors.findings(name), unknown, *notes], file.encoding)
    errors = ReadErrors()
    options = CheckOptions(mapping, max_chars, file.format in ("csv", "tsv"))
    counters = count_rows(file, options, errors, cache)
    known = set(eval_fingerprints)
    for index, fingerprint in enumerate(counters.fingerprints if known else ()):
        if fingerprint in known:
            counters.record("leaked-rows", counters.fingerprint_lines[index])
    unit = "row" if file.format in TABLE_FORMATS else "line"
    findings = [
        *errors.findings(name),
        *row_findings(counters, name, unit),
        *unused_column_findings(first, mapping, name),
        *notes,
        *message_tree_findings([file], mapping, counters.rows, name),
        *_check_amount(counters, name, max_chars),
    ]
    findings.sort(key=lambda finding: _LEVELS.index(finding.level))
    stats = compute_stats(counters, file.path.stat().st_size)
    return CheckResult(
        name, file.path, findings, stats, mapping, file.encoding, counters.fingerprints
    )


def _unreadable(path: Path, findings: list[DataFinding], encoding: str = "") -> CheckResult:
    size = path.stat().st_size if path.is_file() else 0
    return CheckResult(path.name, path, findings, compute_stats(Counters(), size), None, encoding)


def _no_rows(file: DataFile) -> list[DataFinding]:
    # A day of a Slack export on which the chosen person wrote nothing is only noted.
    if file.format in CHAT_FORMATS:
        return []
    remedy = "Use a file with at least one row."
    if file.format in ("csv", "tsv"):
        what, code = "It has a header but no rows.", "header-only"
    else:
        what, code = "It has no rows.", "no-rows"
    return [DataFinding(code, "blocker", what, remedy, file.name, 1, [(1, None)])]


def _check_amount(counters: Counters, name: str, max_chars: int | None) -> list[DataFinding]:
    rows, counts = counters.rows, counters.counts
    if not rows:
        what = f"None of its {counters.skipped:,} rows can be used."
        remedy = "Fix the rows as the other findings describe."
        return [DataFinding("no-usable-row", "blocker", what, remedy, name, counters.skipped)]
    findings = []
    if counts.get("answer-truncated") == rows:
        what = f"The completion of all {rows:,} rows is truncated, so there is nothing to train on."
        remedy = "Raise max_seq_length, or shorten the prompts."
        places = counters.places["answer-truncated"][:MAX_PLACES]
        findings.append(
            DataFinding("all-answers-truncated", "blocker", what, remedy, name, rows, places)
        )
    if counts.get("too-long") == rows:
        what = f"All {rows:,} rows are longer than {max_chars:,} characters."
        remedy = "Raise max_seq_length, or split the rows."
        places = counters.places["too-long"][:MAX_PLACES]
        findings.append(DataFinding("all-too-long", "caution", what, remedy, name, rows, places))
    few = few_rows_finding(rows, name)
    return [*findings, few] if few else findings
