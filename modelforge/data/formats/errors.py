"""Read errors with code, line, column and remedy."""

from __future__ import annotations

from collections.abc import Callable

from modelforge.errors import DataError, Problem


class ReadError(DataError):
    """A place in a file that cannot be read.

    Args:
        code: stable name of the cause.
        raw: the text at that place, if it may be repaired.

    Attributes:
        ends_reading: whether what follows the place cannot be read.
    """

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
        self.ends_reading = False

    def __reduce__(self) -> tuple[type[ReadError], tuple[object, ...]]:
        return ReadError, (self.problems[0], self.code, self.line, self.column, self.raw)


# Called for each read error; the reader then continues after the place if it can.
OnReadError = Callable[[ReadError], None]


def read_error(
    name: str,
    what: str,
    remedy: str,
    *,
    code: str,
    line: int | None = None,
    column: int | str | None = None,
) -> ReadError:
    """Return a read error whose problem names file, line and column."""
    where = name
    if line is not None:
        where += f", line {line}"
    if column is not None:
        where += f", column {column}"
    return ReadError(Problem(where, what, remedy), code, line, column)


def report_error(error: ReadError, on_error: OnReadError | None, raw: bytes | None = None) -> None:
    """Pass an error to `on_error`; raise it if that is None."""
    if on_error is None:
        raise error
    error.raw = raw
    on_error(error)
