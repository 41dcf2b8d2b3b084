"""Join the messages of a chat to conversations with the answers of one person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from modelforge.data.chats.message import ChatCounts, ChatMessage
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.sniff import Row
from modelforge.units import MIB

# A conversation without pauses ends here, so that memory is bounded.
MAX_MESSAGES = 5_000
MAX_CHARS = MIB
_SECONDS_OF_HOUR = 3600
# What numbers and addresses become.
LINK, EMAIL, IBAN, PHONE = "[link]", "[e-mail]", "[IBAN]", "[number]"

# Each begins at a mark or at the beginning of a word and is bounded, so that time is linear.
_LINK = re.compile(r"(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>\"“”]{1,2000}", re.IGNORECASE)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_DIGIT = re.compile(r"\d")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?!\d)"
# Numbers with at least 7 digits that begin like a telephone number, and others with 9 or more.
_PHONE = re.compile(
    rf"(?<![\w.,])(?!{_DATE})(?:(?:\+|0|\(0|\(\+)(?:[ .\-/()]{{0,2}}\d){{6,18}}"
    r"|\(?\d(?:[ .\-/()]{0,2}\d){8,18})(?![\w])"
)


def join_conversations(
    messages: Iterable[ChatMessage], options: ReadOptions, counts: ChatCounts
) -> Iterator[Row]:
    """Yield each conversation in which the chosen person answers, as a row with `messages`.

    Consecutive messages of a person are one message. A pause of `chat_pause` hours, or another
    chat, begins a conversation. What precedes the first message of others and what follows the
    last answer is left out and counted.
    """
    pause = options.chat_pause * _SECONDS_OF_HOUR
    part: list[ChatMessage] = []
    chars = 0
    for message in messages:
        is_full = len(part) >= MAX_MESSAGES or chars > MAX_CHARS
        if part and (is_full or _is_apart(part[-1], message, pause)):
            yield from _row(part, options, counts)
            part, chars = [], 0
        part.append(message)
        chars += len(message.text)
    yield from _row(part, options, counts)


def _is_apart(earlier: ChatMessage, later: ChatMessage, pause: float) -> bool:
    if earlier.chat != later.chat:
        return True
    if earlier.time is None or later.time is None:
        return False
    return later.time - earlier.time >= pause


def _row(part: Sequence[ChatMessage], options: ReadOptions, counts: ChatCounts) -> Iterator[Row]:
    """Yield the conversation of these messages, if the chosen person answers in it."""
    is_answer = [message.person == options.chat_person for message in part]
    if True not in is_answer or False not in is_answer:
        counts.unanswered += len(part)
        return
    begin, end = is_answer.index(False), len(part) - is_answer[::-1].index(True)
    if begin >= end:
        counts.unanswered += len(part)
        return
    used = part[begin:end]
    counts.unanswered += len(part) - len(used)
    counts.conversations += 1
    others = {message.person for message in used if message.person != options.chat_person}
    turns = groupby(used, key=lambda message: message.person == options.chat_person)
    messages = [
        {
            "role": "assistant" if answers else "user",
            "content": _text(list(turn), named=not answers and len(others) > 1, options=options),
        }
        for answers, turn in turns
    ]
    yield Row(used[0].line, {"messages": messages})


def _text(turn: Sequence[ChatMessage], *, named: bool, options: ReadOptions) -> str:
    """Return the messages of a turn as one text; with names where several persons write."""
    parts = []
    for person, messages in groupby(turn, key=lambda message: message.person):
        text = "\n".join(message.text for message in messages)
        parts.append(f"{person}: {text}" if named else text)
    text = "\n".join(parts)
    return mask(text) if options.chat_mask else text


def mask(text: str) -> str:
    """Return a text in which links, e-mail addresses, IBANs and telephone numbers are replaced."""
    if "." in text or ":" in text:
        text = _LINK.sub(LINK, text)
    if "@" in text:
        text = _EMAIL.sub(EMAIL, text)
    if not _DIGIT.search(text):
        return text
    return _PHONE.sub(PHONE, _IBAN.sub(IBAN, text))
