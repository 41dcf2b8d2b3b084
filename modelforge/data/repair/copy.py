"""Write a repaired copy of a data file; the original is never changed."""

from __future__ import annotations

import os
import re
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from modelforge.config.schema.data import Source
from modelforge.data.checks.file import check_file_format
from modelforge.data.checks.findings import DataFinding
from modelforge.data.checks.rules import RULES
from modelforge.data.columns.detect import SAMPLE_ROWS, ColumnMapping, detect_mapping
from modelforge.data.columns.unknown import explain_unknown_columns
from modelforge.data.formats.json import detect_layout, read_json_lines
from modelforge.data.formats.read import read_file_rows
from modelforge.data.formats.sniff import DataFile, ReadError, Row, sniff_file
from modelforge.data.repair.rows import RowRepairer
from modelforge.data.repair.text import parse_broken_line
from modelforge.data.sources.locate import find_source_files
from modelforge.data.sources.uploads import safe_name
from modelforge.errors import DataError, Problem, RunError
from modelforge.paths import Home
from modelforge.units import MIB

_COPY_SUFFIX = re.compile(r"\.repaired(-\d+)?\Z")
_MAX_SUFFIX_CHARS = 8
_MAX_COPIES = 10_000
# A row, and its line of JSON if it has one.
_RawRow = tuple[Row, bytes | None]
_ALL_CODES = frozenset(code for code, rule in RULES.items() if rule.repair)
# What may be intended is only changed on request.
DEFAULT_CODES = frozenset(code for code in _ALL_CODES if RULES[code].level != "note")


@dataclass(frozen=True)
class RepairResult:
    """A repaired copy; `dataset` is its value for the setting, `changes` are counts by code."""

    path: Path
    dataset: str
    original: str
    rows: int
    changes: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self) | {"path": str(self.path)}


def repair_sources(
    sources: Sequence[Source], codes: Sequence[str] | None, home: Home
) -> list[RepairResult]:
    """Write a repaired copy of every file of the sources, including files that cannot be read."""
    return [
        repair_file(path, home, codes, source=source)
        for source in sources
        for path in find_source_files(source, home)
    ]


def repair_file(
    path: Path,
    home: Home,
    codes: Sequence[str] | None = None,
    *,
    source: Source | None = None,
) -> RepairResult:
    """Write the repaired rows of a file as JSON Lines into the uploads of `home`.

    Lines that cannot be read are always repaired or removed. Raises DataError if nothing can be
    repaired.

    `codes` are the findings to repair, all except notes if None.
    """
    path = Path(path)
    staged = home.uploads / f".staged-{secrets.token_hex(8)}"
    cleaned = home.uploads / f".staged-{secrets.token_hex(8)}{path.suffix}"
    try:
        home.uploads.mkdir(parents=True, exist_ok=True)
        changes: dict[str, int] = {}
        file = _open_file(path, cleaned, source, changes)
        repairer = _FileRepairer(file, path.name, frozenset(codes) if codes else None, changes)
        rows = repairer.write(staged, source)
        if not rows:
            what = "has no row that can be repaired."
            raise DataError(Problem(path.name, what, "Export the file again from its origin."))
        target = _target(home, path)
        staged.replace(target)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"The repaired copy cannot be written: {reason}."
        raise RunError(Problem("dataset", what, "Free disk space in the home folder.")) from error
    finally:
        for temporary in (staged, cleaned):
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return RepairResult(target, target.name, path.name, rows, changes)


class _FileRepairer:
    """Repairs one file and counts the changes by code in `changes`."""

    def __init__(
        self, file: DataFile, name: str, codes: frozenset[str] | None, changes: dict[str, int]
    ) -> None:
        self.file = file
        self.name = name
        self.codes = DEFAULT_CODES if codes is None else codes & _ALL_CODES
        self.changes = changes
        self.repaired_lines: deque[_RawRow] = deque()

    def write(self, target: Path, source: Source | None) -> int:
        """Write the repaired rows; return their number."""
        for note in check_file_format(self.file):
            self._count(note.code)
        rows = self._rows()
        first = list(islice(rows, SAMPLE_ROWS))
        all_rows: Iterable[_RawRow] = chain(first, rows)
        sample = [row.data for row, _ in first]
        try:
            mapping = detect_mapping(sample, self.name, source)
        except DataError as error:
            if not first:
                raise
            finding = explain_unknown_columns(self.file, sample, error)
            if finding.repair is None:
                return self._write_unchanged(target, all_rows, error)
            self._count(finding.code)
            named = with_column_names((row for row, _ in all_rows), finding)
            named_first = list(islice(named, SAMPLE_ROWS))
            all_rows = ((row, None) for row in chain(named_first, named))
            mapping = detect_mapping([row.data for row in named_first], self.name)
        return self._write_repaired(target, all_rows, mapping)

    def _write_repaired(self, target: Path, rows: Iterable[_RawRow], mapping: ColumnMapping) -> int:
        repairer = RowRepairer(mapping, self.codes)
        count = 0
        with target.open("xb") as file:
            for (line, data), raw in rows:
                repaired = repairer.repair(line, data, raw)
                if repaired is not None:
                    file.write(_to_json_line(repaired))
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        for code, changed in repairer.changes.items():
            self.changes[code] = self.changes.get(code, 0) + changed
        return count

    def _write_unchanged(self, target: Path, rows: Iterable[_RawRow], error: DataError) -> int:
        """Write the rows that can be read; raises `error` if that changes nothing."""
        count = 0
        with target.open("xb") as file:
            for row, _raw in rows:
                file.write(_to_json_line(row.data))
                count += 1
        if not self.changes:
            raise error
        return count

    def _rows(self) -> Iterator[_RawRow]:
        """Yield the rows in order, including those repaired from broken lines."""
        for row in self._read():
            while self.repaired_lines:
                yield self.repaired_lines.popleft()
            yield row
        while self.repaired_lines:
            yield self.repaired_lines.popleft()

    def _read(self) -> Iterator[_RawRow]:
        file = self.file
        if file.format == "json" and detect_layout(file) == "lines":
            with file.open() as stream:
                yield from read_json_lines(file, stream, self._on_error)
        else:
            for row in read_file_rows(file, self._on_error):
                yield row, None

    def _on_error(self, error: ReadError) -> None:
        self._count(error.code)
        data = parse_broken_line(error.raw)
        if data is not None:
            self.repaired_lines.append((Row(error.line or 0, data), None))

    def _count(self, code: str) -> None:
        self.changes[code] = self.changes.get(code, 0) + 1


def _open_file(
    path: Path, cleaned: Path, source: Source | None, changes: dict[str, int]
) -> DataFile:
    """Return the file; one with zero bytes as a copy without them, written to `cleaned`."""
    encoding = source.encoding if source else None
    try:
        return sniff_file(path, encoding)
    except ReadError as error:
        if error.code != "zero-bytes":
            raise
    with path.open("rb") as original, cleaned.open("xb") as copy:
        while piece := original.read(MIB):
            copy.write(piece.replace(b"\0", b""))
    changes["zero-bytes"] = 1
    return sniff_file(cleaned, encoding)


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


def _to_json_line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(
        row, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    )


_PAIR_COLUMNS = ("input", "output")


def with_column_names(rows: Iterable[Row], finding: DataFinding) -> Iterator[Row]:
    """Yield the rows with the column names that the repair of a finding gives them."""
    if finding.code == "wrong-delimiter":
        yield from _split_columns(rows, finding)
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
    return dict(zip(_PAIR_COLUMNS, values, strict=False))


def _split_columns(rows: Iterable[Row], finding: DataFinding) -> Iterator[Row]:
    delimiter = finding.what.split("“", 1)[1][0]
    for line, data in rows:
        ((header, cells),) = data.items()
        names = [name.strip() for name in header.split(delimiter)]
        values = str(cells).split(delimiter)
        if len(values) == len(names):
            yield Row(line, dict(zip(names, values, strict=True)))
