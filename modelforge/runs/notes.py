"""What people say of a run: a name of their own, tags and a note, in one small file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from modelforge.errors import ConfigError, Problem
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder

FORMAT = 1
LONGEST_NAME, LONGEST_TAG, LONGEST_NOTE = 120, 32, 4000
MOST_TAGS = 12
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Notes:
    """The name that stands in place of the first one (empty: none), tags in order, and a note."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""


def read_notes(folder: RunFolder) -> Notes:
    """Return what was said of a run; what cannot be read or is out of bounds counts as unsaid."""
    said = find_json(folder.about)
    if not said:
        return Notes()
    name, note, tags = said.get("name"), said.get("note"), said.get("tags")
    return Notes(
        name[:LONGEST_NAME] if isinstance(name, str) else "",
        tuple(tag[:LONGEST_TAG] for tag in tags[:MOST_TAGS] if isinstance(tag, str))
        if isinstance(tags, list)
        else (),
        note[:LONGEST_NOTE] if isinstance(note, str) else "",
    )


def write_notes(folder: RunFolder, notes: Notes) -> None:
    """Write the file in one step."""
    said = {"format": FORMAT, "name": notes.name, "tags": list(notes.tags), "note": notes.note}
    write_json(folder.about, said)


def updated_notes(
    notes: Notes,
    *,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    note: str | None = None,
) -> Notes:
    """Return the notes with what was given (None leaves a part alone), tidied.

    Raises ConfigError with everything that is too long or too many.
    """
    problems: list[Problem] = []
    fresh = replace(
        notes,
        name=notes.name if name is None else _line(name),
        tags=notes.tags if tags is None else _tidy(tags),
        note=notes.note if note is None else _CONTROL.sub("", note).strip(),
    )
    for where, text, most in (
        ("name", fresh.name, LONGEST_NAME),
        ("note", fresh.note, LONGEST_NOTE),
        *(("tags", tag, LONGEST_TAG) for tag in fresh.tags),
    ):
        if len(text) > most:
            what = f"{text[:20]!r}… has {len(text):,} characters."
            problems.append(Problem(where, what, f"Use {most:,} at most."))
    if len(fresh.tags) > MOST_TAGS:
        what = f"There are {len(fresh.tags)} of them."
        problems.append(Problem("tags", what, f"A run has {MOST_TAGS} at most."))
    if problems:
        raise ConfigError(problems)
    return fresh


def _tidy(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags in small letters, each once, in the order they were given."""
    tidied = (_line(tag).strip("#,").strip().lower() for tag in tags)
    return tuple(dict.fromkeys(tag for tag in tidied if tag))


def _line(text: str) -> str:
    return " ".join(_CONTROL.sub(" ", text).split())
