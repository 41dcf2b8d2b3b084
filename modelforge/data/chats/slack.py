"""Read the messages of a Slack export: its ZIP archive, its folder, or the file of one day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from modelforge.data.chats.detect import SLACK_LISTS, SLACK_USERS
from modelforge.data.chats.exports import bad_time, number_of
from modelforge.data.chats.message import ChatCounts, ChatMessage
from modelforge.data.formats.errors import OnReadError, report_error
from modelforge.data.formats.json import read_json_rows
from modelforge.data.formats.sniff import MAX_ROW_BYTES, DataFile

MAX_DAYS = 10_000
_SUBTYPES = frozenset({None, "thread_broadcast", "me_message", "bot_message", "file_share"})
_REFERENCE = re.compile(r"<([@#!]?)([^<>|\n]{1,2000})(?:\|([^<>\n]{0,2000}))?>")
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
_Names = Mapping[str, str]


def read_slack(
    file: DataFile, counts: ChatCounts, on_error: OnReadError | None
) -> Iterator[ChatMessage]:
    """Yield the text messages of a day, or of all days of an archive, channel by channel."""
    names = user_names(file)
    for day in _days(file):
        channel = Path(day.member or day.path).parent.name
        for (line, data), _ in read_json_rows(day, on_error):
            if data.get("type") != "message" or data.get("subtype") not in _SUBTYPES:
                counts.system += 1
                continue
            text = _plain(str(data.get("text") or ""), names).strip()
            if not text:
                counts.media += 1
                continue
            person = _person(data, names)
            counts.persons[person] += 1
            time = number_of(data.get("ts"))
            if time is None:
                report_error(bad_time(day, line, data.get("ts")), on_error)
            yield ChatMessage(line, person, text, time, channel)


def user_names(file: DataFile) -> dict[str, str]:
    """Return the shown name of each user id of the export; empty without a list of users."""
    content = b""
    if file.members:
        users = next((name for name in file.members if Path(name).name == SLACK_USERS), None)
        if users is not None:
            with replace(file, member=users, members=()).open_raw() as stream:
                content = stream.read(MAX_ROW_BYTES)
    elif not file.compression:
        for folder in (file.path.parent.parent, file.path.parent):
            with suppress(OSError), (folder / SLACK_USERS).open("rb") as stream:
                content = stream.read(MAX_ROW_BYTES)
                break
    try:
        listed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    known = [user for user in listed if isinstance(user, dict)] if isinstance(listed, list) else []
    return {str(user.get("id")): _shown_name(user, user.get("profile")) for user in known}


def _days(file: DataFile) -> Iterator[DataFile]:
    days = [name for name in file.members if Path(name).name not in SLACK_LISTS]
    if not file.members:
        yield file
    for name in sorted(name for name in days if name.lower().endswith(".json")):
        yield replace(file, member=name, members=())


def _shown_name(user: Mapping[str, Any], profile: Any) -> str:
    profile = profile if isinstance(profile, dict) else {}
    names = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"))
    found = next((name for name in (*names, user.get("name")) if name), user.get("id"))
    return str(found).strip()


def _person(data: Mapping[str, Any], names: _Names) -> str:
    user = str(data.get("user") or "")
    if user in names:
        return names[user]
    if isinstance(data.get("user_profile"), dict):
        return _shown_name({"id": user}, data["user_profile"])
    return str(user or data.get("username") or data.get("bot_id") or "unknown").strip()


def _plain(text: str, names: _Names) -> str:
    """Return a text with its mentions and links as people see them."""

    def shown(found: re.Match[str]) -> str:
        mark, target, label = found.groups()
        if mark == "@":
            return f"@{label or names.get(target, target)}"
        if mark:
            return f"{'#' if mark == '#' else '@'}{label or target.split('^')[0]}"
        return f"{label} ({target})" if label and label not in target else target

    text = _REFERENCE.sub(shown, text)
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text
