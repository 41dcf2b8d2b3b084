"""What the doctor says: findings with their places, counted and not repeated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from modelforge.data.checks.counters import MAX_PLACES, Counters, Place
from modelforge.data.checks.rules import RULES
from modelforge.data.formats.errors import OnReadError, ReadError
from modelforge.errors import Level

REPAIR_LINES = "Mend these lines where the meaning is clear, and leave the others out."
# Faults after which the rest of the file, or a part of it, cannot be read at all.
_LOST = frozenset(
    (
        *("empty-file", "only-blanks", "gone", "closed", "other-format", "encrypted"),
        *("wrong-magic", "cut-off-table", "damaged-table", "damaged-packing", "packed"),
        *("bad-encoding", "object-not-list"),
    )
)


@dataclass(frozen=True)
class DataFinding:
    """One thing that is odd: its first places as line and column, and how many there are.

    A column is the place in the line, or the name of a field. `repair` says what repairing does.
    """

    code: str
    level: Level
    what: str
    remedy: str
    file: str
    count: int = 1
    places: list[Place] = field(default_factory=list)
    repair: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return asdict(self)


class ReadErrors:
    """Places that could not be read, gathered by their code."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.kept: list[ReadError] = []

    def add(self, fault: ReadError, times: int = 1) -> None:
        """Count a fault and keep the first of each code."""
        count = self.counts.get(fault.code, 0)
        self.counts[fault.code] = count + times
        if count < MAX_PLACES:
            self.kept.append(fault)

    def replay(self, on_fault: OnReadError | None) -> None:
        """Tell all of them once more, those not kept by the last that was; or raise the first."""
        told: dict[str, int] = {}
        for number, fault in enumerate(self.kept):
            if on_fault is None:
                raise fault
            told[fault.code] = told.get(fault.code, 0) + 1
            is_last = all(later.code != fault.code for later in self.kept[number + 1 :])
            for _ in range(1 + is_last * (self.counts[fault.code] - told[fault.code])):
                on_fault(fault)

    def findings(self, file: str) -> list[DataFinding]:
        """Return one finding for each code; all stand against training."""
        found = []
        for code, count in self.counts.items():
            met = [fault for fault in self.kept if fault.code == code]
            problem = met[0].problems[0]
            places: list[Place] = [(each.line, each.column) for each in met if each.line]
            where = _shown(places, count)
            what = f"It {problem.what}" if not where else f"{where} {problem.what}"
            repair = None if code in _LOST else REPAIR_LINES
            found.append(
                DataFinding(code, "blocker", what, problem.remedy, file, count, places, repair)
            )
        return found


def row_findings(tally: Counters, file: str, unit: str) -> list[DataFinding]:
    """Return a finding for each ailment that was counted; `unit` is “line” or “row”."""
    found = []
    for code, ailment in RULES.items():
        count = tally.counts.get(code, 0)
        if not count:
            continue
        places = tally.places.get(code, [])
        what = f"{_said(code, count, ailment.has)}: {format_places(places, count, unit)}."
        found.append(
            DataFinding(
                code, ailment.level, what, ailment.remedy, file, count, places, ailment.repair
            )
        )
    return found


def format_places(places: list[Place], count: int, unit: str = "line") -> str:
    """Return places in words: “line 4 (answer) and line 9”, with how many more there are."""
    more = count - len(places)
    listed = [f"{line}{_column(column)}" for line, column in places]
    noun = unit if count == 1 else f"{unit}s"
    return f"{noun} {', '.join(listed)}" + (f" and {more:,} more" if more else "")


def _said(code: str, count: int, has: str) -> str:
    if code == "duplicate-rows":
        return f"{count:,} {'row repeats' if count == 1 else 'rows repeat'} an earlier one"
    if code == "leaked-rows":
        verb = "row stands" if count == 1 else "rows stand"
        return f"{count:,} {verb} in the evaluation as well"
    fault = has.replace("{is}", "is" if count == 1 else "are")
    return f"{count:,} row has {fault}" if count == 1 else f"{count:,} rows have {fault}"


def _shown(places: list[Place], count: int) -> str:
    if not places:
        return ""
    line, column = places[0]
    where = f"Line {line}" + (f", column {column}," if column is not None else "")
    if count == 1:
        return where
    return f"{count:,} places, the first at line {line}{_column(column)}: it"


def _column(column: int | str | None) -> str:
    if column is None:
        return ""
    return f" (column {column})" if isinstance(column, int) else f" ({column[:60]})"
