"""Read a chat export as rows of conversations, and explain which person can be chosen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from modelforge.data.chats.conversations import join_conversations
from modelforge.data.chats.detect import CHAT_NAMES, SLACK_USERS
from modelforge.data.chats.exports import read_discord, read_telegram
from modelforge.data.chats.message import ChatCounts, ChatMessage
from modelforge.data.chats.slack import MAX_DAYS, read_slack, user_names
from modelforge.data.chats.whatsapp import read_whatsapp
from modelforge.data.formats.errors import OnReadError, ReadError, read_error
from modelforge.data.formats.sniff import DataFile, Row

_Reader = Callable[[DataFile, ChatCounts, OnReadError | None], Iterator[ChatMessage]]
_READERS: dict[str, _Reader] = {
    "whatsapp": read_whatsapp,
    "telegram": read_telegram,
    "discord": read_discord,
    "slack": read_slack,
}
_AS_TEXT = "To train on the text as it is, set the row type to text."


def read_chat(file: DataFile, on_error: OnReadError | None = None) -> Iterator[Row]:
    """Yield the conversations of a chat export in which the chosen person answers.

    Raises ReadError if no person is chosen, if no one has the chosen name, or if there is no other
    person; the error names the persons and their numbers of messages.
    """
    person = file.options.chat_person
    if person is None:
        raise _no_person(file)
    counts = ChatCounts()
    file = replace(file, options=replace(file.options, chat_person=person.strip()))
    yield from join_conversations(_messages(file, counts, on_error), file.options, counts)
    error = _unusable(file, counts, person.strip())
    if error is not None:
        raise error


def count_chat(file: DataFile) -> ChatCounts:
    """Return the counts of a chat export, for the person that is chosen."""
    counts = ChatCounts()
    person = file.options.chat_person
    messages = _messages(file, counts, lambda _error: None)
    options = replace(file.options, chat_mask=False)
    options = replace(options, chat_person=person.strip() if person else None)
    for _ in join_conversations(messages, options, counts):
        pass
    return counts


def _messages(
    file: DataFile, counts: ChatCounts, on_error: OnReadError | None
) -> Iterator[ChatMessage]:
    return _READERS[file.format](file, counts, on_error)


def find_persons(file: DataFile) -> ChatCounts:
    """Return the counts of the export; of a Slack folder those of all its days."""
    if file.format != "slack":
        return count_chat(file)
    root = file.path.parent.parent
    stamp = (root / SLACK_USERS).stat().st_mtime_ns if (root / SLACK_USERS).is_file() else None
    if file.compression or stamp is None:
        return _count_days([file])
    return _count_folder(root, stamp)


@lru_cache(maxsize=4)
def _count_folder(root: Path, _stamp: int) -> ChatCounts:
    """Return the counts of a Slack folder; kept, because each of its days asks for them."""
    days = islice(sorted(root.glob("*/*.json")), MAX_DAYS)
    return _count_days(DataFile(day, "slack") for day in days)


def _count_days(days: Iterable[DataFile]) -> ChatCounts:
    counts = ChatCounts()
    for day in days:
        for _ in _messages(day, counts, lambda _error: None):
            pass
    return counts


def _no_person(file: DataFile) -> ReadError:
    counts = find_persons(file)
    if not counts.messages:
        return _empty(file, counts)
    name = CHAT_NAMES[file.format]
    what = f"is a {name} export, and the person whose messages the model writes is not chosen."
    remedy = f"Choose the person (chat_person): {counts.listed()}."
    if file.format == "whatsapp":
        remedy = f"{remedy} {_AS_TEXT}"
    return read_error(file.name, what, remedy, code="chat-person")


def _unusable(file: DataFile, counts: ChatCounts, person: str) -> ReadError | None:
    """Return why an export gives no conversation; None if it gives one."""
    if counts.conversations:
        return None
    if file.format == "slack" and not file.compression:
        # A day on which the person wrote nothing is no error.
        if person in counts.persons or person in user_names(file).values():
            return None
        counts = find_persons(file)
        if person in counts.persons:
            return None
    if not counts.messages:
        return _empty(file, counts)
    if person not in counts.persons:
        what = f"has no messages of {person[:60]!r}, which is set as chat_person."
        near = difflib.get_close_matches(person, counts.persons, n=1)
        first = f"Did you mean {near[0][:60]}? " if near else ""
        remedy = f"{first}It has messages of {counts.listed()}."
        return read_error(file.name, what, remedy, code="chat-person")
    if len(counts.persons) == 1:
        what = f"has messages of one person only, {person[:60]}, so there are no questions."
        remedy = f"Export a chat of several persons. {_AS_TEXT}"
        return read_error(file.name, what, remedy, code="chat-one-person")
    what = f"has no conversation in which {person[:60]} answers another person."
    remedy = f"Choose another person, or a longer chat_pause. It has messages of {counts.listed()}."
    return read_error(file.name, what, remedy, code="chat-no-answer")


def _empty(file: DataFile, counts: ChatCounts) -> ReadError:
    what = (
        f"has no text message of a person, only lines of {CHAT_NAMES[file.format]} "
        f"({counts.system:,}) and marks of media ({counts.media:,})."
    )
    remedy = "Export the chat again, and choose the chat that has messages."
    return read_error(file.name, what, remedy, code="chat-empty", line=1)
