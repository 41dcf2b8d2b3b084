from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.resolve import Layer, resolve
from modelforge.preflight.memory.estimate import total_gib
from modelforge.preflight.suggest.speedups import list_speedups, recommended_settings, tokens_per_s
from tests.preflight.cases import CARD, LAPTOP, LLAMA_8B, ROWS, STARTER, WORKSTATION, a_case

QUICK = replace(LAPTOP, cpu_flags=("avx512_bf16",))
UNEVEN = replace(ROWS, longest_chars=900)
LARGE = replace(WORKSTATION, gpus=[replace(CARD, total_gib=80.0, free_gib=79.0)])
BATCHED = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


def of(case):
    return {lever.name: lever for lever in list_speedups(case)}


def after(case):
    return case.with_settings(recommended_settings(case))


@pytest.mark.parametrize(
    "case",
    [
        a_case(QUICK, look=UNEVEN),
        a_case(LAPTOP, strategy="dpo", **BATCHED),
        a_case(WORKSTATION, LLAMA_8B),
        a_case(LARGE, LLAMA_8B, optim="paged_adamw_32bit"),
        a_case(QUICK, task="summarization", **BATCHED),
        a_case(QUICK, look=UNEVEN, packing=True, **BATCHED),
    ],
    ids=["practice", "dpo", "card", "large card", "summaries", "packed"],
)
def test_what_is_recommended_is_allowed_fits_and_is_no_slower(case):
    answers = recommended_settings(case)
    said = {**case.config.explicit_values(), "model_name": "m", "dataset": "d"}
    resolve(Layer("said", said), Layer("recommended", answers))
    assert total_gib(after(case).memory) <= case.available_gib
    assert tokens_per_s(after(case)) >= tokens_per_s(case)


def test_an_update_stays_as_large():
    for case in (a_case(QUICK), a_case(LARGE, LLAMA_8B, gradient_accumulation_steps=12)):
        config, before = after(case).config, case.config
        size = config.per_device_train_batch_size * config.gradient_accumulation_steps
        assert size == before.per_device_train_batch_size * before.gradient_accumulation_steps


def test_short_rows_on_a_quick_processor_are_more_than_twice_as_fast():
    case = a_case(
        QUICK, look=UNEVEN, lora_dropout=0.05, group_by_length=False, bf16=True, **BATCHED
    )
    assert recommended_settings(case) == {
        "data.padding_free": True,
        "group_by_length": False,
        "gradient_checkpointing": False,
        "lora_dropout": 0.0,
    }
    assert tokens_per_s(after(case)) / tokens_per_s(case) > 1.8


def test_what_is_pulled_already_says_what_it_gives():
    off, on = a_case(QUICK), a_case(QUICK, bf16=True)
    assert not of(off)["precision"].on
    assert of(on)["precision"].on
    assert of(on)["precision"].times == pytest.approx(of(off)["precision"].times, abs=0.01)
    assert of(on)["loss"].on
    assert of(on)["loss"].gib < 0


def test_bf16_is_for_processors_that_are_quick_in_it_and_for_adapters():
    assert "precision" not in of(a_case(LAPTOP))
    assert "precision" not in of(a_case(QUICK, adapter={"enabled": False}))
    assert "precision" not in of(a_case(QUICK, replace(STARTER, kind="encoder-decoder")))


def test_activations_are_kept_only_where_they_fit():
    small = replace(WORKSTATION, gpus=[replace(CARD, total_gib=8.0, free_gib=7.5)])
    tight = a_case(small, LLAMA_8B, max_seq_length=512, look=replace(ROWS, longest_chars=4000))
    assert of(tight)["recomputing"].gib > 1
    assert "gradient_checkpointing" not in recommended_settings(tight)


def test_what_does_not_fit_is_made_to_fit():
    wide = replace(ROWS, mean_chars=3000, longest_chars=4000)
    card = replace(WORKSTATION, gpus=[replace(CARD, total_gib=12.0, free_gib=11.0)])
    case = a_case(card, LLAMA_8B, wide, per_device_train_batch_size=8, gradient_checkpointing=False)
    assert total_gib(case.memory) > case.available_gib
    assert recommended_settings(case)["gradient_checkpointing"] is True
    assert total_gib(after(case).memory) <= case.available_gib


def test_dropout_stays_where_rows_are_seen_again_and_kto_keeps_its_batch():
    assert "dropout" in of(a_case(QUICK))
    assert "dropout" not in of(a_case(QUICK, num_train_epochs=3))
    judged = a_case(QUICK, strategy="dpo", trainer={"preference_loss": "kto"})
    assert not {"batch", "padding", "grouping"} & set(of(judged))


def test_compiling_is_offered_for_long_runs_on_cards_that_can():
    can = replace(LARGE, packages=("triton", "flash_attn"))
    whole = {"use_4bit": False}
    assert "compiling" in of(a_case(can, LLAMA_8B, max_steps=5000, **whole))
    assert "compiling" not in of(a_case(can, LLAMA_8B, max_steps=10, **whole))
    assert "compiling" not in of(a_case(LARGE, LLAMA_8B, max_steps=5000, **whole))
    assert "attention" in of(a_case(can, LLAMA_8B))


def test_an_unknown_speed_has_no_levers():
    case = a_case(look=None)
    assert list_speedups(case) == []
    assert recommended_settings(case) == {}
    assert tokens_per_s(case) is None
