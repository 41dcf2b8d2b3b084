"""Rows whose columns have no usable names, given names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from modelforge.data.checks.findings import DataFinding
from modelforge.data.formats.sniff import Row

_PAIR = ("input", "output")


def with_column_names(rows: Iterable[Row], found: DataFinding) -> Iterator[Row]:
    """Yield the rows with the names that the repair of a finding gives them."""
    if found.code == "wrong-delimiter":
        yield from _parted(rows, found)
    elif found.code == "one-column":
        for line, data in rows:
            yield Row(line, dict.fromkeys(["text"], next(iter(data.values()), "")))
    else:
        header = found.code == "no-header"
        for line, data in rows:
            if header:  # what was taken for the header is the first row
                header = False
                yield Row(1, _named(list(data)))
            yield Row(line, _named(list(data.values())))


def is_reshapable(found: DataFinding) -> bool:
    """Whether rows can be given names at all."""
    return found.repair is not None


def _named(values: Sequence[object]) -> dict[str, object]:
    return dict(zip(_PAIR, values, strict=False))


def _parted(rows: Iterable[Row], found: DataFinding) -> Iterator[Row]:
    mark = found.what.split("“", 1)[1][0]
    part: Callable[[str], list[str]] = lambda text: text.split(mark)  # noqa: E731
    for line, data in rows:
        ((names, cells),) = data.items()
        cells = part(str(cells))
        header = [name.strip() for name in part(names)]
        if len(cells) == len(header):
            yield Row(line, dict(zip(header, cells, strict=True)))
