"""Exports of Telegram, Discord and Slack."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.chats.read import count_chat, find_persons
from modelforge.data.checks.run import check_file, check_sources
from modelforge.data.checks.summary import summarize
from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_rows
from modelforge.data.formats.sniff import sniff_file
from modelforge.data.sources.load import load_sources
from modelforge.data.sources.locate import find_source_files
from modelforge.paths import Home


def telegram(number: int, person: str | None, text: Any, **more: Any) -> dict[str, Any]:
    unix = 1_704_000_000 + 60 * number
    return {
        "id": number,
        "type": "message",
        "date": "2023-12-31T06:20:00",
        "date_unixtime": str(unix),
        "from": person,
        "from_id": f"user{number % 2}",
        "text": text,
        **more,
    }


LINKED = ["see ", {"type": "link", "text": "https://example.org"}, " now"]
MESSAGES = [
    {"id": 1, "type": "service", "date_unixtime": "1704000000", "actor": "Ben", "text": ""},
    telegram(2, "Ben", LINKED),
    telegram(3, "Anna", "", photo="photos/1.jpg"),
    telegram(4, "Anna", "Yes."),
    telegram(5, None, "gone"),
]
ONE_CHAT = {"name": "Ben", "type": "personal_chat", "id": 7, "messages": MESSAGES}
ACCOUNT = {
    "about": "all",
    "contacts": {"about": "b", "list": [{"first_name": "Ben", "phone_number": "1"}]},
    "chats": {"about": "c", "list": [ONE_CHAT, {**ONE_CHAT, "name": "Cem", "id": 8}]},
}
DISCORD = {
    "guild": {"id": "0", "name": "Trees"},
    "channel": {"id": "1", "type": "GuildTextChat", "name": "oaks"},
    "dateRange": {"after": None, "before": None},
    "exportedAt": "2024-01-01T00:00:00+00:00",
    "messages": [
        {
            "id": str(number),
            "type": kind,
            "timestamp": f"2023-12-31T22:0{number}:00.123+00:00",
            "content": text,
            "author": {"id": person, "name": person.lower(), "nickname": person, "isBot": False},
            "attachments": [],
        }
        for number, (kind, person, text) in enumerate(
            [
                ("GuildMemberJoin", "Ben", "Joined the server."),
                ("Default", "Ben", "How high?"),
                ("Default", "Anna", ""),
                ("Reply", "Anna", "12 m."),
            ]
        )
    ],
    "messageCount": 4,
}


def put(tmp_path: Path, name: str, data: Any, indent: int | None = 1) -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=indent), "utf-8")
    return path


def texts(path: Path, person: str = "Anna", **options: object) -> list[list[str]]:
    given = ReadOptions.from_mapping({"chat_person": person, **options})
    rows = read_rows(path, options=given)
    return [[message["content"] for message in row.data["messages"]] for row in rows]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("result.json", ONE_CHAT, [["see https://example.org now", "Yes."]]),
        ("result.json", ACCOUNT, [["see https://example.org now", "Yes."]] * 2),
        ("Trees - oaks.json", DISCORD, [["How high?", "12 m."]]),
    ],
)
def test_an_export_is_read(
    tmp_path: Path, name: str, data: Any, found: list[list[str]], indent: int | None
) -> None:
    assert texts(put(tmp_path, name, data, indent)) == found


def test_service_messages_and_media_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path, "result.json", ONE_CHAT)
    counts = count_chat(sniff_file(path, ReadOptions(chat_person="Anna")))
    assert (counts.system, counts.media, counts.unanswered) == (1, 1, 1)
    assert dict(counts.persons) == {"Ben": 1, "Anna": 1, "Deleted Account": 1}
    discord = find_persons(sniff_file(put(tmp_path, "oaks.json", DISCORD)))
    assert (discord.system, discord.media, dict(discord.persons)) == (1, 1, {"Ben": 1, "Anna": 1})


@pytest.mark.parametrize(("name", "data"), [("result.json", ONE_CHAT), ("oaks.json", DISCORD)])
def test_without_a_person_the_names_are_listed(tmp_path: Path, name: str, data: Any) -> None:
    (finding,) = check_file(put(tmp_path, name, data)).findings
    assert (finding.code, finding.level) == ("chat-person", "blocker")
    assert "Anna (1)" in finding.remedy
    assert "Ben (1)" in finding.remedy


def test_the_place_of_broken_json_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "result.json", ONE_CHAT)
    path.write_text(path.read_text("utf-8")[:-60], "utf-8")
    with pytest.raises(ReadError) as caught:
        texts(path)
    assert caught.value.line is not None
    assert caught.value.line > 20


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("result.json", {**ONE_CHAT, "messages": []}),
        ("result.json", {**ONE_CHAT, "messages": MESSAGES[:1]}),
        ("oaks.json", {**DISCORD, "messages": []}),
    ],
)
@pytest.mark.parametrize("options", [{}, {"chat_person": "Anna"}])
def test_an_export_without_messages_is_refused(
    tmp_path: Path, name: str, data: Any, options: dict[str, str]
) -> None:
    path = put(tmp_path, name, data)
    with pytest.raises(ReadError) as caught:
        list(read_rows(path, options=ReadOptions.from_mapping(options)))
    assert caught.value.code == "chat-empty"


WITHOUT_TIME = [
    (
        "result.json",
        {**ONE_CHAT, "messages": [telegram(1, "Ben", "a", date_unixtime="", date="x")]},
    ),
    ("oaks.json", {**DISCORD, "messages": [{**DISCORD["messages"][1], "timestamp": "tomorrow"}]}),
    (
        "2024-01-01.json",
        [
            {"type": "message", "user": "a", "text": "b", "ts": f"{number}.5" * number}
            for number in (1, 2)
        ],
    ),
]


@pytest.mark.parametrize(("name", "data"), WITHOUT_TIME, ids=["telegram", "discord", "slack"])
def test_a_time_that_cannot_be_read_is_an_error_with_its_line(
    tmp_path: Path, name: str, data: Any
) -> None:
    path = put(tmp_path, name, data)
    with pytest.raises(ReadError, match="cannot be read") as caught:
        texts(path)
    assert caught.value.code == "chat-date"
    assert caught.value.line is not None
    assert caught.value.line > 1


def test_chats_inside_chats_without_end_are_left_out(tmp_path: Path) -> None:
    data: Any = ONE_CHAT
    for _ in range(100):
        data = {"chats": {"list": [data]}}
    path = put(tmp_path, "result.json", data, None)
    with pytest.raises(ReadError, match="no text message"):
        texts(path)


def test_other_json_is_no_export(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": '"type": "message", "from_id": 1'}]}]
    assert sniff_file(put(tmp_path, "rows.json", rows)).format == "json"
    assert sniff_file(put(tmp_path, "lines.jsonl", ONE_CHAT, None)).format == "json"


USERS = [
    {"id": "U1", "name": "anna", "profile": {"display_name": "Anna", "real_name": "Anna A."}},
    {"id": "U2", "name": "ben", "profile": {"display_name": "", "real_name": "Ben B."}},
]


def slack(number: int, user: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "user": user,
        "text": text,
        "ts": f"{1_704_000_000 + number}.0002",
        **more,
    }


DAYS = {
    "oaks/2023-12-30.json": [slack(-90_000, "U2", "Nobody answers.")],
    "oaks/2023-12-31.json": [
        slack(100, "U2", "<@U2> has joined", subtype="channel_join"),
        slack(101, "U2", "<@U1> see <https://example.org|the oak> &amp; <#C1|oaks>"),
        slack(102, "U1", "", files=[{}]),
        slack(103, "U1", "12 m."),
    ],
    "wrens/2023-12-31.json": [slack(200, "U2", "And wrens?"), slack(201, "U1", "Small.")],
}
ANSWERS = [["@Anna see the oak (https://example.org) & #oaks", "12 m."], ["And wrens?", "Small."]]


def slack_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    put(folder, "users.json", USERS)
    put(folder, "channels.json", [{"id": "C1", "name": "oaks"}])
    for name, messages in DAYS.items():
        put(folder, name, messages)
    return folder


def slack_zip(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    folder = slack_folder(tmp_path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.json")):
            archive.write(file, str(file.relative_to(folder)))
    return path


def test_a_slack_archive_is_read_with_the_names_of_its_users(tmp_path: Path) -> None:
    path = slack_zip(tmp_path)
    assert texts(path) == ANSWERS
    source = Source(path=str(path), chat_person="Anna")
    codes = {each.code for each in check_file(path, source).findings}
    assert codes == {"chat-export", "few-rows"}
    assert summarize(path, source=source).rows == 2
    (finding,) = check_file(path).findings
    assert "Anna (2), Ben B. (3)" in finding.remedy or "Ben B. (3), Anna (2)" in finding.remedy


def test_a_slack_folder_is_read_day_by_day(tmp_path: Path) -> None:
    folder = slack_folder(tmp_path)
    source = Source(path=str(folder), chat_person="Anna")
    home = Home(tmp_path / "home")
    files = find_source_files(source, home)
    assert [file.name for file in files] == [
        "2023-12-30.json",
        "2023-12-31.json",
        "2023-12-31.json",
    ]
    (loaded,) = load_sources([source], home)
    rows = [[each["content"] for each in row["messages"]] for row in loaded.canonical_rows()]
    assert rows == ANSWERS
    (note,) = [each for each in loaded.summary.findings if each.code == "chat-export"]
    assert "2 conversations with answers of Anna, who wrote 2 of 5 messages" in note.what
    assert not any(result.blocked for result in check_sources([source], home))
    with pytest.raises(ReadError, match=r"Ben B. \(3\), Anna \(2\)"):
        load_sources([Source(path=str(folder), chat_person="Cem")], home)


def test_a_single_day_has_the_names_of_its_messages(tmp_path: Path) -> None:
    day = [
        slack(1, "U7", "a", user_profile={"real_name": "Cem"}),
        slack(2, "U8", "b", user_profile={"display_name": "Dora"}),
    ]
    assert texts(put(tmp_path, "2024-01-01.json", day), "Dora") == [["a", "b"]]
