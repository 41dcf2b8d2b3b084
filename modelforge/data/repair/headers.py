"""Name the columns of rows that have no usable names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from modelforge.data.checks.findings import DataFinding
from modelforge.data.formats.sniff import Row

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
