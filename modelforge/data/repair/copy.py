"""A repaired copy of a data file, beside which the original stays as it is."""

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
from typing import TYPE_CHECKING, Any

import orjson

from modelforge.config.schema.data import Source as Said
from modelforge.data.checks.file import check_file_format
from modelforge.data.checks.rules import RULES
from modelforge.data.columns.detect import ColumnMapping, detect_mapping
from modelforge.data.columns.unknown import explain_unknown_columns
from modelforge.data.formats.json import detect_layout, read_json_lines
from modelforge.data.formats.read import read_file_rows
from modelforge.data.formats.sniff import DataFile, ReadError, Row, sniff_file
from modelforge.data.repair.headers import is_reshapable, with_column_names
from modelforge.data.repair.rows import RowRepairer
from modelforge.data.repair.text import parse_broken_line
from modelforge.data.sources.locate import find_source_files
from modelforge.data.sources.uploads import safe_name
from modelforge.errors import DataError, Problem, RunError
from modelforge.paths import Home
from modelforge.units import MIB

if TYPE_CHECKING:
    from modelforge.data.sources.load import LoadedSource

_PIECE = MIB
_COPY = re.compile(r"\.repaired(-\d+)?\Z")
_Raw = tuple[Row, bytes | None]
# What may be meant is only changed when it is asked for by its code.
DEFAULT_CODES = frozenset(
    code for code, each in RULES.items() if each.repair and each.level != "note"
)
_ALL = frozenset(code for code, each in RULES.items() if each.repair)


@dataclass(frozen=True)
class RepairResult:
    """A repaired copy; `dataset` is what the setting says for it, `changes` count by code."""

    path: Path
    dataset: str
    original: str
    rows: int
    changes: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"path": str(self.path)}


def repair_loaded(
    supply: LoadedSource, codes: Sequence[str] | None, home: Home
) -> list[RepairResult]:
    """Write a repaired copy of every file of an opened source, as `repair_file` does."""
    return [repair_file(path, home, codes, mapping=supply.mapping) for path in supply.files]


def repair_sources(
    sources: Sequence[Said], codes: Sequence[str] | None, home: Home
) -> list[RepairResult]:
    """Write a repaired copy of every file of sources, also of those that cannot be opened."""
    return [
        repair_file(path, home, codes, source=said)
        for said in sources
        for path in find_source_files(said, home)
    ]


def repair_file(
    path: Path,
    home: Home,
    codes: Sequence[str] | None = None,
    *,
    source: Said | None = None,
    mapping: ColumnMapping | None = None,
) -> RepairResult:
    """Write the rows of `path`, mended, as lines of JSON into the uploads of `home`.

    `codes` are the findings to mend; without them all that are no notes. Lines that cannot be
    read are always mended or left out. Raises DataError where nothing can be repaired.
    """
    path = Path(path)
    staged = home.uploads / f".staged-{secrets.token_hex(8)}"
    loose = home.uploads / f".staged-{secrets.token_hex(8)}{path.suffix}"
    try:
        home.uploads.mkdir(parents=True, exist_ok=True)
        job = _Job(_opened(path, loose), path.name, frozenset(codes) if codes else None)
        rows = job.write(staged, source, mapping)
        if not rows:
            what = "has no row left that can be repaired."
            raise DataError(Problem(path.name, what, "Export the file again from where it came."))
        target = _target(home, path)
        staged.replace(target)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        what = f"The repaired copy cannot be written: {reason}."
        raise RunError(Problem("dataset", what, "Make room in the home folder.")) from error
    finally:
        for left in (staged, loose):
            with suppress(OSError):
                left.unlink(missing_ok=True)
    return RepairResult(target, target.name, path.name, rows, job.changes)


class _Job:
    def __init__(
        self, opened: tuple[DataFile, str], name: str, codes: frozenset[str] | None
    ) -> None:
        self.source, mended = opened
        self.name = name
        self.codes = DEFAULT_CODES if codes is None else codes & _ALL
        self.changes: dict[str, int] = {mended: 1} if mended else {}
        self.waiting: deque[_Raw] = deque()

    def write(self, staged: Path, said: Said | None, mapping: ColumnMapping | None) -> int:
        """Write the mended rows and return how many they are."""
        for sign in check_file_format(self.source):
            self._count(sign.code)
        rows = self._rows()
        first = list(islice(rows, 100))
        again: Iterable[_Raw] = chain(first, rows)
        try:
            found = mapping or detect_mapping([row.data for row, _ in first], self.name, said)
        except DataError as error:
            sign = explain_unknown_columns(self.source, [row.data for row, _ in first], error)
            if not first:
                raise
            if not is_reshapable(sign):
                return self._as_they_are(staged, again, error)
            self._count(sign.code)
            shaped = with_column_names((row for row, _ in again), sign)
            first = [(row, None) for row in islice(shaped, 100)]
            again = chain(first, ((row, None) for row in shaped))
            found = detect_mapping([row.data for row, _ in first], self.name)
        mender = RowRepairer(found, self.codes)
        count = 0
        with staged.open("xb") as file:
            for (line, data), raw in again:
                kept = mender.repair(line, data, raw)
                if kept is not None:
                    file.write(_dumped(kept))
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        for code, changed in mender.changes.items():
            self.changes[code] = self.changes.get(code, 0) + changed
        return count

    def _as_they_are(self, staged: Path, rows: Iterable[_Raw], error: DataError) -> int:
        """Write the rows unchanged, without the lines that are none; raises where all are rows."""
        count = 0
        with staged.open("xb") as file:
            for row, _raw in rows:
                file.write(_dumped(row.data))
                count += 1
        if not self.changes:
            raise error
        return count

    def _rows(self) -> Iterator[_Raw]:
        """Yield the rows, those mended from broken lines in their place."""
        for row in self._read():
            while self.waiting:
                yield self.waiting.popleft()
            yield row
        while self.waiting:
            yield self.waiting.popleft()

    def _read(self) -> Iterator[_Raw]:
        source = self.source
        if source.format == "json" and detect_layout(source) == "lines":
            with source.open() as stream:
                yield from read_json_lines(source, stream, self._met)
        else:
            yield from ((row, None) for row in read_file_rows(source, self._met))

    def _met(self, fault: ReadError) -> None:
        self._count(fault.code)
        row = parse_broken_line(fault.raw)
        if row is not None:
            self.waiting.append((Row(fault.line or 0, row), None))

    def _count(self, code: str) -> None:
        self.changes[code] = self.changes.get(code, 0) + 1


def _opened(path: Path, loose: Path) -> tuple[DataFile, str]:
    """Return the file recognised; one with zero bytes through a copy without them."""
    try:
        return sniff_file(path), ""
    except ReadError as fault:
        if fault.code != "zero-bytes":
            raise
    with path.open("rb") as old, loose.open("xb") as new:
        while piece := old.read(_PIECE):
            new.write(piece.replace(b"\0", b""))
    return sniff_file(loose), "zero-bytes"


def _target(home: Home, path: Path) -> Path:
    stem = path.name
    while (suffix := Path(stem).suffix) and len(suffix) < 9:
        stem = Path(stem).stem
    stem = _COPY.sub("", stem) or "data"
    for number in range(1, 10_000):
        more = "" if number == 1 else f"-{number}"
        target = home.uploads / safe_name(f"{stem}.repaired{more}.jsonl")
        if not target.exists():
            return target
    raise RunError(Problem("dataset", f"{path.name} has too many repaired copies.", "Delete some."))


def _dumped(row: dict[str, Any]) -> bytes:
    return orjson.dumps(
        row, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    )
