"""Recognize the chat exports of messengers by the beginning of their files."""

from __future__ import annotations

import re
from typing import Literal

from modelforge.data.chats.stamps import DIRECTION_MARKS, find_stamp

ChatFormat = Literal["whatsapp", "telegram", "discord", "slack"]
CHAT_NAMES: dict[str, str] = {
    "whatsapp": "WhatsApp",
    "telegram": "Telegram",
    "discord": "Discord",
    "slack": "Slack",
}
# Files of a Slack export that hold no messages.
SLACK_USERS = "users.json"
SLACK_LISTS = frozenset(
    {SLACK_USERS, "channels.json", "groups.json", "dms.json", "mpims.json", "org_users.json"}
    | {
        "integration_logs.json",
        "canvases.json",
        "huddle_transcripts.json",
        "file_conversations.json",
    }
    | {"lists.json"}
)
_MAX_LINES = 50
_NAME = re.compile(r"_chat\b|whatsapp", re.IGNORECASE)
_TELEGRAM = re.compile(r'"type"\s{0,9}:\s{0,9}"(?:message|service)"')
_TELEGRAM_CHAT = re.compile(
    r'"type"\s{0,9}:\s{0,9}"(?:personal_chat|bot_chat|saved_messages|private_group'
    r'|(?:private|public)_(?:supergroup|channel))"'
)
_TELEGRAM_ID = re.compile(r'"(?:date_unixtime|from_id|actor_id)"\s{0,9}:')
_DISCORD = re.compile(r'\{\s{0,99}"guild"\s{0,9}:\s{0,9}\{')
_DISCORD_CHANNEL = re.compile(r'"channel"\s{0,9}:\s{0,9}\{')
_SLACK = re.compile(r'"ts"\s{0,9}:\s{0,9}"\d{1,12}\.\d{1,9}"')
_SLACK_TYPE = re.compile(r'"type"\s{0,9}:\s{0,9}"message"')
_SLACK_START = re.compile(r"\[\s{0,99}\{")
_SLACK_HEAD_CHARS = 20_000
_UNKNOWN_DATE = re.compile(r"\[?(?=[^\n]{0,20}\d)[^\n:]{3,40}:\d\d[^\n]{0,60}?: ")


def detect_chat_json(text: str) -> ChatFormat | None:
    """Return the messenger whose export a JSON text begins; None for other files."""
    if text.startswith("{"):
        if _DISCORD.match(text) and _DISCORD_CHANNEL.search(text, 0, _SLACK_HEAD_CHARS):
            return "discord"
        is_message = _TELEGRAM.search(text) and _TELEGRAM_ID.search(text)
        is_empty_chat = _TELEGRAM_CHAT.search(text, 0, 1_000) and '"messages"' in text[:2_000]
        return "telegram" if is_message or is_empty_chat else None
    head = text[:_SLACK_HEAD_CHARS]
    is_slack = _SLACK_START.match(head) and _SLACK.search(head) and _SLACK_TYPE.search(head)
    return "slack" if is_slack else None


def is_whatsapp(text: str) -> bool:
    """Return whether a text begins like an export of WhatsApp: with dated lines of persons."""
    lines = [line for line in text[:100_000].splitlines()[:_MAX_LINES] if line.strip()]
    stamps = [find_stamp(line) for line in lines]
    dated = [stamp for stamp in stamps if stamp is not None]
    if not lines or stamps[0] is None:
        return False
    return any(stamp.person for stamp in dated) and (len(dated) > 1 or len(lines) == 1)


def looks_dated(text: str) -> bool:
    """Return whether the first line looks like a dated message in a form that is not known."""
    return _UNKNOWN_DATE.match(text[:200].lstrip(DIRECTION_MARKS)) is not None


def is_named_whatsapp(file_name: str) -> bool:
    """Return whether WhatsApp gives an export such a name, as in “WhatsApp Chat with Anna.txt”."""
    return _NAME.search(file_name) is not None
