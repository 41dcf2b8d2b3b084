"""Rows of JSON Lines and of JSON: a list, an object that holds one, or objects in a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import orjson

from modelforge.data.json_errors import no_object, not_json, shown, too_long
from modelforge.data.json_scan import Scanner, value_end
from modelforge.data.source import HEAD, LONGEST_ROW, Row, Source, trouble

Shape = Literal["lines", "array", "wrapped", "values"]

_CHATS = (b'"messages"', b'"conversations"')


def json_rows(source: Source) -> Iterator[Row]:
    """Yield every row; raises DataError at the first place that is not JSON or not an object."""
    with source.open() as stream:
        shape = _shape(stream.read(HEAD), source.path.suffix.lower())
    with source.open() as stream:
        if shape == "lines":
            yield from _lines(source, stream)
            return
        scanner = Scanner(source, stream)
        if shape == "array":
            scanner.take(b"[")
            yield from _elements(scanner)
        elif shape == "wrapped":
            scanner.take(b"{")
            _find_list(scanner)
            yield from _elements(scanner)
        else:
            while scanner.peek():
                yield scanner.row()


def _lines(source: Source, stream: BinaryIO) -> Iterator[Row]:
    number = 0
    parse = orjson.loads
    while line := stream.readline(LONGEST_ROW):
        number += 1
        try:
            data = parse(line)
        except orjson.JSONDecodeError as error:
            if not line.strip():
                continue
            if len(line) == LONGEST_ROW:
                raise too_long(source, number) from error
            raise not_json(source, line, error, number) from error
        if type(data) is not dict:
            raise no_object(source, line.lstrip()[:1], number, 1)
        yield Row(number, data)


def _elements(scanner: Scanner) -> Iterator[Row]:
    if scanner.peek() == b"]":
        return
    while True:
        yield scanner.row()
        mark = scanner.peek()
        if mark == b"]":
            break
        if mark == b"":
            what = "ends before its list is closed."
            raise scanner.trouble(what, "The file was cut off; export it again.")
        if mark != b",":
            what = f"has {shown(mark)} where a comma or ] is due."
            raise scanner.trouble(what, "Put a comma between two rows.")
        scanner.take(b",")
        if scanner.peek() == b"]":
            raise scanner.trouble("has a comma before the end of the list.", "Remove that comma.")
    scanner.take(b"]")


def _find_list(scanner: Scanner) -> None:
    """Stand behind the [ of the first list of objects in the outer object."""
    while scanner.peek() == b'"':
        key = scanner.value()
        scanner.take(b":")
        if scanner.peek() == b"[" and key not in _CHATS and scanner.opens_rows():
            scanner.take(b"[")
            return
        scanner.value()
        if scanner.peek() == b",":
            scanner.take(b",")
    remedy = 'Give a list of objects, as in [{"input": "…", "output": "…"}].'
    raise trouble(scanner.source.name, "holds one object without a list of rows.", remedy)


def _shape(head: bytes, suffix: str) -> Shape:
    text = head.lstrip()
    if text[:1] == b"[":
        return "array"
    first, newline, rest = text.partition(b"\n")
    row = _object(first)
    if row is not None:
        return "wrapped" if _holds_rows(row) and not rest.strip() else "lines"
    spread = bool(newline) and first.rstrip()[-1:] in (b"{", b"[", b",", b":")
    end = value_end(text, 0)
    if end == -1:
        return "wrapped" if text[:1] == b"{" and (suffix == ".json" or spread) else "lines"
    row = _object(text[:end])
    if row is None:
        return "values" if spread else "lines"
    return "wrapped" if _holds_rows(row) and not text[end:].strip() else "values"


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _holds_rows(row: dict[str, Any]) -> bool:
    return any(
        isinstance(value, list) and value and isinstance(value[0], dict)
        for key, value in row.items()
        if key not in ("messages", "conversations")
    )
