"""What a repair did: the rows it fixed and the rows it removed, by finding."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from modelforge.data.formats.errors import ReadError
from modelforge.errors import DataError, Problem

# More removed rows than this share are removed only if the user agrees.
MAX_REMOVED_SHARE = 0.02
MAX_LINES = 1000
_MAX_SHOWN = 5
# Read errors after which no row is lost.
_HARMLESS = frozenset(
    {"missing-comma", "trailing-comma", "array-not-closed", "unnamed-column", "duplicate-column"}
    | {"text-after-list"}
)


class RemovalError(DataError):
    """A repair would remove more rows than MAX_REMOVED_SHARE without the user's consent."""


@dataclass
class RepairLog:
    """Counts of rows by the code of the finding.

    Args:
        changes: findings of the file, and of rows that were fixed or removed.
        removed: removed rows.
        lines: the first MAX_LINES removed lines, each with its code.
        fixed_rows: rows that were changed and kept.
        ends_at: the line after which the file cannot be read.
    """

    changes: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    lines: list[tuple[int, str]] = field(default_factory=list)
    fixed_rows: int = 0
    ends_at: int | None = None
    _last_fixed: int = 0
    _repaired: dict[int, str] = field(default_factory=dict)

    def fix(self, line: int) -> None:
        """Count a row that is changed and kept, once."""
        self.fixed_rows += line != self._last_fixed
        self._last_fixed = line

    def remove(self, code: str, line: int) -> None:
        """Count a row that is removed, for the error of its line if that was repaired."""
        self.changes[code] += 1
        repaired = self._repaired.pop(line, None)
        self.removed[repaired or code] += 1
        self.fixed_rows -= repaired is not None
        if len(self.lines) < MAX_LINES:
            self.lines.append((line, code))

    def add_error(self, error: ReadError, *, is_repaired: bool, is_harmless: bool) -> None:
        """Count a read error; no row is lost by one that is repaired or harmless."""
        line = error.line or 0
        if is_repaired or is_harmless or (error.code in _HARMLESS and error.raw is None):
            self.changes[error.code] += 1
            if is_repaired:
                self._repaired[line] = error.code
                self.fix(line)
        else:
            self.remove(error.code, line)
            if error.ends_reading:
                self.ends_at = line

    def check_removed(self, name: str, rows: int) -> None:
        """Raise RemovalError if more than MAX_REMOVED_SHARE of all rows are removed."""
        total = rows + self.removed.total()
        if self.ends_at is not None:
            what = f"cannot be read after line {self.ends_at:,}; the repair keeps {rows:,} rows."
        elif self.removed.total() > total * MAX_REMOVED_SHARE:
            what = f"would lose {self.removed.total():,} of {total:,} rows: {self.places()}."
        else:
            return
        remedy = "Fix these lines by hand, or allow that they are removed."
        raise RemovalError(Problem(name, what, remedy))

    def places(self) -> str:
        """Return the first removed lines: “lines 11, 12 and 3 more”."""
        shown = ", ".join(f"{line:,}" for line, _ in self.lines[:_MAX_SHOWN])
        more = self.removed.total() - min(len(self.lines), _MAX_SHOWN)
        noun = "line" if self.removed.total() == 1 else "lines"
        return f"{noun} {shown}" + (f" and {more:,} more" if more else "")

    def report(self, original: str, copy: str, rows: int) -> str:
        """Return the report that is written beside the copy."""
        counts = [f"  {code}: {count:,}" for code, count in self.changes.most_common()]
        lines = [f"  line {line:,}: {code}" for line, code in self.lines]
        more = self.removed.total() - len(lines)
        texts = [
            f"{original} was repaired in the copy {copy}.",
            f"Rows in the copy: {rows:,}",
            f"Rows fixed: {self.fixed_rows:,}",
            f"Rows removed: {self.removed.total():,}",
            *([f"Nothing could be read after line {self.ends_at:,}."] if self.ends_at else []),
            "Findings:",
            *counts,
            *(["Removed:", *lines] if lines else []),
            *([f"  and {more:,} more"] if more else []),
        ]
        return "\n".join(texts) + "\n"
