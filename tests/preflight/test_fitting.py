"""What does not fit is made to fit by the first way, or a model is named that really fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelforge.config.plan.make import make_plan
from modelforge.config.profiles import load_profiles, profile_settings
from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.config.visibility import inapplicable_settings
from modelforge.models.catalog import catalog_model_info
from modelforge.paths import Home
from modelforge.preflight.checks import run
from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.estimate import total_gib
from modelforge.preflight.plan_context import build_plan_context
from modelforge.preflight.suggest.fit import TIGHT, can_fit, largest_model
from tests.preflight.cases import CARD, LAPTOP, LLAMA_8B, ROWS, WORKSTATION, a_case

CATALOGUE = {model["name"]: model for one in load_profiles().values() for model in one.models}
LONG = replace(ROWS, rows=4000, mean_chars=1800.0, longest_chars=40_000)
DATA = {"task": "text-generation", "dataset": "rows.jsonl"}
# Shares of what a run takes that are free: far too little, too little, only just enough.
SHARES = (0.12, 0.3, 0.5, 0.75, 0.97)
WIDE = {"gradient_checkpointing": False, "per_device_train_batch_size": 8, "use_4bit": False}
SMALL = replace(WORKSTATION, gpus=[replace(CARD, total_gib=8.0, free_gib=7.5)])


def with_free(device, free):
    if device == "cpu":
        return replace(LAPTOP, ram_total_gib=free, ram_free_gib=free)
    return replace(WORKSTATION, gpus=[replace(CARD, total_gib=free, free_gib=free)])


def case_of(said, machine):
    """Return the run that these answers come to, by the way that every start goes."""
    config = resolve(Layer("said", said)).config
    facts = catalog_model_info(CATALOGUE[config.model_name])
    ground = build_plan_context(config, machine, facts, train_rows=3600, look=LONG)
    return RunContext(
        config, make_plan(config, ground), machine, facts, LONG, Home(Path("/home/x"))
    )


def answers_of(profile, strategy, device, model):
    said = flatten(profile_settings(profile, practice=device == "cpu")) | {"strategy": strategy}
    said |= {"use_4bit": True} if strategy == "qlora" else {}
    said |= model["answers"] | DATA | {"model_name": model["name"]}
    return {name: value for name, value in said.items() if name not in inapplicable_settings(said)}


def blockers(case):
    found = {one.code for one in run.findings(case) if one.level == "blocker"}
    return found - {"memory-base", "disk-full"}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("strategy", ["sft", "qlora", "dpo", "rlhf"])
@pytest.mark.parametrize("profile", list(load_profiles()))
def test_the_first_way_fits_or_a_model_is_named_that_does(profile, strategy, device):
    made = impossible = 0
    for model in load_profiles()[profile].models:
        if DATA["task"] not in model["tasks"]:
            continue
        said = answers_of(profile, strategy, device, model)
        needed = total_gib(case_of(said, with_free(device, 999.0)).memory)
        for share in SHARES:
            machine = with_free(device, needed * share)
            case, free = case_of(said, machine), needed * share
            if case.ways:
                first = case_of(said | case.ways[0].settings, machine)
                total = total_gib(first.memory)
                assert total <= free, (model["name"], share, case.ways[0])
                assert total == pytest.approx(case.ways[0].gib)
                assert blockers(first) == blockers(case)
                assert can_fit(case)
                made += 1
            elif needed > free:
                assert not can_fit(case)
                if case.largest is not None:
                    other = case_of(said | case.largest.settings, machine)
                    assert other.config.model_name == case.largest.name
                    assert total_gib(other.memory) <= free
                impossible += 1
    assert made
    assert impossible


def test_what_fits_has_no_ways():
    assert a_case().ways == []
    assert a_case().largest is None


def test_what_fits_only_just_is_offered_more_room():
    total = total_gib(a_case().memory)
    case = a_case(replace(LAPTOP, ram_free_gib=total * 1.02))
    assert case.ways[0].gib <= TIGHT * total * 1.02
    assert not a_case(replace(LAPTOP, ram_free_gib=total / TIGHT + 0.01)).ways


def test_the_way_that_costs_least_comes_first_and_says_what_it_costs():
    case = a_case(SMALL, look=replace(ROWS, longest_chars=40_000), **WIDE)
    first, *others = case.ways
    assert first.settings == {"gradient_checkpointing": True}
    assert "slower" in first.costs
    assert first.saves_gib == pytest.approx(total_gib(case.memory) - first.gib)
    cut = next(way for way in others if "max_seq_length" in way.settings)
    assert f"{cut.settings['max_seq_length']} tokens are cut" in cut.costs
    assert [way.fits for way in case.ways] == sorted((way.fits for way in case.ways), reverse=True)


def test_a_smaller_batch_keeps_the_rows_of_an_update():
    case = a_case(SMALL, look=replace(ROWS, longest_chars=40_000), per_device_train_batch_size=64)
    said = case.ways[0].settings
    assert said["per_device_train_batch_size"] * said["gradient_accumulation_steps"] == 256
    assert f"accumulation to {said['gradient_accumulation_steps']}" in case.ways[0].words


def test_kto_is_never_left_with_an_answer_alone():
    said = {**WIDE, "strategy": "dpo", "trainer": {"preference_loss": "kto"}}
    case = a_case(SMALL, look=replace(ROWS, longest_chars=40_000), **said)
    sizes = [way.settings.get("per_device_train_batch_size", 2) for way in case.ways]
    assert min(sizes) == 2


def test_no_way_is_offered_that_saves_nothing():
    case = a_case(SMALL, LLAMA_8B, replace(ROWS, longest_chars=40_000))
    assert case.ways
    assert all(way.saves_gib > 0 for way in case.ways)


def test_several_changes_are_combined_where_one_is_not_enough():
    case = a_case(SMALL, LLAMA_8B, replace(ROWS, longest_chars=40_000))
    assert len(case.ways[0].settings) > 1
    assert " and " in case.ways[0].words


def test_old_cards_are_not_offered_what_they_cannot_do():
    old = replace(CARD, total_gib=8.0, free_gib=7.5, compute_capability=(5, 2))
    case = a_case(
        replace(WORKSTATION, gpus=[old]), look=replace(ROWS, longest_chars=40_000), **WIDE
    )
    said = {name for way in case.ways for name in way.settings}
    assert said
    assert not said & {"use_4bit", "optim"}


def test_where_measured_it_needs_more_its_ways_need_more_too():
    case = a_case(SMALL, look=replace(ROWS, longest_chars=40_000), **WIDE)
    measured = [replace(part, gib=part.gib * 1.4) for part in case.memory]
    usual = {way.words: way.gib for way in case.ways}
    object.__setattr__(case, "memory", measured)
    del case.__dict__["ways"]
    again = {way.words: way.gib for way in case.ways}
    same = usual.keys() & again.keys()
    assert same
    assert all(again[words] == pytest.approx(1.4 * usual[words]) for words in same)


def test_the_largest_model_learns_no_less_where_that_can_be():
    tiny = replace(WORKSTATION, gpus=[replace(CARD, total_gib=4.0, free_gib=3.8)])
    largest = largest_model(a_case(tiny, LLAMA_8B))
    assert largest.name == "Qwen/Qwen3-1.7B"
    assert not largest.settings.keys() & {"lora_r", "max_seq_length"}
