"""The first look at a data file: how it is read, how much there is, and what is odd about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import Canonical, UnusableRowError, fingerprint, to_canonical
from modelforge.data.checks.counters import Counters
from modelforge.data.checks.parallel import count_large
from modelforge.data.checks.rules import RULES, SKIPPED
from modelforge.data.columns.detect import ColumnMapping, detect_mapping
from modelforge.data.formats.read import Row, read_rows
from modelforge.errors import DataError, Finding, Problem

EXAMPLES = 20
FEWEST = 10
_SAMPLE = 100
_MOST_COLUMNS = 200
_LINES_SHOWN = 5

# A row and the name of its file.
_Placed = tuple[str, Row]


@dataclass(frozen=True)
class DatasetSummary:
    """What a file holds. `rows` counts the usable ones; `examples` are the first, canonical."""

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

    def as_dict(self) -> dict[str, Any]:
        """Return the look as plain data."""
        return asdict(self) | {"path": str(self.path)}

    def as_dataset(self) -> dict[str, Any]:
        """Return what a run keeps of its data: where it lies, its fingerprint and its mapping."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "rows": self.rows,
            "mapping": self.mapping.as_dict(),
        }


@dataclass
class _Tally:
    several: bool = False
    rows: int = 0
    skipped: int = 0
    chars: int = 0
    longest: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    examples: list[Canonical] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def note(self, code: str, file: str, line: int) -> None:
        self.counts[code] = self.counts.get(code, 0) + 1
        if self.counts[code] <= _LINES_SHOWN:
            place = f"{line} of {file}" if self.several else str(line)
            self.lines.setdefault(code, []).append(place)

    def take_over(self, counted: Counters) -> None:
        """Take what was counted over the whole of one large file; the examples stay."""
        self.rows, self.skipped = counted.rows, counted.skipped
        self.chars, self.longest = counted.chars, counted.longest
        self.columns, self.counts, self.lines = counted.columns, {}, {}
        for code, count in counted.counts.items():
            cause = RULES[code].cause or code
            self.counts[cause] = self.counts.get(cause, 0) + count
            lines = self.lines.setdefault(cause, [])
            lines += [str(line) for line, _ in counted.places[code]][: _LINES_SHOWN - len(lines)]


def summarize(
    path: Path | Sequence[Path], limit: int | None = None, source: Source | None = None
) -> DatasetSummary:
    """Read the files once and tell what they hold; `limit` ends after so many rows.

    A look that is limited has no fingerprint. Raises DataError when a file cannot be read, no
    spelling fits, a column that the source names is not there, or no row can be used.
    """
    files = [Path(path)] if isinstance(path, str | Path) else list(path)
    name = _name(files)
    rows = _rows_of(files)
    first = list(islice(rows, min(_SAMPLE, limit or _SAMPLE)))
    if not first:
        raise DataError(Problem(name, "holds no rows.", "Give a file with at least one row."))
    mapping = detect_mapping([row.data for _, row in first], name, source)
    tally = _Tally(several=len(files) > 1)
    _count(first, mapping, tally)
    counted = count_large(files, mapping) if limit is None else None
    if counted is not None:
        tally.take_over(counted)
    else:
        _count(rows if limit is None else islice(rows, limit - len(first)), mapping, tally)
    findings = _findings(tally, name)
    return DatasetSummary(
        path=files[0],
        name=name,
        rows=tally.rows,
        columns=list(tally.columns),
        mapping=mapping,
        examples=tally.examples,
        findings=findings,
        sha256=sha256_of(files) if limit is None else "",
        mean_chars=round(tally.chars / tally.rows, 1),
        longest_chars=tally.longest,
        skipped=tally.skipped,
        size_bytes=sum(file.stat().st_size for file in files),
    )


def sha256_of(files: Sequence[Path]) -> str:
    """Return the fingerprint of a file, or of several: that of their fingerprints, one a line."""
    each = [_sha256(file) for file in files]
    return each[0] if len(each) == 1 else hashlib.sha256("\n".join(each).encode()).hexdigest()


def _name(files: Sequence[Path]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].parent.name} ({len(files)} files)"


def _rows_of(files: Sequence[Path]) -> Iterator[_Placed]:
    for file in files:
        for row in read_rows(file):
            yield file.name, row


def _count(rows: Iterable[_Placed], mapping: ColumnMapping, tally: _Tally) -> None:
    seen = tally.seen
    columns = tally.columns
    for file, (line, data) in rows:
        if data.keys() != columns.keys() and len(columns) < _MOST_COLUMNS:
            columns.update(dict.fromkeys(list(data)[: _MOST_COLUMNS - len(columns)]))
        try:
            row = to_canonical(data, mapping)
        except UnusableRowError as unusable:
            tally.skipped += 1
            tally.note(unusable.code, file, line)
            continue
        tally.rows += 1
        if len(tally.examples) < EXAMPLES:
            tally.examples.append(row)
        text = fingerprint(row)
        length = len(text)
        tally.chars += length
        tally.longest = max(tally.longest, length)
        # 64 bits a row keep memory small; two different rows meet about never.
        key = hash(text)
        if key in seen:
            tally.note("duplicate-rows", file, line)
        seen.add(key)
        if _repeats(row):
            tally.note("answer-is-question", file, line)


def _repeats(row: Canonical) -> bool:
    turns = row.get("messages", ())
    return (
        len(turns) > 1
        and turns[-1]["role"] == "assistant"
        and bool(turns[-1]["content"].strip() == turns[-2]["content"].strip())
    )


def _findings(tally: _Tally, name: str) -> list[Finding]:
    findings = []
    for code, (fault, remedy) in SKIPPED.items():
        if code in tally.counts:
            what = f"{_rows(tally, code)} {fault} and {_are(tally, code)} skipped"
            findings.append(_caution(code, f"{what}: {_places(tally, code)}.", remedy))
    if tally.rows == 0:
        problems = [Problem(name, finding.what, finding.remedy) for finding in findings]
        unusable = Problem(name, f"has no usable row among {tally.skipped}.", problems[0].remedy)
        raise DataError([unusable, *problems])
    if "duplicate-rows" in tally.counts:
        count = tally.counts["duplicate-rows"]
        verb = "row repeats" if count == 1 else "rows repeat"
        what = f"{count:,} {verb} an earlier one: {_places(tally, 'duplicate-rows')}."
        remedy = "Remove them unless they should weigh more; copies never stand on both sides."
        findings.append(_caution("duplicate-rows", what, remedy))
    if "answer-is-question" in tally.counts:
        what = f"{_rows(tally, 'answer-is-question')} an answer equal to its question"
        remedy = "The model would learn to repeat; remove these rows unless that is meant."
        places = _places(tally, "answer-is-question")
        findings.append(_caution("answer-is-question", f"{what}: {places}.", remedy))
    if tally.rows < FEWEST:
        noun = "row" if tally.rows == 1 else "rows"
        what = f"{tally.rows} usable {noun} are few; at least {FEWEST} are advised."
        findings.append(_caution("few-rows", what, "Add rows; 50 already show a style."))
    return findings


def _caution(code: str, what: str, remedy: str) -> Finding:
    return Finding("caution", code, what, remedy, where="dataset")


def _rows(tally: _Tally, code: str) -> str:
    count = tally.counts[code]
    return "1 row has" if count == 1 else f"{count:,} rows have"


def _are(tally: _Tally, code: str) -> str:
    return "is" if tally.counts[code] == 1 else "are"


def _places(tally: _Tally, code: str) -> str:
    lines = tally.lines[code]
    more = tally.counts[code] - len(lines)
    named = ", ".join(lines)
    noun = "line" if len(lines) == 1 and not more else "lines"
    return f"{noun} {named}" + (f" and {more:,} more" if more else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
