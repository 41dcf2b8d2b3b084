"""Read the messages of a Telegram export (result.json) and of a DiscordChatExporter file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import orjson

from modelforge.data.chats.message import ChatCounts, ChatMessage
from modelforge.data.formats.errors import OnReadError, ReadError, read_error, report_error
from modelforge.data.formats.json import read_array
from modelforge.data.formats.json_scanner import JsonScanner
from modelforge.data.formats.sniff import DataFile, Row

# An export of the whole account has objects of chats with a list of chats, each with messages.
_CHATS = ("chats", "left_chats")
_MAX_DEPTH = 4
_DISCORD_TYPES = frozenset({"Default", "Reply", "ThreadStarterMessage", "0", "19", "21"})
_NO_NAME = "Deleted Account"


def read_telegram(
    file: DataFile, counts: ChatCounts, on_error: OnReadError | None
) -> Iterator[ChatMessage]:
    """Yield the text messages of all chats; service messages and media without text are counted."""
    for chat, (line, data) in _chat_rows(file, on_error):
        if data.get("type") != "message":
            counts.system += 1
            continue
        text = _joined(data.get("text")).strip()
        if not text:
            counts.media += 1
            continue
        person = str(data.get("from") or _NO_NAME).strip()
        counts.persons[person] += 1
        time = number_of(data.get("date_unixtime")) or _iso_seconds(data.get("date"))
        if time is None:
            report_error(bad_time(file, line, data.get("date")), on_error)
        yield ChatMessage(line, person, text, time, chat)


def read_discord(
    file: DataFile, counts: ChatCounts, on_error: OnReadError | None
) -> Iterator[ChatMessage]:
    """Yield the text messages of a channel; a person has the name that the channel shows."""
    for _, (line, data) in _chat_rows(file, on_error):
        if str(data.get("type", "Default")) not in _DISCORD_TYPES:
            counts.system += 1
            continue
        text = _joined(data.get("content")).strip()
        if not text:
            counts.media += 1
            continue
        author = data.get("author")
        author = author if isinstance(author, dict) else {}
        person = str(author.get("nickname") or author.get("name") or _NO_NAME).strip()
        counts.persons[person] += 1
        time = _iso_seconds(data.get("timestamp"))
        if time is None:
            report_error(bad_time(file, line, data.get("timestamp")), on_error)
        yield ChatMessage(line, person, text, time)


def _iso_seconds(value: Any) -> float | None:
    """Return a time such as 2026-12-31T23:59:59 in seconds; None for anything else."""
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    return None


def _joined(value: Any) -> str:
    """Return a text, or the texts of a list of parts (links, bold text, mentions)."""
    if isinstance(value, list):
        return "".join(_joined(part) for part in value if not isinstance(part, list))
    if isinstance(value, dict):
        value = value.get("text")
    return value if isinstance(value, str) else ""


def number_of(value: Any) -> float | None:
    """Return a time in seconds that is a number or its text; None for anything else."""
    with suppress(TypeError, ValueError, OverflowError):
        return number if math.isfinite(number := float(value)) else None
    return None


def bad_time(file: DataFile, line: int, value: Any) -> ReadError:
    """Return the error for a message whose time cannot be read; its pauses are not known."""
    what = f"has a message with the time {str(value)[:40]!r}, which cannot be read."
    remedy = "Export the chat again, or remove the message."
    return read_error(file.name, what, remedy, code="chat-date", line=line)


def _chat_rows(file: DataFile, on_error: OnReadError | None) -> Iterator[tuple[str, Row]]:
    """Yield the messages of an export, each with the name of its chat."""
    with file.open() as stream:
        scanner = JsonScanner(file, stream)
        try:
            yield from _rows_of_object(scanner, on_error, 0)
        except ReadError as error:
            # The start of the next message is unknown, so reading ends here.
            error.ends_reading = True
            report_error(error, on_error, error.raw)


def _rows_of_object(
    scanner: JsonScanner, on_error: OnReadError | None, depth: int
) -> Iterator[tuple[str, Row]]:
    """Yield the messages in the object that comes next, and in the chats inside it."""
    chat = ""
    scanner.take(b"{")
    while scanner.peek() == b'"':
        key = scanner.value().strip(b'"').decode(errors="replace")
        scanner.take(b":")
        mark = scanner.peek()
        if key == "messages" and mark == b"[":
            for row in read_array(scanner, on_error):
                yield chat, row
        elif key in _CHATS and mark == b"{" and depth < _MAX_DEPTH:
            yield from _rows_of_object(scanner, on_error, depth + 1)
        elif key == "list" and mark == b"[" and 0 < depth < _MAX_DEPTH:
            yield from _rows_of_list(scanner, on_error, depth + 1)
        else:
            value = scanner.value()
            if key in ("name", "id"):
                chat += f"{_parsed(value)} "
        if scanner.peek() == b",":
            scanner.take(b",")
    scanner.take(b"}")


def _rows_of_list(
    scanner: JsonScanner, on_error: OnReadError | None, depth: int
) -> Iterator[tuple[str, Row]]:
    scanner.take(b"[")
    while scanner.peek() == b"{":
        yield from _rows_of_object(scanner, on_error, depth)
        if scanner.peek() == b",":
            scanner.take(b",")
    scanner.take(b"]")


def _parsed(value: bytes) -> Any:
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(value)
    return ""
