"""Data sets of LLaMA-Factory: names, whose files and columns are in its `dataset_info.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.config.importers.foreign_file import read_text
from modelforge.config.importers.options import Option, Values, by
from modelforge.config.importers.report import Outcome, Result
from modelforge.config.recipe import read_recipe_file

INFO = "dataset_info.json"
ELSEWHERE = ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
# Columns of its formats, and the settings of a data source; with `ranking`, those of preferences.
INSTRUCTIONS = {"prompt": "instruction_field", "query": "input_field", "response": "output_field"}
CONVERSATIONS = {"messages": "messages_field", "system": "system_field", "tools": "tools_field"}
PREFERENCES = {
    "prompt": "prompt_field",
    "messages": "prompt_field",
    "chosen": "chosen_field",
    "rejected": "rejected_field",
}
TEXTS = {"prompt": "text_field"}
COLUMNS = {
    "preference": PREFERENCES,
    "text": TEXTS,
    "conversation": CONVERSATIONS,
    "instruction": INSTRUCTIONS,
}
OTHER_COLUMNS = {
    "history": "Earlier rounds in a column of their own are not read.",
    "kto_tag": "Rows with one answer and a mark come with a later version.",
    "images": "Images are not trained here.",
    "videos": "Videos are not trained here.",
    "audios": "Sound is not trained here.",
}
TAGS = {"role_tag": "role", "content_tag": "content"}
PLACES = {"split": "split", "subset": "subset", "num_samples": "samples"}

Line = tuple[str, Any, Outcome]


@dataclass(frozen=True)
class DatasetInfo:
    """The content of a `dataset_info.json` and the folder of it."""

    folder: Path
    entries: Mapping[str, Any]


def read_dataset_info(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the `dataset_info.json` beside a file, or in its `dataset_dir`; empty without one.

    Raises ConfigError if it cannot be read.
    """
    for place in (folder, folder / str(values.get("dataset_dir") or "data")):
        if (place / INFO).is_file():
            entries = read_text(read_recipe_file(place / INFO), INFO).values
            return {INFO: DatasetInfo(place, entries)}
    return {}


def parse_dataset_info(text: str) -> DatasetInfo:
    """Return the content of a `dataset_info.json` whose folder is unknown; raises ConfigError.

    Its files are named as they are there.
    """
    return DatasetInfo(Path(), read_text(text, INFO).values)


def datasets(setting: str) -> Option:
    """Return the option `dataset` or `eval_dataset`."""

    def read(value: Any, values: Values) -> Outcome:
        names = value.split(",") if isinstance(value, str) else list(value)
        names = [str(name).strip() for name in names if str(name).strip()]
        if not names:
            return Outcome("no-effect", why="It names no data.")
        sources, lines = [], []
        for at, name in enumerate(names):
            source, outcome = _source(name, values)
            sources.append(_sampled(source, values))
            lines.append((f"[{at}]", name, outcome))
        settings: dict[str, Any] = {setting: sources}
        if setting == "data.sources":
            settings["dataset"] = sources[0]["path"]
        return Outcome("converted", settings, "Each name is a data source.", tuple(lines))

    return by(read, kind="names")


def _sampled(source: dict[str, Any], values: Values) -> dict[str, Any]:
    rows = values.get("max_samples")
    if not isinstance(rows, int):
        return source
    return source | {"samples": min(rows, source.get("samples", rows))}


def _source(name: str, values: Values) -> tuple[dict[str, Any], Outcome]:
    """Return the data source of a name, and what became of it."""
    info = values.get(INFO)
    if info is None:
        why = f"Its file is named in {INFO}, which is not available. Enter its path."
        return {"path": name}, Outcome("refused", {"data.sources.path": name}, why)
    entry = info.entries.get(name)
    if not isinstance(entry, Mapping):
        why = f"{INFO} has no data set of this name. Enter the path of its file."
        return {"path": name}, Outcome("refused", {"data.sources.path": name}, why)
    path = _path(entry, info.folder)
    if not path:
        why = "It is not a file and not on the Hub. Download it, and enter its path."
        return {"path": name}, Outcome("refused", {"data.sources.path": name}, why)
    lines = tuple(_entry_lines(entry, _kind(entry, values)))
    source: dict[str, Any] = {"path": path}
    for _, _, outcome in lines:
        for setting, value in outcome.settings.items():
            field = setting.rpartition(".")[2]
            known = source.get(field)
            source[field] = known | value if isinstance(known, dict) else value
    why = f"Its path and columns are in {INFO}."
    return source, Outcome("converted", {"data.sources.path": path}, why, lines)


def _path(entry: Mapping[str, Any], folder: Path) -> str:
    if url := entry.get("hf_hub_url"):
        return str(url)
    name = entry.get("file_name")
    return str(folder / str(name)) if name else ""


def _kind(entry: Mapping[str, Any], values: Values) -> str:
    if entry.get("ranking"):
        return "preference"
    if entry.get("formatting", "alpaca") != "alpaca":
        return "conversation"
    return "text" if values.get("stage") == "pt" else "instruction"


def _entry_lines(entry: Mapping[str, Any], kind: str) -> Iterator[Line]:
    for name, value in entry.items():
        if name == "columns" and isinstance(value, Mapping):
            yield from (
                (f".columns.{column}", header, _column(column, header, kind))
                for column, header in value.items()
            )
        elif name == "tags" and isinstance(value, Mapping):
            yield from ((f".tags.{tag}", word, _tag(tag, word)) for tag, word in value.items())
        else:
            yield f".{name}", value, _entry_option(name, value, kind)


def _entry_option(name: str, value: Any, kind: str) -> Outcome:
    if name in ("file_name", "hf_hub_url"):
        return Outcome("renamed", why="It is the path.")
    if name in PLACES:
        ours = PLACES[name]
        result: Result = "taken" if ours == name else "renamed"
        return Outcome(result, {f"data.sources.{ours}": value})
    if name in ("formatting", "ranking"):
        return Outcome("converted", {"data.sources.type": kind}, "The kind of its rows.")
    if name in ELSEWHERE:
        return Outcome("no-effect", why="Files and the Hub of Hugging Face are read.")
    return Outcome("refused", why="Data sources have no such option here.")


def _column(column: str, header: Any, kind: str) -> Outcome:
    if column in OTHER_COLUMNS:
        return Outcome("refused", why=OTHER_COLUMNS[column])
    if column == "system" and kind == "instruction":
        settings = {
            "data.sources.system_prompt_type": "field",
            "data.sources.system_prompt_field": header,
        }
        return Outcome("converted", settings, "A column with the system prompt.")
    if column not in COLUMNS[kind]:
        return Outcome("refused", why=f"It is not a column of {kind} rows here.")
    return Outcome("renamed", {f"data.sources.{COLUMNS[kind][column]}": header})


def _tag(tag: str, word: Any) -> Outcome:
    if tag not in TAGS:
        return Outcome("no-effect", why="Roles are recognised by their words.")
    settings = {"data.sources.message_property_mappings": {TAGS[tag]: word}}
    return Outcome("converted", settings, "A name of a property of messages.")
