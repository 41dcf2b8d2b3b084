"""Messages joined to conversations, and the settings that change them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.chats import conversations as module
from modelforge.data.chats.conversations import join_conversations, mask
from modelforge.data.chats.message import ChatCounts, ChatMessage
from modelforge.data.formats.options import ReadOptions
from modelforge.data.sources.load import dataset_record, iterate_rows, load_sources
from modelforge.paths import Home

HOUR = 3600.0


def chat(*messages: tuple[float, str, str]) -> list[ChatMessage]:
    return [
        ChatMessage(line, person, text, hours * HOUR)
        for line, (hours, person, text) in enumerate(messages, start=1)
    ]


def join(
    messages: Sequence[ChatMessage], **options: object
) -> tuple[list[tuple[int, list[str]]], ChatCounts]:
    counts = ChatCounts()
    given = ReadOptions.from_mapping({"chat_person": "Anna", **options})
    rows = [
        (row.line, [f"{each['role'][0]}:{each['content']}" for each in row.data["messages"]])
        for row in join_conversations(messages, given, counts)
    ]
    return rows, counts


def test_consecutive_messages_of_a_person_are_one_message() -> None:
    rows, _ = join(chat((0, "Ben", "a"), (0, "Ben", "b"), (0, "Anna", "c"), (0, "Anna", "d")))
    assert rows == [(1, ["u:a\nb", "a:c\nd"])]


def test_a_pause_of_the_length_that_is_set_begins_a_conversation() -> None:
    messages = chat((0, "Ben", "a"), (1, "Anna", "b"), (4, "Ben", "c"), (5, "Anna", "d"))
    assert join(messages, chat_pause=3)[0] == [(1, ["u:a", "a:b"]), (3, ["u:c", "a:d"])]
    assert join(messages, chat_pause=3.5)[0] == [(1, ["u:a", "a:b", "u:c", "a:d"])]


def test_what_no_answer_belongs_to_is_left_out_and_counted() -> None:
    messages = chat((0, "Anna", "a"), (0, "Ben", "b"), (0, "Anna", "c"), (0, "Ben", "d"))
    rows, counts = join([*messages, *chat((90, "Ben", "e"), (200, "Anna", "f"))])
    assert rows == [(2, ["u:b", "a:c"])]
    assert (counts.unanswered, counts.conversations) == (4, 1)


def test_several_persons_are_named_in_the_questions() -> None:
    rows, _ = join(
        chat((0, "Ben", "a"), (0, "Cem", "b"), (0, "Anna", "c"), (0, "Ben", "d"), (0, "Anna", "e"))
    )
    assert rows == [(1, ["u:Ben: a\nCem: b", "a:c", "u:Ben: d", "a:e"])]


def test_another_chat_begins_a_conversation() -> None:
    messages = chat((0, "Ben", "a"), (0, "Anna", "b"), (0, "Ben", "c"), (0, "Anna", "d"))
    other = [message._replace(chat="other") for message in messages[2:]]
    assert len(join([*messages[:2], *other])[0]) == 2


def test_the_chosen_person_is_the_assistant() -> None:
    messages = chat((0, "Ben", "a"), (0, "Anna", "b"), (0, "Ben", "c"))
    assert join(messages, chat_person="Ben")[0] == [(2, ["u:b", "a:c"])]


def test_a_chat_without_pauses_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGES", 4)
    messages = chat(*[(0, "Ben" if number % 2 == 0 else "Anna", "a") for number in range(10)])
    assert [len(row) for _, row in join(messages)[0]] == [4, 4, 2]


MASKED = {
    "call +49 170 1234567 now": "call [number] now",
    "0170/1234567": "[number]",
    "(0170) 123 45 67.": "[number].",
    "555-123-4567": "[number]",
    "a.b+c@mail.example.org!": "[e-mail]!",
    "see https://example.org/a?b=c#d now": "see [link] now",
    "www.example.org": "[link]",
    "DE89 3704 0044 0532 0130 00": "[IBAN]",
    "GB29NWBK60161331926819": "[IBAN]",
}


@pytest.mark.parametrize("text", MASKED)
def test_numbers_and_addresses_are_replaced(text: str) -> None:
    assert mask(text) == MASKED[text]


@pytest.mark.parametrize(
    "text",
    ["on 31.12.2023 at 22:00", "2023-12-31", "3,50 EUR", "in 1999", "12345", "a@ b", "1.000.000"],
)
def test_other_numbers_are_kept(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "0 " * 200_000,
        "a." * 200_000,
        "A1" * 200_000,
        "a@" * 200_000,
        "(0" * 200_000,
        "www." * 100_000,
    ],
)
def test_masking_takes_linear_time(text: str) -> None:
    begin = time.perf_counter()
    mask(text)
    assert time.perf_counter() - begin < 3


def test_texts_are_masked_only_on_request() -> None:
    messages = chat((0, "Ben", "Where? a@b.de"), (0, "Anna", "+49 170 1234567"))
    assert join(messages)[0] == [(1, ["u:Where? a@b.de", "a:+49 170 1234567"])]
    assert join(messages, chat_mask=True)[0] == [(1, ["u:Where? [e-mail]", "a:[number]"])]


def test_a_run_reads_the_rows_that_its_source_describes(tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    path.write_text(
        "1.1.24, 10:00 - Ben: a@b.de\n1.1.24, 10:01 - Anna: b\n"
        "1.1.24, 15:00 - Ben: c\n1.1.24, 15:01 - Anna: d\n",
        "utf-8",
    )
    options = {"chat_person": "Anna", "chat_pause": 2, "chat_mask": True}
    (loaded,) = load_sources([Source(path=str(path), **options)], Home(tmp_path / "home"))
    record = dataset_record([loaded])
    rows = [row["messages"] for _, row in iterate_rows(record, 0)]
    assert rows == [row["messages"] for row in loaded.canonical_rows()]
    assert [row[0]["content"] for row in rows] == ["[e-mail]", "c"]
