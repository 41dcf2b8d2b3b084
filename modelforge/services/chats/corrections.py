"""Corrected answers: each becomes a row of a data file, and a test of later runs."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from modelforge.config.schema.base import about
from modelforge.data.canonical.convert import SUMMARIZE_PROMPT
from modelforge.data.canonical.messages import Message, UnusableRowError
from modelforge.data.canonical.qa import to_answers
from modelforge.data.tool_calls import read_tool_calls
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.paths import Home, read_regular
from modelforge.runs.atomic_files import disk_error, write_text
from modelforge.runs.feedback.corrections import (
    MAX_BYTES,
    Correction,
    CorrectionKind,
    read_corrections,
    write_corrections,
)
from modelforge.services.chats.requests import (
    MAX_CHARACTERS,
    MAX_MESSAGES,
    MAX_MODEL,
    MAX_TOOLS,
    encodable,
    read_messages,
    read_tools,
)

MAX_CORRECTIONS = 5000
# The data file of each kind of rows, which have different columns.
FILES: dict[CorrectionKind, str] = {
    "conversation": "corrections",
    "passage": "corrections-passages",
    "document": "corrections-summaries",
}
SUFFIX = ".jsonl"


@dataclass(frozen=True)
class CorrectionRequest:
    """A corrected answer: the conversation up to the question, and the right answer."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: Annotated[
        str, Field(max_length=MAX_MODEL, description="Id of the run, or name of a base model.")
    ]
    messages: Annotated[
        tuple[dict[str, Any], ...],
        Field(max_length=MAX_MESSAGES, description="The last message is the question."),
    ]
    correction: Annotated[
        str, Field(max_length=MAX_CHARACTERS, description="What it should have answered.")
    ]
    answer: Annotated[
        str, Field(max_length=MAX_CHARACTERS, description="What it has answered.")
    ] = ""
    tools: Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_TOOLS)] = ()


@dataclass(frozen=True)
class Taught:
    """A correction that was stored."""

    id: str
    dataset: Annotated[str, about("The data file: a value of the setting `dataset`.")]
    row: Annotated[int, about("The number of its row there, from 1.")]
    tests: Annotated[int, about("Corrections on which later runs are tested.")]
    replaced: Annotated[bool, about("Whether it replaces one of the same question.")]


@dataclass(frozen=True)
class NextRow:
    """Where the next correction of a model goes."""

    dataset: str
    row: Annotated[int, about("The number of its row, from 1.")]


class CorrectionService:
    """The corrections of a home. Thread-safe. `kind_of` tells how a model is asked."""

    def __init__(self, home: Home, kind_of: Callable[[str], tuple[str, CorrectionKind]]) -> None:
        self._home = home
        self._kind_of = kind_of
        self._lock = threading.Lock()

    def list(self) -> list[Correction]:
        """Return all corrections, the newest first."""
        return read_corrections(self._home.corrections)[::-1]

    def next_row(self, model: str) -> NextRow:
        """Return where a correction of this model would go."""
        _name, kind = self._kind_of(model)
        file = self._file(kind, read_corrections(self._home.corrections))
        return NextRow(file.name, len(_lines(file)) + 1)

    def teach(self, request: CorrectionRequest) -> Taught:
        """Store a correction as a row and as a test; one of the same question is replaced.

        Raises ConfigError for an unusable one, NotFoundError for an unknown model.
        """
        name, kind = self._kind_of(request.model)
        request = replace(request, **encodable(vars(request)))
        messages, tools = _checked(request)
        correction = request.correction.strip()
        with self._lock:
            known = read_corrections(self._home.corrections)
            file = self._file(kind, known)
            new = Correction(
                id=secrets.token_hex(6),
                created=time.time(),
                run=request.model,
                run_name=name,
                kind=kind,
                messages=tuple(messages),
                tools=tuple(tools),
                answer=request.answer,
                correction=correction,
                dataset=file.name,
                row=_ROWS[kind](messages, tools, correction),
            )
            old = next((each for each in known if each.asks_same(new)), None)
            kept = [each for each in known if each is not old]
            if len(kept) >= MAX_CORRECTIONS:
                what = f"There are {MAX_CORRECTIONS:,} corrections, as many as are kept."
                raise ConfigError(Problem("correction", what, "Delete some of them first."))
            row = self._put_row(file, new.row, old.row if old else None)
            write_corrections(self._home.corrections, [*kept, new])
        return Taught(new.id, file.name, row, len(kept) + 1, old is not None)

    def delete(self, correction_id: str) -> None:
        """Delete a correction and its row; raises NotFoundError."""
        with self._lock:
            known = read_corrections(self._home.corrections)
            gone = next((each for each in known if each.id == correction_id), None)
            if gone is None:
                what = f"There is no correction {correction_id[:40]!r}."
                raise NotFoundError(Problem("correction", what, "Reload the list."))
            file = self._home.uploads / gone.dataset
            lines = _lines(file)
            line = _line(gone.row)
            if line in lines:
                lines.remove(line)
                self._write(file, lines)
            write_corrections(self._home.corrections, [one for one in known if one is not gone])

    def _file(self, kind: CorrectionKind, known: Sequence[Correction]) -> Path:
        """Return the data file of a kind; another one than a file of the user of that name."""
        for correction in reversed(known):
            file = self._home.uploads / correction.dataset
            if correction.kind == kind and file.is_file():
                return file
        number, file = 1, self._home.uploads / f"{FILES[kind]}{SUFFIX}"
        while file.exists():
            number += 1
            file = self._home.uploads / f"{FILES[kind]}-{number}{SUFFIX}"
        return file

    def _put_row(self, file: Path, row: dict[str, Any], old: dict[str, Any] | None) -> int:
        """Add a row, in place of the old one where it still is; return its number, from 1."""
        lines = _lines(file)
        old_line = _line(old) if old else ""
        index = lines.index(old_line) if old_line in lines else len(lines)
        lines[index : index + 1] = [_line(row)]
        self._write(file, lines)
        return index + 1

    def _write(self, file: Path, lines: Sequence[str]) -> None:
        """Write the rows; without any, the file is deleted."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not lines:
                file.unlink(missing_ok=True)
                return
        except OSError as error:
            raise disk_error(error, file) from error
        write_text(file, "".join(f"{line}\n" for line in lines))


def _checked(request: CorrectionRequest) -> tuple[list[Message], list[dict[str, Any]]]:
    """Return messages and tools in one spelling; raises ConfigError with every problem."""
    messages, wrong_messages = read_messages(request.messages, "messages")
    tools, wrong_tools = read_tools(request.tools)
    problems = [each for each in (wrong_messages, wrong_tools) if each is not None]
    if not request.correction.strip():
        what = "The corrected answer is empty."
        problems.append(Problem("correction", what, "Write what the model should answer."))
    if len(request.correction) > MAX_CHARACTERS:
        limit = f"Write at most {MAX_CHARACTERS:,} characters."
        problems.append(Problem("correction", "The corrected answer is too long.", limit))
    if problems:
        raise ConfigError(problems)
    return messages, tools


def _conversation(messages: list[Message], tools: list[Any], correction: str) -> dict[str, Any]:
    """Return a row with a conversation, of which the corrected answer alone is trained on."""
    earlier = [{**each, "weight": 0} if each["role"] == "assistant" else each for each in messages]
    calls = read_tool_calls(correction) if tools else []
    answer: Message = {"role": "assistant", "content": correction}
    if calls and all(isinstance(call["arguments"], dict) for call in calls):
        functions = [{"type": "function", "function": call} for call in calls]
        answer = {"role": "assistant", "content": "", "tool_calls": functions}
    row: dict[str, Any] = {"messages": [*earlier, answer]}
    return {**row, "tools": tools} if tools else row


def _passage(messages: list[Message], _tools: list[Any], correction: str) -> dict[str, Any]:
    """Return a row with a passage, a question and the answer, which is a part of the passage."""
    contexts = [each["content"] for each in messages if each["role"] == "system"]
    if not contexts:
        what = "There is no passage."
        raise ConfigError(Problem("messages", what, "Send it as the system message."))
    try:
        answers = to_answers({"text": [correction], "answer_start": []}, contexts[0])
    except UnusableRowError as error:
        what = "The corrected answer is not a part of the passage."
        remedy = "Copy it from the passage, letter by letter."
        raise ConfigError(Problem("correction", what, remedy)) from error
    starts = [answer["start"] for answer in answers]
    texts = [answer["text"] for answer in answers]
    question = messages[-1]["content"]
    answer = {"text": texts, "answer_start": starts}
    return {"context": contexts[0], "question": question, "answers": answer}


def _document(messages: list[Message], _tools: list[Any], correction: str) -> dict[str, Any]:
    text = messages[-1]["content"].removeprefix(SUMMARIZE_PROMPT).strip()
    return {"document": text, "summary": correction}


_ROWS: dict[CorrectionKind, Callable[[list[Message], list[Any], str], dict[str, Any]]] = {
    "conversation": _conversation,
    "passage": _passage,
    "document": _document,
}


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _lines(file: Path) -> list[str]:
    """Return the rows of a data file; none of a missing one."""
    try:
        text = read_regular(file, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        what = f"{file.name} cannot be read."
        raise ConfigError(Problem("correction", what, "Rename it or delete it.")) from error
    return [line for line in text.split("\n") if line.strip()]
