"""The doctor: everything that is odd about a data file, found in one pass over it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.config.schema.data import Source as Said
from modelforge.data.checks.counters import PLACES, Stats, Tally, stats_of
from modelforge.data.checks.file import file_findings
from modelforge.data.checks.findings import DataFinding, Faults, row_findings
from modelforge.data.checks.parallel import count_rows
from modelforge.data.checks.rows import Terms
from modelforge.data.columns.detect import Mapping, detect
from modelforge.data.columns.unknown import unknown_columns
from modelforge.data.formats.read import rows_of_source
from modelforge.data.formats.sniff import Source, UnreadableError, recognise
from modelforge.data.sources.locate import files_of
from modelforge.errors import DataError
from modelforge.paths import Home

if TYPE_CHECKING:
    from modelforge.data.sources.load import Supply

FEWEST = 10
_SAMPLE = 100
_LEVELS = ("blocker", "caution", "note")


@dataclass(frozen=True)
class Diagnosis:
    """What was found in one file, the worst first, and its numbers."""

    file: str
    path: Path
    findings: list[DataFinding]
    stats: Stats
    mapping: Mapping | None = None
    prints: array[int] = field(default_factory=lambda: array("Q"), repr=False, compare=False)

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


def examine(supply: Supply, longest: int | None = None) -> list[Diagnosis]:
    """Return the diagnosis of every file of an opened source."""
    return [examine_file(path, mapping=supply.mapping, longest=longest) for path in supply.files]


def examine_sources(
    sources: Sequence[Said],
    home: Home,
    validation: Sequence[Said] = (),
    longest: int | None = None,
) -> list[Diagnosis]:
    """Return the diagnosis of every file of sources, also of those that cannot be opened.

    Rows that stand in `validation` as well are found. Raises NotFoundError where there is no file.
    """
    held = array("Q")
    for said in validation:
        for path in files_of(said, home):
            held.extend(examine_file(path, said).prints)
    return [
        examine_file(path, said, longest=longest, held=held)
        for said in sources
        for path in files_of(said, home)
    ]


def examine_file(
    path: Path,
    said: Said | None = None,
    *,
    mapping: Mapping | None = None,
    longest: int | None = None,
    held: Sequence[int] = (),
) -> Diagnosis:
    """Return the diagnosis of one file; nothing that is wrong with it raises.

    `longest` is the longest row in characters, `held` are the prints of rows to check on.
    """
    path = Path(path)
    faults = Faults()
    try:
        source = recognise(path)
    except UnreadableError as fault:
        faults.met(fault)
        return _hopeless(path, faults.findings(path.name))
    try:
        return _examined(source, said, mapping, longest, held, faults)
    except UnreadableError as fault:  # the packing, a table or an encoding breaks on the way
        faults.met(fault)
        return _hopeless(path, faults.findings(path.name))


def _examined(
    source: Source,
    said: Said | None,
    mapping: Mapping | None,
    longest: int | None,
    held: Sequence[int],
    faults: Faults,
) -> Diagnosis:
    path, name = source.path, source.name
    signs = list(file_findings(source))
    first = [row.data for row in islice(rows_of_source(source, faults.met), _SAMPLE)]
    if not first:
        empty = [] if faults.counts else [_no_rows(source)]
        return _hopeless(path, [*faults.findings(name), *empty, *signs])
    try:
        mapping = mapping or detect(first, name, said)
    except DataError as error:
        found = unknown_columns(source, first, error)
        return _hopeless(path, [*faults.findings(name), found, *signs])
    faults = Faults()
    tally = count_rows(source, Terms(mapping, longest, source.format in ("csv", "tsv")), faults.met)
    _note_leaks(tally, held)
    unit = "row" if source.format in ("parquet", "arrow") else "line"
    told = [*faults.findings(name), *row_findings(tally, name, unit), *signs]
    told += _on_amount(tally, name, longest)
    told.sort(key=lambda found: _LEVELS.index(found.level))
    stats = stats_of(tally, path.stat().st_size)
    return Diagnosis(name, path, told, stats, mapping, tally.prints)


def _hopeless(path: Path, findings: list[DataFinding]) -> Diagnosis:
    size = path.stat().st_size if path.is_file() else 0
    return Diagnosis(path.name, path, findings, stats_of(Tally(), size))


def _no_rows(source: Source) -> DataFinding:
    remedy = "Give a file with at least one row."
    if source.format in ("csv", "tsv"):
        what, code = "It holds a header and no row below it.", "header-only"
    else:
        what, code = "It holds no rows.", "no-rows"
    return DataFinding(code, "blocker", what, remedy, source.name, 1, [(1, None)])


def _note_leaks(tally: Tally, held: Sequence[int]) -> None:
    if held:
        known = set(held)
        for key, line in zip(tally.prints, tally.print_lines, strict=True):
            if key in known:
                tally.note("leaked-rows", line)


def _on_amount(tally: Tally, name: str, longest: int | None) -> list[DataFinding]:
    rows, counts = tally.rows, tally.counts
    if not rows:
        what = f"It has no usable row among {tally.skipped:,}."
        remedy = "Mend the rows as the other findings say."
        return [DataFinding("no-usable-row", "blocker", what, remedy, name, tally.skipped)]
    found = []
    if counts.get("answer-beyond-length") == rows:
        what = f"Every one of the {rows:,} rows loses its whole answer: nothing is learned."
        remedy = "Raise max_seq_length, or shorten the questions."
        places = tally.places["answer-beyond-length"][:PLACES]
        found.append(DataFinding("nothing-learned", "blocker", what, remedy, name, rows, places))
    if counts.get("too-long") == rows:
        what = f"Every one of the {rows:,} rows is longer than {longest:,} characters."
        remedy = "Raise max_seq_length, or split the rows."
        places = tally.places["too-long"][:PLACES]
        found.append(DataFinding("all-too-long", "caution", what, remedy, name, rows, places))
    if rows < FEWEST:
        noun = "row is" if rows == 1 else "rows are"
        what = f"{rows} usable {noun} few; at least {FEWEST} are advised."
        code = "one-row" if rows == 1 else "few-rows"
        remedy = "Add rows; 50 already show a style."
        found.append(DataFinding(code, "caution", what, remedy, name, rows))
    return found
