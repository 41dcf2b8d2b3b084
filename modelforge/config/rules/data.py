"""Rules about data and the chat template, against the rest of what was said."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.prompt_template import NAMES, PromptFormatError, parse
from modelforge.config.rules.registry import PREFERENCES, rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import TEMPLATE_SUFFIX, TEMPLATES, Source
from modelforge.config.validation_messages import listed, shown
from modelforge.errors import Problem

_LISTS = ("sources", "validation_sources")


@rule("data.sources")
def _sources_mean_one_thing(config: TrainingConfig) -> Iterator[Problem]:
    for place, source in enumerate(config.data.sources):
        yield from source_problems(source, f"data.sources[{place}]")


@rule("data.validation_sources")
def _validation_sources_mean_one_thing(config: TrainingConfig) -> Iterator[Problem]:
    for place, source in enumerate(config.data.validation_sources):
        where = f"data.validation_sources[{place}]"
        yield from source_problems(source, where)
        if source.weight != 1:
            yield Problem(
                f"{where}.weight",
                f"A weight of {source.weight:g} mixes training rows; rows to check on count once.",
                "Leave it out; samples takes fewer rows.",
            )


@rule("strategy", "data.sources", "data.validation_sources")
def _sources_suit_the_strategy(config: TrainingConfig) -> Iterator[Problem]:
    compares = config.strategy in PREFERENCES
    for name in _LISTS:
        for place, source in enumerate(getattr(config.data, name)):
            kind = declared_type(source)
            if kind == "auto" or (kind == "preference") == compares:
                continue
            where = f"data.{name}[{place}].type"
            if compares:
                what = f"{config.strategy} learns from preferences, but these are {kind} rows."
                yield Problem(where, what, "Give a preference source, or choose the strategy sft.")
            else:
                what = f"{config.strategy} learns from answers, but these are preferences."
                yield Problem(where, what, "Choose the strategy dpo, or give rows with answers.")


@rule("strategy", "task", "data.loss_on")
def _only_answers_have_a_loss_to_choose(config: TrainingConfig) -> Iterator[Problem]:
    said = config.data.loss_on
    if said != "completion" and not _learns_text(config):
        yield Problem(
            "data.loss_on",
            f"{said} is for text-generation with sft or qlora; this is {_asked(config)}.",
            "Choose completion.",
        )


@rule("strategy", "data.truncation_strategy")
def _pairs_are_not_split(config: TrainingConfig) -> Iterator[Problem]:
    if config.data.truncation_strategy == "split" and config.strategy in PREFERENCES:
        yield Problem(
            "data.truncation_strategy",
            f"{config.strategy} compares whole answers, so a row cannot be split into several.",
            "Choose right, left or delete.",
        )


@rule("strategy", "task", "data.padding_free")
def _only_text_goes_without_padding(config: TrainingConfig) -> Iterator[Problem]:
    if config.data.padding_free and not _learns_text(config):
        yield Problem(
            "data.padding_free",
            f"It is for text-generation with sft or qlora; this is {_asked(config)}.",
            "Set it to false.",
        )


@rule("model.chat_template")
def _templates_are_known(config: TrainingConfig) -> Iterator[Problem]:
    said = config.model.chat_template
    if said is None or said in TEMPLATES or said.endswith(TEMPLATE_SUFFIX):
        return
    yield Problem(
        "model.chat_template",
        f"{shown(said)} is no chat template.",
        f"Choose {listed(TEMPLATES)}, or give a {TEMPLATE_SUFFIX} file.",
    )


def _learns_text(config: TrainingConfig) -> bool:
    return config.strategy not in PREFERENCES and config.task == "text-generation"


def _asked(config: TrainingConfig) -> str:
    return f"{config.task} with {config.strategy}"


HUB_PREFIX = "hub:"
_SYSTEM = ("system_prompt_type", "system_prompt_field", "system_prompt")
_CHAT = ("system_field", "tools_field", "message_property_mappings")
BELONGS: dict[str, tuple[str, ...]] = {
    "text": ("text_field",),
    "instruction": (
        "instruction_field",
        "input_field",
        "output_field",
        "prompt_format",
        "prompt_format_no_input",
        *_SYSTEM,
    ),
    "conversation": ("messages_field", *_CHAT, *_SYSTEM),
    "preference": ("prompt_field", "chosen_field", "rejected_field", *_CHAT, *_SYSTEM),
}
# Said of a source whose type is auto, these tell the type.
TELLING = {
    "text_field": "text",
    "instruction_field": "instruction",
    "input_field": "instruction",
    "output_field": "instruction",
    "prompt_format": "instruction",
    "prompt_format_no_input": "instruction",
    "messages_field": "conversation",
    "chosen_field": "preference",
    "rejected_field": "preference",
}
_COLUMNS = (
    "text_field",
    "instruction_field",
    "input_field",
    "output_field",
    "messages_field",
    "system_field",
    "tools_field",
    "system_prompt_field",
    "prompt_field",
    "chosen_field",
    "rejected_field",
)


def declared_type(source: Source) -> str:
    """Return the type that was said, outright or through the columns; else auto."""
    if source.type != "auto":
        return source.type
    return next((TELLING[name] for name in TELLING if getattr(source, name)), "auto")


def source_problems(source: Source, where: str) -> Iterator[Problem]:
    """Yield a problem for each rule the source breaks, named like `data.sources[0].path`."""
    yield from _columns_belong(source, where)
    yield from _columns_differ(source, where)
    yield from _system_prompt(source, where)
    yield from _formats(source, where)
    yield from _hub_only(source, where)


def _columns_belong(source: Source, where: str) -> Iterator[Problem]:
    kind = declared_type(source)
    if kind == "auto":
        return
    taken = BELONGS[kind]
    every = dict.fromkeys(name for names in BELONGS.values() for name in names)
    for name in every:
        value = getattr(source, name)
        if name in taken or not value or value == "none":
            continue
        because = "" if source.type != "auto" else ", as its other columns say"
        yield Problem(
            f"{where}.{name}",
            f"A source of {kind} rows{because} has no {name}.",
            f"Leave it out, or choose the type {listed(_types(name))}.",
        )


def _types(name: str) -> list[str]:
    return [kind for kind, names in BELONGS.items() if name in names]


def _columns_differ(source: Source, where: str) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in _COLUMNS:
        column = getattr(source, name)
        if column is None:
            continue
        if column in seen:
            yield Problem(
                f"{where}.{name}",
                f"The column {column[:60]} is named twice, as {seen[column]} too.",
                "Name another column, or leave one of the two out.",
            )
        seen.setdefault(column, name)


def _system_prompt(source: Source, where: str) -> Iterator[Problem]:
    partners = {"field": "system_prompt_field", "fixed": "system_prompt"}
    for kind, name in partners.items():
        given = getattr(source, name) is not None
        if source.system_prompt_type == kind and not given:
            yield Problem(
                f"{where}.{name}",
                f"system_prompt_type is {kind}, but {name} is not given.",
                "Name the column." if kind == "field" else "Give the text.",
            )
        elif given and source.system_prompt_type != kind:
            yield Problem(
                f"{where}.system_prompt_type",
                f"{name} is given, but system_prompt_type is {source.system_prompt_type}.",
                f"Choose {kind}, or leave {name} out.",
            )
    if source.system_field and source.system_prompt_type != "none":
        yield Problem(
            f"{where}.system_field",
            "The system message would come from two places.",
            f"Leave system_field or system_prompt_type ({source.system_prompt_type}) out.",
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
    if source.path.startswith(HUB_PREFIX):
        return
    for name in ("subset", "split"):
        value = getattr(source, name)
        if value is not None and (name, value) != ("split", "train"):
            yield Problem(
                f"{where}.{name}",
                f"{source.path[:80]} is no Hub data set, so it has no {name} {value[:40]}.",
                f"Leave it out, or write the path as {HUB_PREFIX}OWNER/NAME.",
            )
