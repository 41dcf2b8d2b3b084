"""Write a repaired copy of a data file; the original is never changed."""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import orjson

from modelforge.config.schema.base import about
from modelforge.config.schema.data import Source
from modelforge.data.checks.file import REWRITE, check_file_format
from modelforge.data.checks.findings import DataFinding
from modelforge.data.checks.rules import RULES
from modelforge.data.columns.detect import SAMPLE_ROWS, detect_mapping
from modelforge.data.columns.joined import join_options
from modelforge.data.columns.unknown import explain_unknown_columns
from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.json import RawRow
from modelforge.data.formats.message_tree import join_messages
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_stored_rows
from modelforge.data.formats.sniff import DataFile, Row, sniff_file
from modelforge.data.repair.log import RepairLog
from modelforge.data.repair.rows import REMOVED, RowRepairer
from modelforge.data.repair.text import parse_broken_line
from modelforge.data.sources.library import DATASET, REPORT_SUFFIX
from modelforge.data.sources.locate import find_source_files
from modelforge.data.sources.uploads import safe_name
from modelforge.errors import DataError, Problem, RunError
from modelforge.paths import Home
from modelforge.units import MIB

# Of larger files, the repair is tried on the first rows and on those that the findings name.
_MAX_TRIED_BYTES = 8 * MIB
_COPY_SUFFIX = re.compile(r"\.repaired(-\d+)?\Z")
_COMMENTS = (b"//", b"#")
_MAX_LINES_SHOWN = 20
_MAX_SUFFIX_CHARS = 8
_MAX_COPIES = 10_000
_ALL_CODES = frozenset(code for code, rule in RULES.items() if rule.repair)
# What may be intended is only changed on request.
DEFAULT_CODES = frozenset(code for code in _ALL_CODES if RULES[code].level != "note")


@dataclass(frozen=True)
class RepairResult:
    """A repaired copy of a data file."""

    path: Path
    dataset: Annotated[str, about(DATASET)]
    original: Annotated[str, about("The name of the original file.")]
    rows: Annotated[int, about("The number of rows.")]
    fixed: Annotated[int, about("The number of changed rows.")]
    removed: Annotated[int, about("The number of removed rows.")]
    removed_lines: Annotated[list[int], about("The first removed lines.")]
    report: Annotated[Path, about("The report beside the copy.")]
    changes: Annotated[dict[str, int], about("Changed or removed rows by finding code.")]


def repair_sources(
    sources: Sequence[Source],
    codes: Sequence[str] | None,
    home: Home,
    *,
    allow_removal: bool = True,
) -> list[RepairResult]:
    """Write a repaired copy of every file of the sources, including files that cannot be read."""
    return [
        repair_file(path, home, codes, source=source, allow_removal=allow_removal)
        for source in sources
        for path in find_source_files(source, home)
    ]


def repair_file(
    path: Path,
    home: Home,
    codes: Sequence[str] | None = None,
    *,
    source: Source | None = None,
    allow_removal: bool = True,
) -> RepairResult:
    """Write the repaired rows of a file as JSON Lines into the uploads of `home`, with a report.

    Lines that cannot be read are always repaired or removed. Raises DataError if nothing can be
    repaired, RemovalError if many rows are removed without `allow_removal`. `codes` are the
    findings to repair, all except notes if None.
    """
    path = Path(path)
    staged = home.uploads / f".staged-{secrets.token_hex(8)}"
    cleaned = home.uploads / f".staged-{secrets.token_hex(8)}{path.suffix}"
    try:
        home.uploads.mkdir(parents=True, exist_ok=True)
        log = RepairLog()
        file = _open_file(path, cleaned, source, log.changes)
        repairer = _FileRepairer(file, path.name, frozenset(codes) if codes else None, log)
        rows = _write_lines(staged, repairer.repaired_rows(source))
        if not rows:
            what = "has no row that can be repaired."
            raise DataError(Problem(path.name, what, "Export the file again from its origin."))
        if not allow_removal:
            log.check_removed(path.name, rows)
        target = _target(home, path)
        report_path(target).write_text(log.report(path.name, target.name, rows), "utf-8")
        staged.replace(target)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"The repaired copy cannot be written: {reason}."
        raise RunError(Problem("dataset", what, "Free disk space in the home folder.")) from error
    finally:
        for temporary in (staged, cleaned):
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return _result(target, path.name, rows, log)


def _result(target: Path, original: str, rows: int, log: RepairLog) -> RepairResult:
    return RepairResult(
        path=target,
        dataset=target.name,
        original=original,
        rows=rows,
        fixed=log.fixed_rows,
        removed=log.removed.total(),
        removed_lines=[line for line, _ in log.lines[:_MAX_LINES_SHOWN]],
        report=report_path(target),
        changes=dict(log.changes),
    )


def report_path(copy: Path) -> Path:
    """Return the path of the report beside a repaired copy."""
    return copy.with_name(f"{copy.name}{REPORT_SUFFIX}")


@dataclass(frozen=True)
class _Trial:
    """The effect of a repair that writes nothing; `rows` is None if it was tried on all rows."""

    log: RepairLog
    rows: int | None


def _try_repair(
    file: DataFile, source: Source | None, lines: Iterable[int] | None
) -> _Trial | None:
    """Repair rows without writing them; return None if none is kept.

    With `lines`, only the first rows and those in these lines are repaired.
    """
    log = RepairLog()
    repairer = _FileRepairer(file, file.name, _ALL_CODES, log, lines)
    try:
        kept = sum(1 for _ in repairer.repaired_rows(source))
    except DataError:
        return None
    return _Trial(log, None if lines is None else repairer.tried) if kept else None


class _FileRepairer:
    """Repairs one file and counts the changes in `log`.

    With `lines`, it repairs a sample: the first rows, and those in these lines.
    """

    def __init__(
        self,
        file: DataFile,
        name: str,
        codes: frozenset[str] | None,
        log: RepairLog,
        lines: Iterable[int] | None = None,
    ) -> None:
        self.file = file
        self.name = name
        self.codes = DEFAULT_CODES if codes is None else codes & _ALL_CODES
        self.log = log
        self.repaired_lines: deque[RawRow] = deque()
        self.is_sample = lines is not None
        self.wanted = set(lines or ())
        self.tried = 0
        self._tried_bytes = 0

    def repaired_rows(self, source: Source | None) -> Iterator[dict[str, Any]]:
        """Yield the repaired rows; raises DataError if nothing can be repaired."""
        self.log.changes.update(note.code for note in check_file_format(self.file))
        rows = self._sampled(join_messages(self.file, self._rows()))
        first = list(islice(rows, SAMPLE_ROWS))
        all_rows: Iterable[RawRow] = chain(first, rows)
        sample = [row.data for row, _ in first]
        try:
            mapping = detect_mapping(sample, self.name, source)
        except DataError as error:
            if not first:
                raise
            finding = explain_unknown_columns(self.file, sample, error)
            if finding.repair is None:
                yield from (row.data for row, _ in all_rows)
                if not self.log.changes:
                    raise
                return
            self.log.changes[finding.code] += 1
            named = with_column_names((row for row, _ in all_rows), finding, self.log)
            named_first = list(islice(named, SAMPLE_ROWS))
            all_rows = ((row, None) for row in chain(named_first, named))
            mapping = detect_mapping([row.data for row in named_first], self.name)
        repairer = RowRepairer(mapping, self.codes, self.log)
        repaired = (repairer.repair(line, data, raw) for (line, data), raw in all_rows)
        yield from (row for row in repaired if row is not None)

    def _sampled(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        """Yield the rows to repair: all, or those of the sample."""
        for row, raw in rows:
            if not self.is_sample or self._is_first or row.line in self.wanted:
                self.tried += 1
                self._tried_bytes += len(raw or str(row.data)) if self.is_sample else 0
                yield row, raw
            self.wanted.discard(row.line)
            if self.is_sample and not self._is_first and not self.wanted:
                return

    @property
    def _is_first(self) -> bool:
        return self._tried_bytes < _MAX_TRIED_BYTES

    def _rows(self) -> Iterator[RawRow]:
        """Yield the rows in order, including those repaired from broken lines."""
        for row in read_stored_rows(self.file, self._on_error):
            yield from self._take_repaired()
            yield row
        yield from self._take_repaired()

    def _take_repaired(self) -> Iterator[RawRow]:
        while self.repaired_lines:
            yield self.repaired_lines.popleft()

    def _on_error(self, error: ReadError) -> None:
        if self.is_sample and not self._is_first and error.line not in self.wanted:
            return
        self.wanted.discard(error.line or 0)
        raw = error.raw or b""
        is_json = self.file.format == "json"
        data = parse_broken_line(raw) if is_json and raw else None
        # A table is read on with replaced characters, and a comment is no row.
        is_harmless = raw.lstrip().startswith(_COMMENTS) if is_json else bool(raw)
        self.log.add_error(error, is_repaired=data is not None, is_harmless=is_harmless)
        if data is not None:
            self.repaired_lines.append((Row(error.line or 0, data), None))


def _open_file(path: Path, cleaned: Path, source: Source | None, changes: Counter[str]) -> DataFile:
    """Return the file; one with zero bytes as a copy without them, written to `cleaned`."""
    options, join = ReadOptions.of(source), join_options(source)
    try:
        return sniff_file(path, options, join)
    except ReadError as error:
        if error.code != "zero-bytes":
            raise
    with path.open("rb") as original, cleaned.open("xb") as copy:
        while piece := original.read(MIB):
            copy.write(piece.replace(b"\0", b""))
    changes["zero-bytes"] = 1
    return sniff_file(cleaned, options, join)


def _target(home: Home, path: Path) -> Path:
    """Return a free path in the uploads, named after the original."""
    stem = path.name
    while Path(stem).suffix and len(Path(stem).suffix) <= _MAX_SUFFIX_CHARS:
        stem = Path(stem).stem
    stem = _COPY_SUFFIX.sub("", stem) or "data"
    for number in range(1, _MAX_COPIES):
        numbered = "" if number == 1 else f"-{number}"
        target = home.uploads / safe_name(f"{stem}.repaired{numbered}.jsonl")
        if not target.exists():
            return target
    raise RunError(Problem("dataset", f"{path.name} has too many repaired copies.", "Delete some."))


def _write_lines(target: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows as JSON Lines; return their number."""
    option = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    count = 0
    with target.open("xb") as file:
        for row in rows:
            file.write(orjson.dumps(row, default=str, option=option))
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def with_column_names(rows: Iterable[Row], finding: DataFinding, log: RepairLog) -> Iterator[Row]:
    """Yield the rows with the column names that the repair of a finding gives them."""
    if finding.code == "wrong-delimiter":
        yield from _split_columns(rows, finding, log)
        return
    if finding.code == "one-column":
        for line, data in rows:
            yield Row(line, {"text": next(iter(data.values()), "")})
        return
    header_is_row = finding.code == "no-header"
    for line, data in rows:
        if header_is_row:
            header_is_row = False
            yield Row(1, _as_pair(list(data)))
        yield Row(line, _as_pair(list(data.values())))


def _as_pair(values: Sequence[object]) -> dict[str, object]:
    return dict(zip(("input", "output"), values, strict=False))


def _split_columns(rows: Iterable[Row], finding: DataFinding, log: RepairLog) -> Iterator[Row]:
    delimiter = finding.what.split("“", 1)[1][0]
    for line, data in rows:
        ((header, cells),) = data.items()
        names = [name.strip() for name in header.split(delimiter)]
        values = str(cells).split(delimiter)
        if len(values) == len(names):
            yield Row(line, dict(zip(names, values, strict=True)))
        else:
            log.remove("ragged-row", line)


def tried_repairs(
    file: DataFile, source: Source | None, findings: Sequence[DataFinding]
) -> list[DataFinding]:
    """Return the findings with the effect of their repairs, without repairs that do nothing."""
    offered = [finding for finding in findings if finding.repair]
    if not offered:
        return list(findings)
    is_large = file.path.stat().st_size > _MAX_TRIED_BYTES
    lines = {line for finding in offered for line, _ in finding.places if line}
    trial = _try_repair(file, source, lines if is_large else None)
    return [_with_effect(finding, trial) for finding in findings]


def _with_effect(finding: DataFinding, trial: _Trial | None) -> DataFinding:
    if finding.repair is None or (finding.repair == REWRITE and trial is not None):
        return finding
    if trial is None:
        return replace(finding, repair=None)
    if trial.rows is not None and finding.code in REMOVED:
        return replace(finding, fixes=0, removes=finding.count)  # each row found is removed
    changes, removes = trial.log.changes[finding.code], trial.log.removed[finding.code]
    if not changes:
        return replace(finding, repair=None)
    return replace(finding, fixes=changes - removes, removes=removes, tried=trial.rows)
