"""Rows meet the way of learning: each finding once where it belongs and once where it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.sources.combine import RunData
from modelforge.data.sources.load import LoadedSource
from modelforge.preflight.checks import data, model
from modelforge.preflight.prompts import LongPrompts
from tests.preflight.contexts import ROWS, STARTER, make_context


def supply(kind, name="rows.jsonl", sha256="a"):
    mapping = ColumnMapping(kind, {})
    seen = replace(ROWS, name=name, mapping=mapping, sha256=sha256)
    return LoadedSource(Source(path=name), [Path(name)], mapping, seen)


def context(*kinds, validation=(), **settings):
    supplies = [supply(kind, f"{kind}.jsonl", kind) for kind in kinds]
    material = RunData(supplies, list(validation), several=len(kinds) > 1)
    return replace(make_context(**settings), data=material)


@pytest.mark.parametrize("kind", ["text", "segments", "pair", "instruction", "messages", "summary"])
def test_answers_and_text_suit_sft(kind):
    assert not list(data.wrong_kind(context(kind)))


@pytest.mark.parametrize("kind", ["preference", "preference-label", "span"])
def test_preferences_and_spans_do_not_suit_sft(kind):
    found = next(data.wrong_kind(context(kind)))
    assert found.level == "blocker"
    assert found.where == "dataset"
    assert data.KIND_NAMES[kind] in found.what
    assert found.what.endswith(".")
    assert found.remedy.endswith(".")


@pytest.mark.parametrize("strategy", ["dpo", "rlhf"])
def test_preferences_suit_those_who_learn_from_them(strategy):
    assert not list(data.wrong_kind(context("preference", strategy=strategy)))
    assert "chosen" in next(data.wrong_kind(context("pair", strategy=strategy))).remedy


def test_kto_takes_judged_answers_and_pairs_and_dpo_only_pairs():
    kto = {"strategy": "dpo", "trainer": {"preference_loss": "kto"}}
    for kind in ("preference-label", "preference"):
        assert not list(data.wrong_kind(context(kind, **kto)))
    found = next(data.wrong_kind(context("pair", **kto)))
    assert "kto trains on rows with a completion marked good or bad" in found.what
    for loss in ("sigmoid", "orpo"):
        settings = {"strategy": "dpo", "trainer": {"preference_loss": loss}}
        assert list(data.wrong_kind(context("preference-label", **settings)))


def test_each_source_that_does_not_suit_is_named_by_its_setting():
    mixed = context("pair", "preference", validation=[supply("span")])
    found = [each.where for each in data.wrong_kind(mixed)]
    assert found == ["data.sources[1]", "data.validation_sources[0]"]


def test_contexts_suit_finding_answers_and_texts_do_not():
    task = {"task": "extractive-question-answering"}
    assert not list(data.wrong_kind(context("span", **task)))
    assert list(data.wrong_kind(context("text", **task)))
    assert not list(data.wrong_kind(context("summary", task="summarization")))


@pytest.mark.parametrize("loss_on", ["assistant", "last_round"])
def test_text_alone_has_no_turn_to_learn_and_beside_chats_it_is_left_out(loss_on):
    only = {"data": {"loss_on": loss_on}}
    alone = next(data.nothing_to_train(context("text", **only)))
    beside = next(data.nothing_to_train(context("text", "messages", **only)))
    assert (alone.level, beside.level) == ("blocker", "caution")
    assert alone.suggested == "completion"
    assert not list(data.nothing_to_train(context("messages", **only)))
    assert not list(data.nothing_to_train(context("text")))


def test_rows_that_are_also_checked_on_are_reported_and_others_are_not():
    same, other = supply("pair", sha256="pair"), supply("pair", "other.jsonl", "other")
    assert list(data.trained_validation_file(context("pair", validation=[same])))
    assert not list(data.trained_validation_file(context("pair", validation=[other])))


def test_no_split_is_asked_for_beside_validation_sources():
    aside = {"data": {"validation_sources": [{"path": "other.jsonl"}]}}
    for share in (0.0, 0.2, 1.0):
        assert not list(data.split_is_possible(context("pair", **aside, eval_split=share)))


@pytest.mark.parametrize(
    ("strategy", "fate"),
    [
        ("right", "are cut off"),
        ("left", "the last"),
        ("delete", "left out"),
        ("split", "are split"),
    ],
)
def test_what_happens_to_long_rows_is_reported_correctly(strategy, fate):
    long = replace(ROWS, longest_chars=90_000)
    reported = make_context(summary=long, data={"truncation_strategy": strategy})
    assert fate in next(data.rows_truncated(reported)).what


def test_a_template_that_was_chosen_is_not_missed():
    bare = replace(STARTER, has_chat_template=False)
    assert list(model.no_chat_template(make_context(info=bare)))
    chosen = {"model": {"chat_template": "chatml"}}
    assert not list(model.no_chat_template(make_context(info=bare, **chosen)))


@pytest.mark.parametrize(
    ("more", "prompts", "level", "value", "words"),
    [
        ({"strategy": "dpo"}, LongPrompts(40, 300, 255, True), "blocker", 384, "All 40 prompts"),
        (
            {"strategy": "rlhf", "trainer": {"max_completion_length": 100}},
            LongPrompts(40, 300, 156, True),
            "blocker",
            448,
            "156 leave room for a completion (256 less 100 for the completion)",
        ),
        ({}, LongPrompts(1000, 300, 255, False), "caution", 384, "The first 1,000 prompts"),
        ({"strategy": "dpo"}, LongPrompts(40, 9000, 255, True), "blocker", None, "9,000 tokens"),
    ],
)
def test_prompts_of_which_none_fits_are_refused_with_the_numbers(
    more, prompts, level, value, words
):
    run = replace(context("preference", max_seq_length=256, **more), long_prompts=prompts)
    (found,) = data.no_prompt_fits(run)
    assert (found.code, found.level, found.suggested) == ("no-prompt-fits", level, value)
    assert words in found.what
    assert ("reads at most 8192" if value is None else f"{value:,}") in found.remedy.replace(
        "8,192", "8192"
    )
    assert not list(data.no_prompt_fits(replace(run, long_prompts=None)))
