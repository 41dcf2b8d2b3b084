"""Summary of a dataset: how it is read, its size, its first examples and the main findings."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import Canonical, usable_rows
from modelforge.data.checks.counters import MAX_PLACES, Counters, Place
from modelforge.data.checks.file import check_chats, check_encoding, check_unread_rows
from modelforge.data.checks.findings import (
    DataFinding,
    few_rows_finding,
    message_tree_findings,
    row_finding,
)
from modelforge.data.checks.parallel import CountCache, count_rows
from modelforge.data.checks.rows import CheckOptions
from modelforge.data.checks.rules import RULES
from modelforge.data.columns.detect import SAMPLE_ROWS, detect_mapping
from modelforge.data.columns.joined import join_options
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.columns.unused import unused_column_findings
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_file_rows
from modelforge.data.formats.sniff import DataFile, sniff_file
from modelforge.errors import DataError, Finding, Problem

MAX_EXAMPLES = 20
# Findings that are shown beside those about skipped rows; the data checks show all.
_SHOWN = frozenset(
    {"duplicate-rows", "answer-is-question", "untrained-answers", "fractional-weight", "reasoning"}
    | {"end-token-in-answer", "special-tokens", "placeholder", "list-as-text", "repeated-header"}
    | {"inexact-number"}
)


@dataclass(frozen=True)
class DatasetSummary:
    """The content of a data file, or of several that are read alike.

    Args:
        rows: number of usable rows.
        encoding: how the text is decoded, by Python's names; "" for Parquet and Arrow.
        examples: the first rows in canonical form.
        sha256: hash of the file, or of the hashes of several; "" if only the first rows were read.
    """

    path: Path
    name: str
    rows: int
    columns: list[str]
    mapping: ColumnMapping
    examples: list[Canonical]
    findings: list[Finding]
    sha256: str
    mean_chars: float
    longest_chars: int
    skipped: int = 0
    size_bytes: int = 0
    encoding: str = ""


def summarize(
    path: Path | Sequence[Path],
    limit: int | None = None,
    source: Source | None = None,
    cache: CountCache | None = None,
) -> DatasetSummary:
    """Read the files once and return their summary.

    `limit` is the number of rows to read, all if None. Columns are detected unless `source` names
    them. Raises DataError if a file cannot be read, columns are unknown, or no row can be used.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else list(path)
    name = paths[0].name if len(paths) == 1 else f"{paths[0].parent.name} ({len(paths)} files)"
    options, join = ReadOptions.of(source), join_options(source)
    files = [sniff_file(each, options, join) for each in paths]
    rows = islice(chain.from_iterable(map(read_file_rows, files)), limit)
    first = list(islice(rows, SAMPLE_ROWS))
    sample = [row.data for row in first]
    if not first:
        raise DataError(Problem(name, "has no rows.", "Use a file with at least one row."))
    mapping = detect_mapping(sample, name, source)
    counters, ends = _count(files, CheckOptions(mapping), limit, cache)
    columns = unused_column_findings(sample, mapping, name)
    columns += _notes_on_rows(files, mapping, counters.rows, name) if limit is None else []
    return DatasetSummary(
        path=paths[0],
        name=name,
        rows=counters.rows,
        columns=list(counters.columns),
        mapping=mapping,
        examples=list(islice(usable_rows(chain(first, rows), mapping), MAX_EXAMPLES)),
        findings=[*_findings(files, counters, ends, name), *map(_as_finding, columns)],
        sha256=sha256_of(paths) if limit is None else "",
        mean_chars=round(counters.chars / counters.rows, 1),
        longest_chars=counters.longest,
        skipped=counters.skipped,
        size_bytes=sum(each.stat().st_size for each in paths),
        encoding=", ".join(dict.fromkeys(file.encoding for file in files if file.is_text)),
    )


def sha256_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of several, that of their hashes, one per line."""
    hashes = []
    for path in paths:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _count(
    files: Sequence[DataFile], options: CheckOptions, limit: int | None, cache: CountCache | None
) -> tuple[Counters, list[int]]:
    """Return the counters of all files, and the last line of each when lines are counted on."""
    whole = Counters()
    ends = []
    for file in files:
        rest = None if limit is None else limit - whole.rows - whole.skipped
        whole.merge(count_rows(file, options, cache=cache, limit=rest))
        ends.append(whole.lines)
    whole.count_duplicates()
    return whole, ends


def _findings(
    files: Sequence[DataFile], counters: Counters, ends: Sequence[int], name: str
) -> list[Finding]:
    found = [
        row_finding(code, count, _places(files, ends, places), name)
        for code, (count, places) in _by_cause(counters).items()
    ]
    if counters.rows == 0:
        problems = [Problem(name, finding.what, finding.remedy) for finding in found]
        what = f"has no usable row among {counters.skipped}."
        raise DataError([Problem(name, what, problems[0].remedy), *problems])
    few = few_rows_finding(counters.rows, name)
    if few is not None:
        found.append(few)
    notes = (note for file in files if file.is_text for note in check_encoding(file))
    found += [note for note in notes if note.code != "byte-order-mark"]
    return list(map(_as_finding, found))


def _notes_on_rows(
    files: Sequence[DataFile], mapping: ColumnMapping, rows: int, name: str
) -> list[DataFinding]:
    trees = message_tree_findings(files, mapping, rows, name)
    unread = chain.from_iterable(map(check_unread_rows, files))
    return [*trees, *unread, *check_chats(files, name)]


def _as_finding(found: DataFinding) -> Finding:
    return Finding(found.level, found.code, found.what, found.remedy, where="dataset")


def _by_cause(counters: Counters) -> dict[str, tuple[int, list[Place]]]:
    """Return count and first places of the findings to show; skipped rows by their cause."""
    found: dict[str, tuple[int, list[Place]]] = {}
    for code, rule in RULES.items():
        if code in counters.counts and (rule.skips or code in _SHOWN):
            shown = rule.cause or code
            count, places = found.get(shown, (0, []))
            places = sorted([*places, *counters.places[code]], key=lambda place: place[0])
            found[shown] = (count + counters.counts[code], places[:MAX_PLACES])
    return found


def _places(files: Sequence[DataFile], ends: Sequence[int], places: list[Place]) -> list[Place]:
    """Return places by line, those in several files with the name of the file."""
    if len(files) == 1:
        return [(line, None) for line, _ in places]
    located: list[Place] = []
    for line, _ in places:
        index = bisect_left(ends, line)
        located.append((line - (ends[index - 1] if index else 0), files[index].name))
    return located
