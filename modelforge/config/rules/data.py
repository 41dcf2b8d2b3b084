"""Rules about data and the chat template, against the rest of what was said."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.rules.registry import PREFERENCES, rule
from modelforge.config.rules.source_rules import said_type, source_problems
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import TEMPLATE_SUFFIX, TEMPLATES
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
            kind = said_type(source)
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
