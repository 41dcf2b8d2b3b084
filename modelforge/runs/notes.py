"""The user's name, tags and note of a run, in about.json."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from modelforge.config.schema.base import about
from modelforge.errors import ConfigError, Problem
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder

FORMAT = 1
LONGEST_NAME, LONGEST_TAG, LONGEST_NOTE = 120, 32, 4000
MOST_TAGS = 12
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Notes:
    """Name, tags and note of a run."""

    name: Annotated[str, about("Empty if the run has its original name.")] = ""
    tags: tuple[str, ...] = ()
    note: str = ""


def read_notes(folder: RunFolder) -> Notes:
    """Return the notes of a run; invalid values are ignored and long ones truncated."""
    record = find_json(folder.about) or {}
    name, note, tags = record.get("name"), record.get("note"), record.get("tags")
    tags = tags[:MOST_TAGS] if isinstance(tags, list) else []
    return Notes(
        name[:LONGEST_NAME] if isinstance(name, str) else "",
        tuple(tag[:LONGEST_TAG] for tag in tags if isinstance(tag, str)),
        note[:LONGEST_NOTE] if isinstance(note, str) else "",
    )


def run_name(folder: RunFolder) -> str:
    """Return the name of a run: the user's, else the original one, else its id."""
    original = (find_json(folder.config) or {}).get("name")
    return read_notes(folder).name or (original if isinstance(original, str) else folder.id)


def short_model_name(name: str) -> str:
    """Return the last part of a path or Hub id; of the result of a run, the name of the run."""
    plain = name.replace("\\", "/").rstrip("/")
    folder, _, last = plain.rpartition("/")
    run = RunFolder(Path(folder))
    if folder and last == run.output.name and find_json(run.config) is not None:
        return run_name(run)
    return last


def write_notes(folder: RunFolder, notes: Notes) -> None:
    """Write the file atomically."""
    record = {"format": FORMAT, "name": notes.name, "tags": list(notes.tags), "note": notes.note}
    write_json(folder.about, record)


def updated_notes(
    notes: Notes,
    *,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    note: str | None = None,
) -> Notes:
    """Return the notes with new, normalized values; None leaves a part as it is.

    Raises ConfigError with all values that exceed a limit.
    """
    problems: list[Problem] = []
    updated = replace(
        notes,
        name=notes.name if name is None else _line(name),
        tags=notes.tags if tags is None else _normalized(tags),
        note=notes.note if note is None else _CONTROL.sub("", note).strip(),
    )
    for where, text, limit in (
        ("name", updated.name, LONGEST_NAME),
        ("note", updated.note, LONGEST_NOTE),
        *(("tags", tag, LONGEST_TAG) for tag in updated.tags),
    ):
        if len(text) > limit:
            what = f"{text[:20]!r}… has {len(text):,} characters."
            problems.append(Problem(where, what, f"Use at most {limit:,}."))
    if len(updated.tags) > MOST_TAGS:
        what = f"There are {len(updated.tags)} tags."
        problems.append(Problem("tags", what, f"Use at most {MOST_TAGS}."))
    if problems:
        raise ConfigError(problems)
    return updated


def _normalized(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags in lower case, without duplicates, in the given order."""
    normalized = (_line(tag).strip("#,").strip().lower() for tag in tags)
    return tuple(dict.fromkeys(tag for tag in normalized if tag))


def _line(text: str) -> str:
    return " ".join(_CONTROL.sub(" ", text).split())
