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
from modelforge.preflight.checks import data as on_kind
from tests.preflight.cases import ROWS, STARTER, a_case


def supply(kind, name="rows.jsonl", sha256="a"):
    mapping = ColumnMapping(kind, {})
    seen = replace(ROWS, name=name, mapping=mapping, sha256=sha256)
    return LoadedSource(Source(path=name), [Path(name)], mapping, seen)


def case(*kinds, validation=(), **said):
    supplies = [supply(kind, f"{kind}.jsonl", kind) for kind in kinds]
    material = RunData(supplies, list(validation), several=len(kinds) > 1)
    return replace(a_case(**said), material=material)


@pytest.mark.parametrize("kind", ["text", "pair", "instruction", "messages", "summary"])
def test_answers_and_text_suit_sft(kind):
    assert not list(on_kind.wrong_kind(case(kind)))


@pytest.mark.parametrize("kind", ["preference", "preference-label", "span"])
def test_preferences_and_spans_do_not_suit_sft(kind):
    found = next(on_kind.wrong_kind(case(kind)))
    assert found.level == "blocker"
    assert found.where == "dataset"
    assert on_kind.HOLDS[kind] in found.what
    assert found.what.endswith(".")
    assert found.remedy.endswith(".")


@pytest.mark.parametrize("strategy", ["dpo", "rlhf"])
def test_preferences_suit_those_who_learn_from_them(strategy):
    assert not list(on_kind.wrong_kind(case("preference", strategy=strategy)))
    assert "chosen" in next(on_kind.wrong_kind(case("pair", strategy=strategy))).remedy


def test_kto_takes_judged_answers_and_pairs_and_dpo_only_pairs():
    kto = {"strategy": "dpo", "trainer": {"preference_loss": "kto"}}
    for kind in ("preference-label", "preference"):
        assert not list(on_kind.wrong_kind(case(kind, **kto)))
    found = next(on_kind.wrong_kind(case("pair", **kto)))
    assert "kto learns from rows with an answer marked good or bad" in found.what
    for loss in ("sigmoid", "orpo"):
        said = {"strategy": "dpo", "trainer": {"preference_loss": loss}}
        assert list(on_kind.wrong_kind(case("preference-label", **said)))


def test_each_source_that_does_not_suit_is_named_by_its_setting():
    mixed = case("pair", "preference", validation=[supply("span")])
    found = [each.where for each in on_kind.wrong_kind(mixed)]
    assert found == ["data.sources[1]", "data.validation_sources[0]"]


def test_contexts_suit_finding_answers_and_texts_do_not():
    task = {"task": "extractive-question-answering"}
    assert not list(on_kind.wrong_kind(case("span", **task)))
    assert list(on_kind.wrong_kind(case("text", **task)))
    assert not list(on_kind.wrong_kind(case("summary", task="summarization")))


@pytest.mark.parametrize("loss_on", ["assistant", "last_round"])
def test_text_alone_has_no_turn_to_learn_and_beside_chats_it_is_left_out(loss_on):
    only = {"data": {"loss_on": loss_on}}
    alone = next(on_kind.nothing_to_learn(case("text", **only)))
    beside = next(on_kind.nothing_to_learn(case("text", "messages", **only)))
    assert (alone.level, beside.level) == ("blocker", "caution")
    assert alone.suggested == "completion"
    assert not list(on_kind.nothing_to_learn(case("messages", **only)))
    assert not list(on_kind.nothing_to_learn(case("text")))


def test_rows_that_are_also_checked_on_are_told_and_others_are_not():
    same, other = supply("pair", sha256="pair"), supply("pair", "other.jsonl", "other")
    assert list(on_kind.same_in_validation(case("pair", validation=[same])))
    assert not list(on_kind.same_in_validation(case("pair", validation=[other])))


def test_no_split_is_asked_for_beside_validation_sources():
    aside = {"data": {"validation_sources": [{"path": "other.jsonl"}]}}
    for share in (0.0, 0.2, 1.0):
        assert not list(data.split_is_possible(case("pair", **aside, eval_split=share)))


@pytest.mark.parametrize(
    ("strategy", "fate"),
    [
        ("right", "is cut"),
        ("left", "the last"),
        ("delete", "left out"),
        ("split", "become several"),
    ],
)
def test_what_happens_to_long_rows_is_said_as_it_will_be(strategy, fate):
    long = replace(ROWS, longest_chars=90_000)
    told = a_case(look=long, data={"truncation_strategy": strategy})
    assert fate in next(data.rows_cut(told)).what


def test_a_template_that_was_chosen_is_not_missed():
    bare = replace(STARTER, has_chat_template=False)
    assert list(model.no_chat_template(a_case(facts=bare)))
    chosen = {"model": {"chat_template": "chatml"}}
    assert not list(model.no_chat_template(a_case(facts=bare, **chosen)))
