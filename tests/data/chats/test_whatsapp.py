"""Exports of WhatsApp: the dates of many languages, lines of the messenger, marks of media."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.chats.read import count_chat, read_chat
from modelforge.data.chats.stamps import DAY_FIRST, MONTH_FIRST, YEAR_FIRST, date_order, find_stamp
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_rows
from modelforge.data.formats.sniff import sniff_file

# The beginning of the same message, at 23:04:05 or 23:04 on the last day of 2023.
STAMPS = {
    "iOS, German": "[31.12.23, 23:04:05] ",
    "iOS, mark of direction": "\u200e[31.12.23, 23:04:05] ",
    "iOS, English (US)": "[12/31/23, 11:04:05\u202fPM] ",
    "iOS, old": "[31/12/2023 23:04:05] ",
    "iOS, Chinese": "[2023/12/31 下午11:04:05] ",
    "iOS, Japanese": "[2023/12/31 23:04:05] ",
    "Android, German": "31.12.23, 23:04 - ",
    "Android, English (US)": "12/31/23, 11:04 PM - ",
    "Android, English (UK)": "31/12/2023, 23:04 - ",
    "Android, English (India)": "31/12/23, 11:04 pm - ",
    "Android, Spanish": "31/12/23, 11:04 p.\u00a0m. - ",
    "Android, Portuguese": "31/12/2023 23:04 - ",
    "Android, French": "31/12/2023 à 23:04 - ",
    "Android, Dutch": "31-12-2023 23:04 - ",
    "Android, Swedish": "2023-12-31 23:04 - ",
    "Android, Finnish": "31.12.2023 klo 23.04 - ",
    "Android, Hungarian": "2023. 12. 31. 23:04 - ",
    "Android, Bulgarian": "31.12.23 г., 23:04 - ",
    "Android, Chinese": "2023/12/31 晚上11:04 - ",
    "Android, Korean": "2023년 12월 31일 오후 11:04, ",
    "Android, Vietnamese": "23:04, 31/12/2023 - ",
    "Android, Arabic": "٣١/١٢/٢٠٢٣, ١١:٠٤ م - ",
    "Android, Greek": "31/12/23, 11:04 μ.μ. - ",
}


def put(tmp_path: Path, text: str, name: str = "chat.txt") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def conversations(path: Path, person: str, **options: object) -> list[list[tuple[str, str]]]:
    given = ReadOptions.from_mapping({"chat_person": person, **options})
    rows = [row.data["messages"] for row in read_rows(path, options=given)]
    return [[(message["role"], message["content"]) for message in row] for row in rows]


@pytest.mark.parametrize("form", STAMPS)
def test_a_date_is_read_in_every_form(form: str) -> None:
    stamp = find_stamp(f"{STAMPS[form]}Anna: Hello: you")
    assert stamp is not None
    assert (stamp.person, stamp.text) == ("Anna", "Hello: you")
    assert stamp.seconds // 60 == 23 * 60 + 4
    order = date_order([stamp])
    assert order is not None
    assert [stamp.numbers[place] for place in order][1:] == [12, 31]


@pytest.mark.parametrize("form", STAMPS)
def test_an_export_in_every_form_is_a_conversation(tmp_path: Path, form: str) -> None:
    stamp = STAMPS[form]
    text = f"{stamp}Ben: How high\nis it?\n{stamp}Ben: The oak.\n{stamp}Anna: 12 m.\n"
    path = put(tmp_path, text)
    assert sniff_file(path).format == "whatsapp"
    expected = [[("user", "How high\nis it?\nThe oak."), ("assistant", "12 m.")]]
    assert conversations(path, "Anna") == expected


@pytest.mark.parametrize(
    ("dates", "order"),
    [
        (["1/2/24", "2/2/24", "3/2/24"], DAY_FIRST),
        (["2/1/24", "2/2/24", "2/13/24"], MONTH_FIRST),
        (["1/2/24", "1/3/24", "1/4/24"], MONTH_FIRST),
        (["24/01/30", "24/02/01", "24/02/02"], YEAR_FIRST),
        (["30/01/24", "01/02/24"], DAY_FIRST),
    ],
)
def test_the_order_of_day_and_month_is_found(dates: list[str], order: tuple[int, ...]) -> None:
    stamps = [find_stamp(f"{date}, 12:00 - Anna: a") for date in dates]
    assert date_order([stamp for stamp in stamps if stamp is not None]) == order


def test_midnight_and_noon_of_twelve_hours() -> None:
    texts = ("12:05 AM", "12:05 PM", "1:05 PM")
    stamps = [find_stamp(f"12/31/23, {text} - Anna: a") for text in texts]
    assert [stamp.seconds // 3600 for stamp in stamps if stamp is not None] == [0, 12, 13]


LEFT_OUT = """\
31.12.23, 22:00 - Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt.
31.12.23, 22:00 - Anna hat den Betreff zu “Plan: B” geändert
31.12.23, 22:01 - Ben: Frage
31.12.23, 22:02 - Anna: <Medien ausgeschlossen>
31.12.23, 22:02 - Anna: <Media omitted>
31.12.23, 22:02 - Anna: \u200eimage omitted
31.12.23, 22:02 - Anna: Diese Nachricht wurde gelöscht.
31.12.23, 22:02 - Anna: \u200eIMG-20231231-WA0001.jpg (Datei angehängt)
31.12.23, 22:03 - Anna: IMG-20231231-WA0002.jpg (file attached)
Mein Baum
31.12.23, 22:04 - Anna: Antwort <Diese Nachricht wurde bearbeitet.>
31.12.23, 22:05 - Anna: 3 < 4 und <b>
"""


def test_system_lines_and_marks_of_media_are_left_out_and_counted(tmp_path: Path) -> None:
    path = put(tmp_path, LEFT_OUT)
    (row,) = conversations(path, "Anna")
    assert row == [("user", "Frage"), ("assistant", "Mein Baum\nAntwort\n3 < 4 und <b>")]
    counts = count_chat(sniff_file(path, ReadOptions(chat_person="Anna")))
    assert (counts.system, counts.media, counts.messages) == (2, 5, 4)
    found = {
        each.code: each for each in check_file(path, Source(path="x", chat_person="Anna")).findings
    }
    assert "system lines (2) and marks of media (5)" in found["chat-export"].what


def refusal(path: Path, **options: object) -> ReadError:
    with pytest.raises(ReadError) as caught:
        list(read_rows(path, options=ReadOptions.from_mapping(options)))
    return caught.value


CHAT = """\
31.12.23, 22:00 - Ben: Frage
31.12.23, 22:01 - Anna: Antwort
31.12.23, 22:02 - Anna: noch eine
"""


def test_without_a_person_the_names_are_listed(tmp_path: Path) -> None:
    path = put(tmp_path, CHAT)
    error = refusal(path)
    assert error.code == "chat-person"
    assert "Anna (2), Ben (1)" in str(error)
    findings = check_file(path).findings
    assert [(each.code, each.level) for each in findings] == [("chat-person", "blocker")]
    near = refusal(path, chat_person="Ana")
    assert "Did you mean Anna? It has messages of Anna (2), Ben (1)." in str(near)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("31.12.23, 22:00 - Anna: a\n31.12.23, 22:01 - Anna: b\n", "chat-one-person", None),
        ("31.12.23, 22:00 - Ben: <Media omitted>\n31.12.23, 22:00 - Du hast\n", "chat-empty", 1),
        (CHAT + "31.31.23, 22:03 - Anna: so\n", "chat-date", 4),
        (CHAT + "12.31.23, 22:03 - Anna: so\n", "chat-date", 4),
    ],
)
def test_an_export_without_conversations_is_refused(
    tmp_path: Path, text: str, code: str, line: int | None
) -> None:
    error = refusal(put(tmp_path, text), chat_person="Anna")
    assert (error.code, error.line) == (code, line)


def test_answers_before_any_question_are_no_conversation(tmp_path: Path) -> None:
    path = put(tmp_path, CHAT)
    assert refusal(path, chat_person="Ben").code == "chat-no-answer"


def test_an_unknown_date_in_a_file_named_like_an_export_is_refused(tmp_path: Path) -> None:
    text = "the 31st of Dec, 22:00 - Ben: Frage\nthe 31st of Dec, 22:01 - Anna: Antwort\n"
    error = refusal(put(tmp_path, text, "WhatsApp Chat with Ben.txt"))
    assert (error.code, error.line) == ("chat-date", 1)
    assert sniff_file(put(tmp_path, text, "notes.txt")).format == "text"


def test_an_export_of_the_row_type_text_is_plain_text(tmp_path: Path) -> None:
    summary = summarize(put(tmp_path, CHAT), source=Source(path="x", type="text"))
    assert (summary.mapping.kind, summary.rows) == ("text", 3)


@pytest.mark.parametrize(
    "text",
    [
        "31.12.23 was a cold day: it snowed.\nThe oak stood.\n",
        "Anna: hello\nBen: hi\n",
        "[1] Smith: The oak. 2023.\n[2] Jones: The wren. 2024.\n",
    ],
)
def test_other_texts_are_no_exports(tmp_path: Path, text: str) -> None:
    assert sniff_file(put(tmp_path, text)).format == "text"


@pytest.mark.parametrize(
    "line",
    [
        "31.12.23, 22:00 - " + "a" * 500_000,
        "31.12.23, 22:00 - " + "Anna " * 100_000 + ":",
        "[" + "1" * 500_000,
        "1.1.1, " + " " * 500_000,
        "31.12.23, 22:00 - Anna: " + "<" * 500_000,
        "31.12.23, 22:00 - Anna: " + "a." * 250_000,
    ],
)
def test_long_lines_take_linear_time(tmp_path: Path, line: str) -> None:
    path = put(tmp_path, f"{CHAT}{line}\n{line}\n")
    begin = time.perf_counter()
    list(read_chat(sniff_file(path, ReadOptions(chat_person="Anna", chat_mask=True))))
    assert time.perf_counter() - begin < 3


def test_an_export_in_utf_16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    path.write_bytes(CHAT.encode("utf-16"))
    assert conversations(path, "Anna") == [[("user", "Frage"), ("assistant", "Antwort\nnoch eine")]]
