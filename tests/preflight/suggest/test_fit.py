"""Suggestions make a run fit, or a model is named that fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelforge.config.plan.make import make_plan
from modelforge.config.profiles import load_profiles, profile_settings
from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.config.visibility import inapplicable_settings
from modelforge.models.architecture import catalog_model_info
from modelforge.paths import Home
from modelforge.preflight.context import RunContext, build_plan_context
from modelforge.preflight.memory.estimate import total_gib
from modelforge.preflight.suggest.fit import TIGHT, can_fit, largest_model, search_fit, suggest_fits
from tests.preflight.contexts import (
    CARD,
    LAPTOP,
    LLAMA_8B,
    ROWS,
    WORKSTATION,
    findings_of,
    make_context,
)

CATALOG = {model["name"]: model for one in load_profiles().values() for model in one.models}
MANY_ROWS = replace(ROWS, rows=4000, mean_chars=1800.0, longest_chars=40_000)
LONG = replace(ROWS, longest_chars=40_000)
DATA = {"task": "text-generation", "dataset": "rows.jsonl"}
# Free memory as a share of what the run needs.
SHARES = (0.12, 0.3, 0.5, 0.75, 0.97)
LARGE_BATCH = {
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 8,
    "use_4bit": False,
}
SMALL_GPU = replace(WORKSTATION, gpus=[replace(CARD, total_gib=8.0, free_gib=7.5)])


def with_free(device, free):
    if device == "cpu":
        return replace(LAPTOP, ram_total_gib=free, ram_free_gib=free)
    return replace(WORKSTATION, gpus=[replace(CARD, total_gib=free, free_gib=free)])


def resolved_context(values, machine):
    """Return the run of these values, built as for a start."""
    config = resolve(Layer("values", values)).config
    model = catalog_model_info(CATALOG[config.model_name])
    context = build_plan_context(config, machine, model, train_rows=3600, summary=MANY_ROWS)
    plan = make_plan(config, context)
    return RunContext(config, plan, machine, model, MANY_ROWS, Home(Path("/home/x")))


FROM_NOTHING = {
    "pretraining.enabled": True,
    "pretraining.depth": 16,
    "model_name": "",
    "adapter.enabled": False,
    "optim": "normuon",
    "per_device_train_batch_size": 32,
    "max_seq_length": 1024,
    "gradient_checkpointing": False,
}
NEW_MODEL_SAVERS = {
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_checkpointing",
    "pretraining.depth",
    "max_seq_length",
    "hardware.precision",
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_model_from_nothing_is_made_to_fit_by_batch_context_and_depth(device):
    whole = make_context(with_free(device, 1000.0), summary=MANY_ROWS).with_settings(FROM_NOTHING)
    needed = whole.memory_total_gib
    changed, single = set(), set()
    for share in SHARES:
        free = share * needed
        context = replace(whole, machine=with_free(device, free))
        fits = [each for each in search_fit(context).suggestions if each.fits]
        assert fits, share
        for each in fits:
            names = set(each.settings)
            assert names <= NEW_MODEL_SAVERS
            changed |= names
            single |= names if len(names) == 1 else set()
            total = context.with_settings(each.settings).memory_total_gib
            assert total == pytest.approx(each.gib)
            assert total <= free
    needed_settings = {"per_device_train_batch_size", "pretraining.depth", "max_seq_length"}
    assert changed >= needed_settings
    assert single >= {"per_device_train_batch_size"}


def test_a_smaller_batch_of_a_new_model_says_nothing_of_accumulation():
    whole = make_context(with_free("cpu", 1000.0), summary=MANY_ROWS).with_settings(FROM_NOTHING)
    context = replace(whole, machine=with_free("cpu", 0.75 * whole.memory_total_gib))
    words = [each.words for each in search_fit(context).suggestions]
    assert any("Set the batch size to" in text for text in words)
    assert not any("accumulation" in text for text in words)


def test_a_depth_that_cannot_fit_names_one_that_does():
    deep = {**FROM_NOTHING, "pretraining.depth": 200}
    context = make_context(with_free("cpu", 16.0), summary=MANY_ROWS).with_settings(deep)
    (found,) = [each for each in findings_of(context) if each.code == "memory-base"]
    assert (found.level, found.where) == ("blocker", "pretraining.depth")
    assert "the computer has 16.0 GiB" in found.what
    assert f"Set the depth to {found.suggested}" in found.remedy
    smaller = context.with_settings({"pretraining.depth": found.suggested})
    assert smaller.memory_total_gib <= 16.0


def values_for(profile, strategy, device, model):
    values = flatten(profile_settings(profile, practice=device == "cpu")) | {"strategy": strategy}
    values |= {"use_4bit": True} if strategy == "qlora" else {}
    values |= model["answers"] | DATA | {"model_name": model["name"]}
    hidden = inapplicable_settings(values)
    return {name: value for name, value in values.items() if name not in hidden}


def blockers(context):
    codes = {finding.code for finding in findings_of(context) if finding.level == "blocker"}
    return codes - {"memory-base", "disk-full"}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("strategy", ["sft", "qlora", "dpo", "rlhf"])
@pytest.mark.parametrize("profile", list(load_profiles()))
def test_the_first_suggestion_fits_or_a_model_is_named_that_does(profile, strategy, device):
    fitted = impossible = 0
    for model in load_profiles()[profile].models:
        if DATA["task"] not in model["tasks"]:
            continue
        values = values_for(profile, strategy, device, model)
        needed = total_gib(resolved_context(values, with_free(device, 999.0)).memory)
        for share in SHARES:
            machine = with_free(device, needed * share)
            context, free = resolved_context(values, machine), needed * share
            options = search_fit(context)
            if options.suggestions:
                first = options.suggestions[0]
                changed = resolved_context(values | first.settings, machine)
                total = total_gib(changed.memory)
                assert total <= free, (model["name"], share, first)
                assert total == pytest.approx(first.gib)
                assert blockers(changed) == blockers(context)
                assert can_fit(context)
                fitted += 1
            elif needed > free:
                assert not can_fit(context)
                if options.largest is None:
                    usable = (one for one in CATALOG.values() if DATA["task"] in one["tasks"])
                    smallest = min(usable, key=lambda one: one["parameters"])
                    answers = values_for(profile, strategy, device, smallest)
                    assert not can_fit(resolved_context(answers, machine))
                else:
                    other = resolved_context(values | options.largest.settings, machine)
                    assert other.config.model_name == options.largest.name
                    assert total_gib(other.memory) <= free
                impossible += 1
    assert fitted
    assert impossible


def test_a_run_that_fits_has_no_suggestions():
    options = search_fit(make_context())
    assert options.suggestions == []
    assert options.largest is None


def test_a_run_that_barely_fits_gets_suggestions_with_a_margin():
    total = total_gib(make_context().memory)
    context = make_context(replace(LAPTOP, ram_free_gib=total * 1.02))
    assert suggest_fits(context)[0].gib <= TIGHT * total * 1.02
    assert not suggest_fits(make_context(replace(LAPTOP, ram_free_gib=total / TIGHT + 0.01)))


def test_the_cheapest_suggestion_comes_first_and_names_its_cost():
    context = make_context(SMALL_GPU, summary=LONG, **LARGE_BATCH)
    suggestions = suggest_fits(context)
    first, *others = suggestions
    assert first.settings == {"gradient_checkpointing": True}
    assert "slower" in first.costs
    assert first.saves_gib == pytest.approx(total_gib(context.memory) - first.gib)
    cut = next(each for each in others if "max_seq_length" in each.settings)
    assert f"{cut.settings['max_seq_length']} tokens are truncated" in cut.costs
    fits = [each.fits for each in suggestions]
    assert fits == sorted(fits, reverse=True)


def test_a_smaller_batch_keeps_the_rows_of_a_step():
    context = make_context(SMALL_GPU, summary=LONG, per_device_train_batch_size=64)
    first = suggest_fits(context)[0]
    accumulation = first.settings["gradient_accumulation_steps"]
    assert first.settings["per_device_train_batch_size"] * accumulation == 256
    assert f"accumulation to {accumulation}" in first.words


def test_kto_keeps_two_rows_in_a_batch():
    kto = {"strategy": "dpo", "trainer": {"preference_loss": "kto"}}
    context = make_context(SMALL_GPU, summary=LONG, **LARGE_BATCH, **kto)
    suggestions = suggest_fits(context)
    sizes = [each.settings.get("per_device_train_batch_size", 2) for each in suggestions]
    assert min(sizes) == 2


def test_every_suggestion_saves_memory():
    suggestions = suggest_fits(make_context(SMALL_GPU, LLAMA_8B, LONG))
    assert suggestions
    assert all(each.saves_gib > 0 for each in suggestions)


def test_several_changes_are_combined_where_one_is_not_enough():
    first = suggest_fits(make_context(SMALL_GPU, LLAMA_8B, LONG))[0]
    assert len(first.settings) > 1
    assert " and " in first.words


def test_old_gpus_get_no_unsupported_suggestions():
    old = replace(CARD, total_gib=8.0, free_gib=7.5, compute_capability=(5, 2))
    machine = replace(WORKSTATION, gpus=[old])
    suggestions = suggest_fits(make_context(machine, summary=LONG, **LARGE_BATCH))
    names = {name for each in suggestions for name in each.settings}
    assert names
    assert not names & {"use_4bit", "optim"}


def test_where_more_was_measured_the_suggestions_need_more_too():
    context = make_context(SMALL_GPU, summary=LONG, **LARGE_BATCH)
    usual = {each.words: each.gib for each in suggest_fits(context)}
    measured = [replace(part, gib=part.gib * 1.4) for part in context.memory]
    context.__dict__["memory"] = measured  # the cached estimate
    again = {each.words: each.gib for each in suggest_fits(context)}
    same = usual.keys() & again.keys()
    assert same
    assert all(again[words] == pytest.approx(1.4 * usual[words]) for words in same)


def test_the_largest_model_keeps_rank_and_length_where_possible():
    tiny = replace(WORKSTATION, gpus=[replace(CARD, total_gib=4.0, free_gib=3.8)])
    largest = largest_model(make_context(tiny, LLAMA_8B))
    assert largest.name == "Qwen/Qwen3-1.7B"
    assert not largest.settings.keys() & {"lora_r", "max_seq_length"}
