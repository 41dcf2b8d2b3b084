"""Read the messages of a WhatsApp export (a text file of iOS or Android)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelforge.data.chats.message import ChatCounts, ChatMessage
from modelforge.data.chats.stamps import (
    DIRECTION_MARKS,
    SECONDS_OF_DAY,
    DateOrder,
    Stamp,
    date_order,
    day_number,
    find_stamp,
    first_misfit,
)
from modelforge.data.formats.encoding import HEAD_BYTES
from modelforge.data.formats.errors import OnReadError, ReadError, read_error, report_error
from modelforge.data.formats.sniff import MAX_ROW_BYTES, DataFile

_MAX_TEXT_CHARS = MAX_ROW_BYTES // 4
# “<Media omitted>” in any language; on iOS the mark of direction precedes the messenger's own text.
_MARK = re.compile(r"<[^<>\n]{2,80}>\Z")
_EDITED = re.compile(r"\s?[\u200e\u200f]?<[^<>\n]{3,60}>\Z")
_ATTACHED = re.compile(
    r"[\u200e\u200f]?(?:[\w.\-]{1,80}\.\w{2,5} \([^()\n]{3,60}\)|<[^<>\n]{3,20}: ?[^<>\n]{1,120}>)"
)
_OMITTED = re.compile(
    r"(?:image|video|audio|sticker|GIF|document|contact card|Bild|Video|Audio|Sticker|Dokument"
    r"|imagen|documento|vidéo|immagine|afbeelding|imagem)"
    r" (?:omitted|weggelassen|omitid[oa]|omise?|omess[oa]|weggelaten|ocultad[oa])\.?\Z",
    re.IGNORECASE,
)
_DELETED = re.compile(
    r"(?:this message was deleted|you deleted this message|null"
    r"|diese nachricht wurde gelöscht|du hast diese nachricht gelöscht"
    r"|se eliminó este mensaje|eliminaste este mensaje|este mensaje fue eliminado"
    r"|ce message a été supprimé|vous avez supprimé ce message"
    r"|mensagem apagada|você apagou esta mensagem|esta mensagem foi apagada|apagou esta mensagem"
    r"|questo messaggio è stato eliminato|hai eliminato questo messaggio"
    r"|dit bericht (?:is|werd) verwijderd|u hebt dit bericht verwijderd"
    r"|данное сообщение удалено|вы удалили данное сообщение|bu mesaj silindi"
    r"|usunięto tę wiadomość|deze oproep werd gemist|missed (?:voice|video) call"
    r"|verpasster (?:sprach|video)anruf)\.?\Z",
    re.IGNORECASE,
)


def read_whatsapp(
    file: DataFile, counts: ChatCounts, on_error: OnReadError | None
) -> Iterator[ChatMessage]:
    """Yield the text messages; lines of the messenger and marks of media are counted.

    Raises ReadError for dates of which the order of day and month cannot be found; a single date
    that does not fit is reported.
    """
    order = _order(file)
    for line, stamp, text in _messages(file):
        day = day_number(stamp.numbers, order)
        if day is None:
            report_error(_bad_date(file, line, stamp), on_error)
        body = _body(text) if stamp.person else ""
        if not stamp.person:
            counts.system += 1
        elif not body:
            counts.media += 1
        else:
            counts.persons[stamp.person] += 1
            time = None if day is None else float(day * SECONDS_OF_DAY + stamp.seconds)
            yield ChatMessage(line, stamp.person, body, time)


def _order(file: DataFile) -> DateOrder:
    """Return the order of the numbers of the dates at the beginning of the file."""
    with file.open() as stream:
        head = stream.read(HEAD_BYTES).decode(errors="replace").splitlines()
    found = [(number, find_stamp(line)) for number, line in enumerate(head, start=1)]
    dated = [(number, stamp) for number, stamp in found if stamp is not None]
    stamps = [stamp for _, stamp in dated]
    order = date_order(stamps)
    if order is not None:
        return order
    line = dated[first_misfit(stamps)][0]
    what = "has a date that cannot be read: no order of day, month and year fits all dates."
    remedy = "Export the chat again, or correct the date; write it as 31.12.26 or 12/31/26."
    raise read_error(file.name, what, remedy, code="chat-date", line=line)


def _messages(file: DataFile) -> Iterator[tuple[int, Stamp, str]]:
    """Yield the line where each message begins, its beginning, and its whole text."""
    first, stamp = 0, None
    parts: list[str] = []
    size = 0
    for number, line in _lines(file):
        found = find_stamp(line)
        if found is None and stamp is not None:
            size += len(line)
            if size <= _MAX_TEXT_CHARS:
                parts.append(line)
            continue
        if stamp is not None:
            yield first, stamp, "\n".join(parts)
        if found is not None:
            first, stamp, parts, size = number, found, [found.text], len(found.text)
    if stamp is not None:
        yield first, stamp, "\n".join(parts)


def _lines(file: DataFile) -> Iterator[tuple[int, str]]:
    number = 0
    with file.open() as stream:
        while line := stream.readline(MAX_ROW_BYTES):
            number += 1
            # An invalid byte becomes U+FFFD, which the data checks report.
            yield number, line.decode(errors="replace").rstrip("\r\n")


def _body(text: str) -> str:
    """Return the text of a message without marks of media; empty if nothing else is in it."""
    if text[:1] in ("\u200e", "\u200f") and not _ATTACHED.match(text):
        return ""
    first, newline, rest = text.partition("\n")
    if _ATTACHED.match(first):
        # The caption of a file follows the mark.
        text = _ATTACHED.sub("", first, count=1).strip() + newline + rest
    if text.endswith(">"):
        text = "" if _MARK.match(text) else _EDITED.sub("", text)
    plain = text.strip().strip(DIRECTION_MARKS).strip()
    is_mark = len(plain) <= 80 and (_OMITTED.match(plain) or _DELETED.match(plain))
    return "" if is_mark else plain


def _bad_date(file: DataFile, line: int, stamp: Stamp) -> ReadError:
    shown = ".".join(map(str, stamp.numbers))
    what = f"has the date {shown}, whose order of day and month differs from the other dates."
    remedy = "Correct the date; the others show the order."
    return read_error(file.name, what, remedy, code="chat-date", line=line)
