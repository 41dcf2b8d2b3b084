"""Saved chats: conversations with one or two models, kept under a name."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from modelforge.config.sampling import Sampling
from modelforge.config.schema.base import about
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.paths import read_regular
from modelforge.runs.atomic_files import disk_error, write_text
from modelforge.services.chats.requests import (
    MAX_CHARACTERS,
    MAX_MESSAGES,
    MAX_MODEL,
    MAX_TOOLS,
    Device,
    encodable,
)
from modelforge.units import MIB

FORMAT = 1
MAX_CHATS = 500
# That of a request.
MAX_BYTES = MIB
MAX_NAME = 80
NAME_FROM_QUESTION = 60
_ID = re.compile(r"[0-9a-f]{12}")
_FORBID = ConfigDict(extra="forbid")

Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]


@dataclass(frozen=True)
class SavedSide:
    """A model that takes part."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    model: Annotated[str, Field(max_length=MAX_MODEL)]
    tuned: bool = True


@dataclass(frozen=True)
class SavedAnswer:
    """An answer; `done` is the last part of its stream."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    side: Annotated[int, Field(ge=0, le=1, description="Index of the model in `sides`.")]
    text: Text
    done: dict[str, Any] | None = None
    tool_calls: Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_TOOLS)] = ()
    error: Annotated[str, Field(max_length=2000)] = ""


@dataclass(frozen=True)
class SavedTurn:
    """A question, or the result of a tool, with its answers."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    asked: Text
    role: Literal["user", "tool"] = "user"
    name: Annotated[str, Field(max_length=200, description="Name of the tool.")] = ""
    answers: Annotated[tuple[SavedAnswer, ...], Field(max_length=2)] = ()
    question: Annotated[
        str, Field(max_length=40, description="Id of a blind or of a waiting question.")
    ] = ""
    vote: Literal["left", "right", "tie"] | None = None
    left: Annotated[int | None, Field(ge=0, le=1)] = None


@dataclass(frozen=True)
class ChatSettings:
    """The settings of a chat."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    system: Annotated[Text, about("The system message; empty: as trained.")] = ""
    passage: Annotated[Text, about("The text that questions are about.")] = ""
    sampling: Sampling = field(default_factory=Sampling)
    tools: Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_TOOLS)] = ()
    device: Device = "auto"
    gpu: int | None = None


@dataclass(frozen=True)
class ChatContent:
    """What a saved chat holds. Without a name it gets that of its first question."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    sides: Annotated[tuple[SavedSide, ...], Field(min_length=1, max_length=2)]
    turns: Annotated[tuple[SavedTurn, ...], Field(max_length=MAX_MESSAGES)] = ()
    name: Annotated[str, Field(max_length=MAX_NAME)] = ""
    mode: Literal["one", "pair", "blind"] = "one"
    settings: ChatSettings = field(default_factory=ChatSettings)


@dataclass(frozen=True, kw_only=True)
class SavedChat(ChatContent):
    """A saved chat."""

    id: str
    created: Annotated[float, about("Unix seconds.")]
    changed: Annotated[float, about("Unix seconds.")]

    @property
    def content(self) -> ChatContent:
        """What it holds, without its id and its times."""
        return ChatContent(self.sides, self.turns, self.name, self.mode, self.settings)


@dataclass(frozen=True)
class ChatSummary:
    """A saved chat in the list."""

    id: str
    name: str
    created: Annotated[float, about("Unix seconds.")]
    changed: Annotated[float, about("Unix seconds.")]
    sides: tuple[SavedSide, ...]
    turns: int
    votes: int


_CONTENT = TypeAdapter(ChatContent)


class SavedChatService:
    """List, read, save, rename and delete chats: one JSON file each. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        # By the file: its modification time and size, and its summary.
        self._summaries: dict[Path, tuple[tuple[int, int], ChatSummary]] = {}

    def list(self) -> list[ChatSummary]:
        """Return the saved chats, the one changed last first; unreadable files are left out."""
        found = [self._summary(path) for path in self._files()]
        return sorted(filter(None, found), key=lambda chat: -chat.changed)

    def read(self, chat_id: str) -> SavedChat:
        """Return a saved chat; raises NotFoundError."""
        chat = _read(self._path(chat_id))
        if chat is None:
            what = f"There is no saved chat {chat_id[:40]!r} that can be read."
            raise NotFoundError(Problem("chat", what, "Reload the list."))
        return chat

    def save(
        self, content: ChatContent | Mapping[str, Any], chat_id: str | None = None
    ) -> SavedChat:
        """Save a chat, a new one without an id. Raises ConfigError, NotFoundError."""
        content = _checked(content)
        with self._lock:
            now = time.time()
            created = self.read(chat_id).created if chat_id else now
            if chat_id is None and len(self._files()) >= MAX_CHATS:
                what = f"There are {MAX_CHATS} saved chats, as many as are kept."
                raise ConfigError(Problem("chat", what, "Delete some of them first."))
            chat = _chat(content, chat_id or secrets.token_hex(6), created, now)
            self._write(chat)
        return chat

    def rename(self, chat_id: str, name: str) -> SavedChat:
        """Give a chat another name; raises ConfigError, NotFoundError."""
        with self._lock:
            chat = self.read(chat_id)
            content = _checked(replace(chat.content, name=name))
            renamed = _chat(content, chat_id, chat.created, time.time())
            self._write(renamed)
        return renamed

    def delete(self, chat_id: str) -> None:
        """Delete a chat; raises NotFoundError."""
        with self._lock:
            self.read(chat_id)
            path = self._path(chat_id)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise disk_error(error, path) from error

    def _files(self) -> Sequence[Path]:
        try:
            return tuple(path for path in self._folder.iterdir() if _is_chat(path))
        except OSError:
            return ()

    def _path(self, chat_id: str) -> Path:
        if not _ID.fullmatch(chat_id):
            what = f"There is no saved chat {chat_id[:40]!r}."
            raise NotFoundError(Problem("chat", what, "Reload the list."))
        return self._folder / f"{chat_id}.json"

    def _summary(self, path: Path) -> ChatSummary | None:
        try:
            stat = path.stat()
        except OSError:  # deleted meanwhile
            return None
        stamp = (stat.st_mtime_ns, stat.st_size)
        known = self._summaries.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        chat = _read(path)
        if chat is None:
            return None
        self._summaries[path] = (stamp, _summary_of(chat))
        return self._summaries[path][1]

    def _write(self, chat: SavedChat) -> None:
        path = self._path(chat.id)
        record = {
            "format": FORMAT,
            "id": chat.id,
            "created": chat.created,
            "changed": chat.changed,
            **_CONTENT.dump_python(chat.content, mode="json"),
        }
        text = json.dumps(record, ensure_ascii=False)
        if len(text.encode()) > MAX_BYTES:
            what = f"The chat has {len(text.encode()) / MIB:.1f} MiB; a saved one has at most 1."
            raise ConfigError(Problem("chat", what, "Start a new chat."))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        write_text(path, text + "\n")


def _checked(content: ChatContent | Mapping[str, Any]) -> ChatContent:
    """Return the content with a name; raises ConfigError with every problem."""
    data = content if isinstance(content, Mapping) else _CONTENT.dump_python(content, mode="json")
    try:
        made = _CONTENT.validate_python(encodable(dict(data)))
    except ValidationError as error:
        raise ConfigError(
            [
                Problem(".".join(map(str, item["loc"])) or "chat", f"{item['msg']}.", "")
                for item in error.errors()[:20]
            ]
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        what = "The chat cannot be stored as JSON."
        raise ConfigError(Problem("chat", what, "Send plain data.")) from error
    name = " ".join(made.name.split()) or _name_of(made)
    return replace(made, name=name[:MAX_NAME])


def _name_of(content: ChatContent) -> str:
    asked = next((turn.asked for turn in content.turns if turn.role == "user"), "")
    words = " ".join(asked.split())
    shown = words[:NAME_FROM_QUESTION].rstrip()
    return (shown if shown == words else f"{shown}…") or "New chat"


def _is_chat(path: Path) -> bool:
    return path.suffix == ".json" and bool(_ID.fullmatch(path.stem))


def _read(path: Path) -> SavedChat | None:
    try:
        data = json.loads(read_regular(path, 2 * MAX_BYTES))
        data.pop("format", None)
        chat_id, created, changed = (data.pop(key) for key in ("id", "created", "changed"))
        content = _CONTENT.validate_python(data)
        return _chat(content, path.stem, float(created), float(changed)) if chat_id else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _summary_of(chat: SavedChat) -> ChatSummary:
    votes = sum(turn.vote is not None for turn in chat.turns)
    turns = len(chat.turns)
    return ChatSummary(chat.id, chat.name, chat.created, chat.changed, chat.sides, turns, votes)


def _chat(content: ChatContent, chat_id: str, created: float, changed: float) -> SavedChat:
    return SavedChat(**vars(content), id=chat_id, created=created, changed=changed)
