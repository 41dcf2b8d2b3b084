"""A place in a file that cannot be read: its cause by name, line, column and remedy."""

from __future__ import annotations

from collections.abc import Callable

from modelforge.errors import DataError, Problem


class ReadError(DataError):
    """A place that cannot be read; `code` is stable, `raw` is the text that stands there."""

    def __init__(
        self,
        problem: Problem,
        code: str,
        line: int | None = None,
        column: int | str | None = None,
        raw: bytes | None = None,
    ) -> None:
        super().__init__(problem)
        self.code = code
        self.line = line
        self.column = column
        self.raw = raw


# Told of each place that cannot be read; the reader then goes on behind it where it can.
OnReadError = Callable[[ReadError], None]


def read_error(
    name: str,
    what: str,
    remedy: str,
    *,
    code: str = "unreadable",
    line: int | None = None,
    column: int | str | None = None,
) -> ReadError:
    """Return the error that names file, line and column."""
    place = [name]
    if line is not None:
        place.append(f"line {line}")
    if column is not None:
        place.append(f"column {column}")
    return ReadError(Problem(", ".join(place), what, remedy), code, line, column)


def report_error(fault: ReadError, on_fault: OnReadError | None, raw: bytes | None = None) -> None:
    """Hand `fault` to whoever collects them, or raise it when nobody does."""
    if on_fault is None:
        raise fault
    fault.raw = raw
    on_fault(fault)
