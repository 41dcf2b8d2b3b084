"""Rules within one source: what is said together must mean one thing."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.prompt_template import NAMES, PromptFormatError, parse
from modelforge.config.schema.data import Source
from modelforge.config.validation_messages import listed
from modelforge.errors import Problem

HUB = "hub:"
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


def said_type(source: Source) -> str:
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
    kind = said_type(source)
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
    if source.path.startswith(HUB):
        return
    for name in ("subset", "split"):
        value = getattr(source, name)
        if value is not None and (name, value) != ("split", "train"):
            yield Problem(
                f"{where}.{name}",
                f"{source.path[:80]} is no Hub data set, so it has no {name} {value[:40]}.",
                f"Leave it out, or write the path as {HUB}OWNER/NAME.",
            )
