"""Rules about data sources, tokenizing and the chat template."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from modelforge.config.methods import facts_of, needs_pairs
from modelforge.config.prompt_template import NAMES, PromptFormatError, parse
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import MAX_PATH_CHARS, TEMPLATE_SUFFIX, TEMPLATES, Source
from modelforge.config.validation_messages import join_words, shown
from modelforge.errors import Problem

HUB_PREFIX = "hub:"
# OWNER/NAME without the prefix; a name with the suffix of a data file is a path.
_BARE_NAME = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}\Z", re.ASCII)
_FILE_SUFFIX = re.compile(
    r"\.(jsonl?|ndjson|[ct]sv|parquet|arrow|feather|xlsx|txt|md|gz|zst|zip)\Z", re.I
)


def hub_name(path: str) -> str | None:
    """Return the name of a dataset on the Hub that a path may be, with or without the prefix."""
    if path.startswith(HUB_PREFIX):
        return path.removeprefix(HUB_PREFIX)
    return path if _BARE_NAME.match(path) and not _FILE_SUFFIX.search(path) else None


_SCHEMES = ("s3", "gs")
# An address in object storage.
STORAGE_ADDRESS = re.compile(
    rf"(?P<scheme>{'|'.join(_SCHEMES)})://(?P<bucket>\w[\w.-]{{1,62}})(?:/(?P<key>.*))?\Z",
    re.I | re.ASCII | re.DOTALL,
)


def address_problem(path: str, where: str = "dataset") -> Problem | None:
    """Return what is wrong with an address in object storage; None for others and other paths."""
    scheme, separator, rest = path.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        return None
    if "@" in rest.partition("/")[0]:
        # The address is not repeated, since it has a password.
        what = "The address has a user name or key before the @."
        return Problem(where, what, f"Remove it: {scheme}://BUCKET/FILE. Log in as the docs say.")
    match = STORAGE_ADDRESS.match(path)
    if match is None or ".." in (match["key"] or "").split("/") or "\0" in path:
        what = f"{shown(path)} is not an address in object storage."
        return Problem(where, what, f"Write {scheme}://BUCKET/FILE or {scheme}://BUCKET/FOLDER/.")
    return None


_SYSTEM = ("system_prompt_type", "system_prompt_field", "system_prompt")
_JOINING = ("id_field", "parent_field")
_CHAT = ("system_field", "tools_field", "message_property_mappings")
SETTINGS_OF_TYPE: dict[str, tuple[str, ...]] = {
    "text": ("text_field",),
    "instruction": (
        "instruction_field",
        "input_field",
        "output_field",
        "prompt_format",
        "prompt_format_no_input",
        *_SYSTEM,
        *_JOINING,
    ),
    "conversation": ("messages_field", *_CHAT, *_SYSTEM, *_JOINING),
    "preference": (
        *("prompt_field", "chosen_field", "rejected_field"),
        *(*_CHAT, *_SYSTEM, *_JOINING),
    ),
}
# Settings that determine the type of a source whose type is auto.
TYPE_OF_COLUMN = {
    name: kind
    for kind, names in SETTINGS_OF_TYPE.items()
    for name in names
    if name not in (*_SYSTEM, *_CHAT, *_JOINING, "prompt_field")
}
_COLUMNS = tuple(name for name in Source.model_fields if name.endswith("_field"))
_LISTS = ("sources", "validation_sources")


@rule("data.use_chat_template", "model.chat_template")
def _template_is_used(config: TrainingConfig) -> Iterator[Problem]:
    if not config.data.use_chat_template and config.model.chat_template:
        yield Problem(
            "model.chat_template",
            f"The chat template is {shown(config.model.chat_template)}, but "
            "data.use_chat_template is false.",
            "Leave it empty, or set data.use_chat_template to true.",
        )


@rule("dataset")
def _dataset_is_a_path(config: TrainingConfig) -> Iterator[Problem]:
    if len(config.dataset) > MAX_PATH_CHARS:
        what = f"The path has {len(config.dataset):,} characters."
        yield Problem("dataset", what, f"A path has at most {MAX_PATH_CHARS:,}.")
    if problem := address_problem(config.dataset):
        yield problem


@rule("data.sources")
def _sources_are_consistent(config: TrainingConfig) -> Iterator[Problem]:
    for index, source in enumerate(config.data.sources):
        yield from source_problems(source, f"data.sources[{index}]")


@rule("data.validation_sources")
def _validation_sources_are_consistent(config: TrainingConfig) -> Iterator[Problem]:
    for index, source in enumerate(config.data.validation_sources):
        where = f"data.validation_sources[{index}]"
        yield from source_problems(source, where)
        if source.weight != 1:
            yield Problem(
                f"{where}.weight",
                f"A weight of {source.weight:g} applies to training rows only.",
                "Remove it; `samples` selects fewer rows.",
            )


@rule("strategy", "data.sources", "data.validation_sources", "trainer.reward")
def _sources_suit_the_strategy(config: TrainingConfig) -> Iterator[Problem]:
    compares = facts_of(config).needs_preferences
    takes_answers = compares and not needs_pairs(config)
    for name in _LISTS:
        for index, source in enumerate(getattr(config.data, name)):
            kind = declared_type(source)
            if kind == "auto" or (kind == "preference") == compares:
                continue
            if takes_answers and kind != "text":
                continue
            where = f"data.{name}[{index}].type"
            if compares:
                what = f"{config.strategy} trains on preferences, but these are {kind} rows."
                yield Problem(where, what, "Use a preference source, or choose the strategy sft.")
            else:
                what = f"{config.strategy} trains on completions, but these are preferences."
                yield Problem(where, what, "Choose the strategy dpo, or use rows with completions.")


@rule("strategy", "task", "data.loss_on")
def _loss_on_applies(config: TrainingConfig) -> Iterator[Problem]:
    loss_on = config.data.loss_on
    if loss_on != "completion" and not _trains_text(config):
        yield Problem(
            "data.loss_on",
            f"{loss_on} is for text-generation with sft or qlora; this is {_description(config)}.",
            "Choose completion.",
        )


@rule("strategy", "data.truncation_strategy")
def _preferences_are_not_split(config: TrainingConfig) -> Iterator[Problem]:
    if config.data.truncation_strategy == "split" and facts_of(config).needs_preferences:
        yield Problem(
            "data.truncation_strategy",
            f"{config.strategy} compares whole completions, so a row cannot be split.",
            "Choose right, left or delete.",
        )


@rule("strategy", "task", "data.padding_free")
def _padding_free_applies(config: TrainingConfig) -> Iterator[Problem]:
    if config.data.padding_free and not _trains_text(config):
        yield Problem(
            "data.padding_free",
            f"It is for text-generation with sft or qlora; this is {_description(config)}.",
            "Set it to false.",
        )


@rule("data.shuffle", "packing", "data.packing_strategy")
def _packing_keeps_the_order(config: TrainingConfig) -> Iterator[Problem]:
    strategy = config.data.packing_strategy
    if config.data.shuffle or not config.packing or not _trains_text(config):
        return
    if strategy != "wrapped":
        yield Problem(
            "data.packing_strategy",
            f"{strategy} packs the longest rows first, but data.shuffle is off.",
            "Choose wrapped, which keeps the order of the rows, or turn packing off.",
        )


@rule("strategy", "trainer.preference_loss", "data.shuffle")
def _neighbours_differ_for_kto(config: TrainingConfig) -> Iterator[Problem]:
    is_kto = config.strategy == "dpo" and config.trainer.preference_loss == "kto"
    if is_kto and not config.data.shuffle:
        yield Problem(
            "data.shuffle",
            "KTO compares each completion with that of its neighbour, which must be another "
            "prompt's, so the rows are shuffled.",
            "Set it to true, or choose another loss.",
        )


@rule("model.chat_template")
def _templates_are_known(config: TrainingConfig) -> Iterator[Problem]:
    template = config.model.chat_template
    if template is None or template in TEMPLATES or template.endswith(TEMPLATE_SUFFIX):
        return
    yield Problem(
        "model.chat_template",
        f"{shown(template)} is not a chat template.",
        f"Choose {join_words(TEMPLATES)}, or enter a {TEMPLATE_SUFFIX} file.",
    )


def _trains_text(config: TrainingConfig) -> bool:
    return not facts_of(config).needs_preferences and config.task == "text-generation"


def _description(config: TrainingConfig) -> str:
    return f"{config.task} with {config.strategy}"


def declared_type(source: Source) -> str:
    """Return the type that is set, or that the named columns imply; else auto."""
    if source.type != "auto":
        return source.type
    return next((TYPE_OF_COLUMN[name] for name in TYPE_OF_COLUMN if getattr(source, name)), "auto")


def source_problems(source: Source, where: str) -> Iterator[Problem]:
    """Yield a problem for each rule that the source breaks, named like `data.sources[0].path`."""
    if problem := address_problem(source.path, f"{where}.path"):
        yield problem
    yield from _columns_belong(source, where)
    yield from _columns_differ(source, where)
    yield from _system_prompt(source, where)
    yield from _formats(source, where)
    yield from _hub_only(source, where)
    if source.encoding is not None and not is_text_encoding(source.encoding):
        what = f"{source.encoding!r} is not an encoding that Python can decode text with."
        remedy = "Use a name such as utf-8, cp1252, cp1251, koi8_r, shift_jis or gb18030."
        yield Problem(f"{where}.encoding", what, remedy)


def is_text_encoding(name: str) -> bool:
    """Return whether Python has an incremental decoder of this name that decodes text."""
    try:
        return isinstance(codecs.getincrementaldecoder(name)().decode(b""), str)
    except (LookupError, TypeError, ValueError):
        return False


def _columns_belong(source: Source, where: str) -> Iterator[Problem]:
    kind = declared_type(source)
    if kind == "auto":
        return
    allowed = SETTINGS_OF_TYPE[kind]
    names = dict.fromkeys(name for group in SETTINGS_OF_TYPE.values() for name in group)
    for name in names:
        value = getattr(source, name)
        if name in allowed or not value or value == "none":
            continue
        because = "" if source.type != "auto" else " (from its other columns)"
        yield Problem(
            f"{where}.{name}",
            f"A source of {kind} rows{because} has no {name}.",
            f"Remove it, or choose the type {join_words(_types(name))}.",
        )


def _types(name: str) -> list[str]:
    return [kind for kind, names in SETTINGS_OF_TYPE.items() if name in names]


def _columns_differ(source: Source, where: str) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in _COLUMNS:
        column = getattr(source, name)
        if column is None:
            continue
        if column in seen:
            yield Problem(
                f"{where}.{name}",
                f"The column {column[:60]} is used twice, also as {seen[column]}.",
                "Enter another column, or remove one of the two.",
            )
        seen.setdefault(column, name)
    for column in source.unused_columns:
        if column in seen:
            yield Problem(
                f"{where}.unused_columns",
                f"The column {column[:60]} is set as unused and used as {seen[column]}.",
                f"Remove it here, or remove {seen[column]}.",
            )


def _system_prompt(source: Source, where: str) -> Iterator[Problem]:
    partners = {"field": "system_prompt_field", "fixed": "system_prompt"}
    for kind, name in partners.items():
        given = getattr(source, name) is not None
        if source.system_prompt_type == kind and not given:
            yield Problem(
                f"{where}.{name}",
                f"system_prompt_type is {kind}, but {name} is not given.",
                "Enter the column." if kind == "field" else "Enter the text.",
            )
        elif given and source.system_prompt_type != kind:
            yield Problem(
                f"{where}.system_prompt_type",
                f"{name} is given, but system_prompt_type is {source.system_prompt_type}.",
                f"Choose {kind}, or remove {name}.",
            )
    if source.system_field and source.system_prompt_type != "none":
        yield Problem(
            f"{where}.system_field",
            "The system message has two sources.",
            f"Remove system_field or system_prompt_type ({source.system_prompt_type}).",
        )


def _formats(source: Source, where: str) -> Iterator[Problem]:
    without_input = tuple(name for name in NAMES if name != "input")
    for name, names in (("prompt_format", NAMES), ("prompt_format_no_input", without_input)):
        text = getattr(source, name)
        if text is None:
            continue
        try:
            parse(text, names)
        except PromptFormatError as error:
            yield Problem(f"{where}.{name}", error.what, error.remedy)


def _hub_only(source: Source, where: str) -> Iterator[Problem]:
    if hub_name(source.path):
        return
    for name in ("subset", "split"):
        value = getattr(source, name)
        if value is not None and (name, value) != ("split", "train"):
            yield Problem(
                f"{where}.{name}",
                f"{source.path[:80]} is not a Hub dataset, so it has no {name} {value[:40]}.",
                f"Remove it, or write the path as {HUB_PREFIX}OWNER/NAME.",
            )
