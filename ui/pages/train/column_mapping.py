"""The columns of a source: its rows as they are in the file, with the role of each column above."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.config.fields import source_specs
from modelforge.config.rules.data import SETTINGS_OF_TYPE, TYPE_OF_COLUMN
from modelforge.config.schema.data import Source
from modelforge.data.checks.file import describe_format, offered_choices
from modelforge.data.columns.detect import SAMPLE_ROWS, detect_mapping
from modelforge.data.columns.joined import join_options
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.columns.unused import meaningful_unused_columns
from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.options import READ_SETTINGS, ReadOptions
from modelforge.data.formats.read import read_file_rows
from modelforge.data.formats.sniff import sniff_file
from modelforge.data.sources.load import truncate
from modelforge.data.sources.locate import find_source_files
from modelforge.errors import ForgeError
from modelforge.paths import Home
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render

TYPES = {
    "auto": "detect from the columns",
    "text": "plain text",
    "instruction": "a question and its answer",
    "conversation": "a conversation",
    "preference": "a chosen and a rejected answer",
}
# The roles that a column can be given: the setting of the source, and its label.
ROLES = {
    "A question and its answer": {
        "instruction_field": "Question",
        "input_field": "Input",
        "output_field": "Answer",
    },
    "A conversation": {"messages_field": "Conversation"},
    "A chosen and a rejected answer": {
        "prompt_field": "Prompt",
        "chosen_field": "Chosen answer",
        "rejected_field": "Rejected answer",
    },
    "Plain text": {"text_field": "Text"},
    "Beside it": {
        "system_prompt_field": "System prompt",
        "tools_field": "Tools",
        "id_field": "Id",
        "parent_field": "Id of the row before",
    },
}
# Roles of columns that rows are joined by; messages that are joined no longer have them.
ROLES_OF_IDS = ("id_field", "parent_field")
# A recipe may name the column of the system prompt with another setting.
SYSTEM_FIELD, SYSTEM_ROLE = "system_field", "system_prompt_field"
LABELS = {
    SYSTEM_FIELD: "System prompt",
    **{name: label for roles in ROLES.values() for name, label in roles.items()},
}
# Roles of lists and objects; all others are roles of texts.
ROLES_OF_LISTS = frozenset({"messages_field", "tools_field"})
# Roles offered while nothing is known of the rows.
FIRST_ROLES = ("instruction_field", "output_field", "text_field", "messages_field")
# The type of a source that reads rows of a kind; other kinds are only detected.
TYPE_OF_KIND = {
    "text": "text",
    "pair": "instruction",
    "instruction": "instruction",
    "messages": "conversation",
    "preference": "preference",
}
SETTING_OF_PART = {
    "prompt": "instruction_field",
    "instruction": "instruction_field",
    "input": "input_field",
    "answer": "output_field",
    "messages": "messages_field",
    "chosen": "chosen_field",
    "rejected": "rejected_field",
    "text": "text_field",
    "system": SYSTEM_ROLE,
    "tools": "tools_field",
}
# Parts that can be detected and have no setting.
DETECTED = {
    "document": "Text to summarize",
    "summary": "Summary",
    "context": "Context",
    "question": "Question",
    "answers": "Answer",
    "prompt": "Question",
    "completion": "Answer",
    "label": "Good or bad",
    "segments": "Text in segments",
    "history": "Earlier messages",
    "system": "System prompt",
    "tools": "Tools",
}
# What messages call a setting of a source on this page.
_WORDS = LABELS | {"unused_columns": "not used"}
_SETTING = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b")
# Key of a message → its label and help.
MESSAGE_KEYS = {
    "role": ("Role of a message", "The key of who speaks, such as from."),
    "content": ("Content of a message", "The key of the text, such as value."),
}
# Fields that say where a source is and how much of it is used.
LOCATION = frozenset({"path", "subset", "split", "samples", "weight"})
MORE = (
    *("sheet", "chat_person", "chat_pause", "chat_mask", "encoding", "weight", "samples"),
    *("system_prompt_type", "system_prompt_field"),
    *("system_prompt", "prompt_format", "prompt_format_no_input"),
)
# Settings that are shown only for such files, by the description of how a file is written.
_ONLY_FOR = {"sheet": "Excel"} | dict.fromkeys(
    ("chat_person", "chat_pause", "chat_mask"), " export"
)
SYSTEM_PROMPTS = {
    "none": "as in the rows",
    "field": "from a column",
    "fixed": "the same for all rows",
}
# What is asked while nothing can be read without an answer.
ASKED = {"chat_person": "Who shall the model be?", "sheet": "Which sheet?"}
ROWS_SHOWN = 4
MAX_COLUMNS_SHOWN = 60
MAX_CELL_CHARS = 160
MAX_COLUMNS_WITH_BUTTONS = 3


@dataclass(frozen=True)
class FileColumns:
    """The columns of a file and what is known of them.

    Attributes:
        keys: The keys of the objects inside its lists.
        rows: Its first rows, as text by column.
        mapping: How the rows are read; None if that cannot be detected.
        written: How the file is written, such as "CSV, separated by semicolons".
        file: The name of the file.
        overlooked: The unused columns that may belong to the question or the answer.
        choices: The persons of a chat export, or the sheets of a workbook, by their setting.
    """

    columns: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    mapping: ColumnMapping | None = None
    written: str = ""
    file: str = ""
    overlooked: list[str] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)


def read_columns(home: Home, stated: Mapping[str, Any]) -> FileColumns:
    """Return the columns of the first file of a source, from its first rows.

    Errors are left to the check of the source: what was read before them is shown. The result is
    kept until the file changes: rows of a megabyte take seconds.
    """
    texts = _texts(stated)
    if not texts.get("path", "").strip():
        return FileColumns()
    location: dict[str, Any] = {name: texts.get(name) for name in ("path", "subset", "split")}
    try:
        # Only the location matters here, so the other fields are not validated.
        path = find_source_files(Source.model_construct(**location), home)[0]
        stat = path.stat()
        written = json.dumps(dict(stated))
    except (ForgeError, OSError, TypeError, ValueError):
        return FileColumns()
    return _read_file(path, (stat.st_mtime_ns, stat.st_size), written)


def _as_read(stated: Mapping[str, Any]) -> Source:
    """Return the source; while it is not valid, with the settings of its files that are."""
    readable = {name: stated[name] for name in READ_SETTINGS if name in stated}
    for given in (stated, readable, {"encoding": _texts(stated).get("encoding")}):
        with suppress(ValueError):
            return Source.model_validate({"path": "-", **given})
    return Source(path="-")


def _texts(stated: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in stated.items() if isinstance(value, str)}


@lru_cache(maxsize=32)
def _read_file(path: Path, _stamp: tuple[int, int], settings: str) -> FileColumns:
    """Return the columns of a file; `settings` are those of its source, as JSON."""
    first: list[dict[str, Any]] = []
    mapping, written, name, overlooked = None, "", path.name, []
    choices: dict[str, list[str]] = {}
    stated = json.loads(settings)
    try:
        source = _as_read(stated)
        file = sniff_file(path, ReadOptions.of(source), join_options(source))
        written = describe_format(file)
        choices = offered_choices(file)
        for row in islice(read_file_rows(file, _ignore), SAMPLE_ROWS):
            first.append(row.data)
        mapping = detect_mapping(first, name, Source.model_validate(stated))
        overlooked = meaningful_unused_columns(first, mapping)
    except (ForgeError, ValueError):
        pass
    columns = list(dict.fromkeys(str(name) for row in first for name in row))
    lists = [value for row in first for value in row.values() if isinstance(value, list)]
    items = [item for value in lists for item in value[:SAMPLE_ROWS] if isinstance(item, dict)]
    keys = list(dict.fromkeys(str(key) for item in items for key in item))
    rows = [{str(name): _cell(value) for name, value in row.items()} for row in first[:ROWS_SHOWN]]
    return FileColumns(columns, keys, rows, mapping, written, name, overlooked, choices)


def _ignore(_error: ReadError) -> None:
    """Skip a row that cannot be read: the data checks report it."""


def _cell(value: Any) -> str:
    shown = truncate(value)
    text = json.dumps(shown, ensure_ascii=False) if isinstance(shown, list | dict) else str(shown)
    return text[:MAX_CELL_CHARS] if value is not None else ""


def roles(source: Mapping[str, Any], found: FileColumns) -> dict[str, str]:
    """Return the role of every column that has one: a setting, or a label that was detected."""
    given = {
        str(source[name]): SYSTEM_ROLE if name == SYSTEM_FIELD else name
        for name in LABELS
        if source.get(name)
    }
    if found.mapping is None:
        return given
    settings = SETTINGS_OF_TYPE.get(TYPE_OF_KIND.get(found.mapping.kind, ""), ())
    shown: dict[str, str] = {}
    for part, column in found.mapping.fields.items():
        name = SETTING_OF_PART.get(part, "")
        if part == "prompt" and found.mapping.kind == "preference":
            name = "prompt_field"
        shown[column] = name if name in settings else f"detected:{DETECTED.get(part, part)}"
    return {**shown, **given}


def row_type(source: Mapping[str, Any], found: FileColumns) -> str:
    """Return the type of a source that is set or detected; empty if it has none."""
    stated = str(source.get("type") or "auto")
    if stated != "auto":
        return stated
    if found.mapping is not None:
        return TYPE_OF_KIND.get(found.mapping.kind, "")
    return next((TYPE_OF_COLUMN[name] for name in TYPE_OF_COLUMN if source.get(name)), "auto")


def fitting_roles(source: Mapping[str, Any], found: FileColumns) -> dict[str, dict[str, str]]:
    """Return the roles that are free for each unused column: the label by setting."""
    kind, role_of = row_type(source, found), roles(source, found)
    names = FIRST_ROLES if kind == "auto" else SETTINGS_OF_TYPE.get(kind, ())
    taken = {*role_of.values(), SYSTEM_FIELD, *ROLES_OF_IDS}
    if str(source.get("system_prompt_type") or "none") != "none":
        taken.add(SYSTEM_ROLE)
    free = [name for name in LABELS if name in names and name not in taken]
    offered = {}
    for column in found.columns:
        is_list = any(row.get(column, "").startswith(("[", "{")) for row in found.rows)
        fitting = {name: LABELS[name] for name in free if (name in ROLES_OF_LISTS) == is_list}
        if fitting and column not in role_of:
            offered[column] = fitting
    return offered


def role_buttons(place: int, source: Mapping[str, Any], found: FileColumns) -> Markup:
    """Return a button for each role that an overlooked column can take: note as Input."""
    offered = fitting_roles(source, found)
    listed = [name for name in found.overlooked if name in offered][:MAX_COLUMNS_WITH_BUTTONS]
    buttons = [
        render("form", "give_role", place, name, offered[name], f"check-{place}-{n}", f"{name} as ")
        for n, name in enumerate(listed)
    ]
    return el("span.give", buttons) if buttons else EMPTY


def reading(sources: Sequence[Mapping[str, Any]], reason: str) -> Markup:
    """Return how the rows are read, who chose it, and a button to undo it.

    Args:
        sources: The sources set by the user; empty if everything was detected.
        reason: The sentence that describes the reading.
    """
    is_mine = any(set(source) - LOCATION for source in sources)
    return render("form", "reading", reason, is_mine)


def editor(sources: Sequence[Mapping[str, Any]], columns: Sequence[FileColumns]) -> Markup:
    """Return every source: its rows with the role of each column, and how it is read."""
    has_several = len(sources) > 1
    return join(
        [
            _source(place, source, found, has_several=has_several)
            for place, (source, found) in enumerate(zip(sources, columns, strict=True))
        ]
    )


def _source(
    place: int, source: Mapping[str, Any], found: FileColumns, *, has_several: bool
) -> Markup:
    kind = str(source.get("type") or "auto")
    boxes = []
    if kind == "conversation" or (found.mapping and found.mapping.kind == "messages"):
        keys = source.get("message_property_mappings") or {}
        for name, (label, text) in MESSAGE_KEYS.items():
            value = str(keys.get(name, ""))
            boxes.append(_select(place, f"in:{name}", label, text, value, _options(found.keys)))
    legend = fmt.file_name(source.get("path", "")) if has_several else ""
    text = source_specs()["type"].help
    more = [_select(place, "type", "Each row is", text, kind, list(TYPES.items()))]
    shown = [name for name in MORE if source.get(name) or _ONLY_FOR.get(name, "") in found.written]
    more += [_field(place, name, source, found) for name in shown]
    is_open = any(source.get(name) not in (None, "", "none") for name in MORE)
    is_open = is_open or any(len(values) > 1 for values in found.choices.values())
    asked = [] if found.columns else [(n, ASKED[n], found.choices[n]) for n in found.choices]
    table = _table(place, source, found) if found.columns else render("form", "asked", place, asked)
    return render("form", "source", place, legend, table, found.written, boxes, more, is_open)


def _table(place: int, source: Mapping[str, Any], found: FileColumns) -> Markup:
    """Return the first rows as they are in the file, below the role of each column."""
    role_of = roles(source, found)
    used = [column for column in found.columns if column in role_of]
    shown = found.columns[:MAX_COLUMNS_SHOWN]
    shown += [column for column in used if column not in shown]
    heads = [(column, role_of.get(column, "")) for column in shown]
    missing = [
        f"{column} ({LABELS[name]})"
        for column, name in role_of.items()
        if column not in found.columns and name in LABELS and name not in ROLES_OF_IDS
    ]
    hidden = len(found.columns) - len(shown)
    stated = source.get("unused_columns")
    unused = stated if isinstance(stated, list) else ()
    kind, types, offered = row_type(source, found), _types_of(), fitting_roles(source, found)
    excluded = [name for name in ROLES["Beside it"] if kind not in ("auto", *types[name].split())]
    options = (ROLES, types, unused, excluded, offered, found.overlooked)
    return render("form", "roles", place, heads, found.rows, *options, missing, hidden)


def _types_of() -> dict[str, str]:
    """Return the types of a source that have each role."""
    return {
        name: " ".join(kind for kind, names in SETTINGS_OF_TYPE.items() if name in names)
        for name in LABELS
    }


def with_labels(text: str) -> str:
    """Return a message with the roles of this page in place of the settings of a source."""
    return _SETTING.sub(lambda found: _WORDS[found[0]], text)


def _field(place: int, name: str, source: Mapping[str, Any], found: FileColumns) -> Markup:
    spec, value = source_specs()[name], str(source.get(name) or "")
    if name == "system_prompt_type":
        options = list(SYSTEM_PROMPTS.items())
        return _select(place, name, spec.label, spec.help, value or "none", options)
    if name.endswith("_field"):
        return _select(place, name, spec.label, spec.help, value, _options(found.columns))
    if name in found.choices:
        return _select(place, name, spec.label, spec.help, value, _options(found.choices[name]))
    if spec.kind == "bool":
        options = [("", "no"), ("true", "yes")]
        return _select(place, name, spec.label, spec.help, value.lower(), options)
    return render("form", "source_text", place, name, spec, value)


def _options(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("", "not set"), *((name, name) for name in names)]


def _select(
    place: int, name: str, label: str, text: str, value: str, options: Sequence[tuple[str, str]]
) -> Markup:
    shown = list(options)
    if value not in dict(options):
        shown.append((value, f"{value} (not in the file)"))
    return render("form", "source_select", place, name, label, text, value, shown)
