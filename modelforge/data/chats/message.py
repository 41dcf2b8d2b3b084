"""A message of a chat export, and the counts of an export."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple


class ChatMessage(NamedTuple):
    """A text message of a person.

    Args:
        line: the line of the file where it begins, from 1.
        time: in seconds; only differences are used. None if it is unknown.
        chat: the chat or channel, where an export has several.
    """

    line: int
    person: str
    text: str
    time: float | None
    chat: str = ""


@dataclass
class ChatCounts:
    """What an export holds.

    Args:
        persons: the number of text messages of each person.
        system: lines of the messenger, such as calls and changes of a group.
        media: messages that are only a mark of an image, a recording or a deleted text.
        unanswered: text messages that belong to no answer of the chosen person.
        conversations: conversations with an answer of the chosen person.
    """

    persons: Counter[str] = field(default_factory=Counter)
    system: int = 0
    media: int = 0
    unanswered: int = 0
    conversations: int = 0

    def add(self, other: ChatCounts) -> None:
        """Add the counts of another export."""
        self.persons += other.persons
        for name in ("system", "media", "unanswered", "conversations"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def messages(self) -> int:
        """The number of text messages."""
        return self.persons.total()

    def listed(self, limit: int = 10) -> str:
        """Return the persons with their numbers of messages, those with most first."""
        known = self.persons.most_common()
        shown = ", ".join(f"{person[:40]} ({count:,})" for person, count in known[:limit])
        return shown if len(known) <= limit else f"{shown} and {len(known) - limit:,} more"
