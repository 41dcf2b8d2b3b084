"""Data sets of Axolotl: entries with a type, which says how their rows are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelforge.config.importers.options import Option, Values, by
from modelforge.config.importers.report import Outcome

NOTHING_ASKED = "This value asks for nothing."
# Types of a data set whose rows are recognised by their columns here.
CHATS = ("chat_template", "sharegpt", "chat_template.argilla", "chat_template.default")
TEXTS = ("completion", "pretrain")
SOURCE_OPTIONS = {
    "path": "path",
    "name": "subset",
    "split": "split",
    "field_messages": "messages_field",
    "field_system": "system_field",
    "field_tools": "tools_field",
    "field_instruction": "instruction_field",
    "field_input": "input_field",
    "field_output": "output_field",
    "field_chosen": "chosen_field",
    "field_rejected": "rejected_field",
    "message_property_mappings": "message_property_mappings",
    "system_prompt": "system_prompt",
}
# How messages are written and trained, which the chat template decides.
DECIDED = ("drop_system_message", "chat_template_jinja", "train_on_eot", "message_field_training")
# Methods whose rows are preferences.
PREFERENCES = ("dpo", "ipo", "orpo", "kto")
# What older files write for the names of the properties of a message.
MESSAGE_FIELDS = {"message_field_role": "role", "message_field_content": "content"}


def datasets(setting: str) -> Option:
    """Return the option `datasets` or `test_datasets`."""

    def read(value: list[Any], values: Values) -> Outcome:
        sources, lines = [], []
        for at, entry in enumerate(value):
            source: dict[str, Any] = {}
            for name, part in entry.items():
                outcome = _source_option(name, part, values)
                _add(source, outcome)
                lines.append((f"[{at}].{name}", part, outcome))
            sources.append(source)
        settings: dict[str, Any] = {setting: sources} if sources else {}
        if sources and setting == "data.sources":
            settings["dataset"] = sources[0].get("path", "")
        return Outcome("converted", settings, "Each entry is a data source.", tuple(lines))

    return by(read, kind="list")


def _add(source: dict[str, Any], outcome: Outcome) -> None:
    for setting, value in outcome.settings.items():
        field = setting.rpartition(".")[2]
        known = source.get(field)
        source[field] = known | value if isinstance(known, dict) else value


def _source_option(name: str, value: Any, values: Values) -> Outcome:
    if value is None:
        return Outcome("no-effect", why=NOTHING_ASKED)
    is_preference = values.get("rl") in PREFERENCES
    if name in SOURCE_OPTIONS:
        ours = SOURCE_OPTIONS[name]
        ours = "prompt_field" if is_preference and ours == "messages_field" else ours
        return Outcome("taken" if ours == name else "renamed", {f"data.sources.{ours}": value})
    if name in MESSAGE_FIELDS:
        mapping = {MESSAGE_FIELDS[name]: value}
        settings = {"data.sources.message_property_mappings": mapping}
        return Outcome("converted", settings, "A name of a property of messages.")
    if name == "type":
        return _type(value, is_preference=is_preference)
    if name == "field":
        return Outcome("renamed", {"data.sources.text_field": value})
    if name in ("shards", "shards_idx", "preprocess_shards", "trust_remote_code"):
        return Outcome("no-effect", why="The whole data set is read, without its code.")
    if name in ("ds_type", "data_files"):
        return Outcome("no-effect", why="Files are recognised by their content.")
    if name in DECIDED or name in (
        "chat_template",
        "roles",
        "roles_to_train",
        "train_on_eos",
        "conversation",
    ):
        return Outcome("no-effect", why="The chat template of the model decides.")
    return Outcome("refused", why="Data sources have no such option here.")


def _type(value: Any, *, is_preference: bool) -> Outcome:
    if not isinstance(value, str):
        fields = value if isinstance(value, Mapping) else {}
        known = {
            f"data.sources.{SOURCE_OPTIONS[name]}": part
            for name, part in fields.items()
            if name in SOURCE_OPTIONS and part
        }
        return Outcome("converted", known, "The columns that it names; its format is not taken.")
    if is_preference:
        return Outcome("converted", {"data.sources.type": "preference"}, "Rows of preferences.")
    if value in TEXTS:
        return Outcome("converted", {"data.sources.type": "text"}, "Whole texts.")
    if value.split(".")[0] in ("chat_template", "sharegpt") or value in CHATS:
        return Outcome("converted", {"data.sources.type": "conversation"}, "Conversations.")
    if value.startswith(("alpaca", "instruct")):
        return Outcome("converted", {"data.sources.type": "instruction"}, "Instructions.")
    if value.startswith(("chatml", "llama3", "ultra", "zephyr", "user_defined", "orpo")):
        return Outcome("no-effect", why="Rows are recognised by their columns.")
    return Outcome("no-effect", why=f"Rows are recognised by their columns, not as {value}.")
