from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.resolve import Layer, resolve
from modelforge.preflight.memory.estimate import total_gib
from modelforge.preflight.suggest.speedups import list_speedups, recommended_settings, tokens_per_s
from tests.preflight.contexts import (
    CARD,
    LAPTOP,
    LLAMA_8B,
    ROWS,
    STARTER,
    WORKSTATION,
    make_context,
)

QUICK = replace(LAPTOP, cpu_flags=("avx512_bf16",))
UNEVEN = replace(ROWS, longest_chars=900)
LARGE = replace(WORKSTATION, gpus=[replace(CARD, total_gib=80.0, free_gib=79.0)])
BATCHED = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


def of(context):
    return {lever.name: lever for lever in list_speedups(context)}


def after(context):
    return context.with_settings(recommended_settings(context))


@pytest.mark.parametrize(
    "context",
    [
        make_context(QUICK, summary=UNEVEN),
        make_context(LAPTOP, strategy="dpo", **BATCHED),
        make_context(WORKSTATION, LLAMA_8B),
        make_context(LARGE, LLAMA_8B, optim="paged_adamw_32bit"),
        make_context(QUICK, task="summarization", **BATCHED),
        make_context(QUICK, summary=UNEVEN, packing=True, **BATCHED),
    ],
    ids=["practice", "dpo", "card", "large card", "summaries", "packed"],
)
def test_what_is_recommended_is_allowed_fits_and_is_no_slower(context):
    answers = recommended_settings(context)
    settings = {**context.config.explicit_values(), "model_name": "m", "dataset": "d"}
    resolve(Layer("settings", settings), Layer("recommended", answers))
    assert total_gib(after(context).memory) <= context.available_gib
    assert tokens_per_s(after(context)) >= tokens_per_s(context)


def test_an_update_stays_as_large():
    for context in (
        make_context(QUICK),
        make_context(LARGE, LLAMA_8B, gradient_accumulation_steps=12),
    ):
        config, before = after(context).config, context.config
        size = config.per_device_train_batch_size * config.gradient_accumulation_steps
        assert size == before.per_device_train_batch_size * before.gradient_accumulation_steps


def test_the_estimated_gain_on_short_rows_is_that_of_each_setting_together():
    context = make_context(
        QUICK, summary=UNEVEN, lora_dropout=0.05, group_by_length=False, bf16=True, **BATCHED
    )
    assert recommended_settings(context) == {
        "data.padding_free": True,
        "group_by_length": False,
        "gradient_checkpointing": False,
        "lora_dropout": 0.0,
    }

    def gain(**settings):
        faster = context.with_settings(settings) if settings else after(context)
        return tokens_per_s(faster) / tokens_per_s(context)

    # No token of padding, three passes in place of four, and nothing dropped.
    assert gain(**{"data.padding_free": True}) == pytest.approx(1.48, abs=0.05)
    assert gain(gradient_checkpointing=False) == pytest.approx(1.49, abs=0.05)
    assert gain(lora_dropout=0.0) == pytest.approx(1.37, abs=0.05)
    assert gain() == pytest.approx(2.55, abs=0.1)


def test_what_is_pulled_already_says_what_it_gives():
    off, on = make_context(QUICK), make_context(QUICK, bf16=True)
    assert not of(off)["precision"].on
    assert of(on)["precision"].on
    assert of(on)["precision"].times == pytest.approx(of(off)["precision"].times, abs=0.01)
    assert of(on)["loss"].on
    assert of(on)["loss"].gib < 0


def test_fp32_is_recommended_where_the_processor_only_emulates_bf16():
    for chosen in ({"bf16": True}, {"hardware": {"precision": "bf16"}}):
        context = make_context(LAPTOP, **chosen)
        assert of(context)["precision"].label == "fp32"
        assert of(context)["precision"].times > 2
        assert after(context).plan.precision == "fp32"
    # Other systems do not tell the instructions of the processor.
    unknown = make_context(replace(LAPTOP, system="Windows"), bf16=True)
    assert "precision" not in recommended_settings(unknown)


def test_bf16_is_for_processors_that_are_quick_in_it_and_for_adapters():
    assert "precision" not in of(make_context(LAPTOP))
    assert "precision" not in of(make_context(QUICK, adapter={"enabled": False}))
    assert "precision" not in of(make_context(QUICK, replace(STARTER, kind="encoder-decoder")))


def test_activations_are_kept_only_where_they_fit():
    small = replace(WORKSTATION, gpus=[replace(CARD, total_gib=8.0, free_gib=7.5)])
    tight = make_context(
        small, LLAMA_8B, max_seq_length=512, summary=replace(ROWS, longest_chars=4000)
    )
    assert of(tight)["recomputing"].gib > 1
    assert "gradient_checkpointing" not in recommended_settings(tight)


def test_what_does_not_fit_is_made_to_fit():
    wide = replace(ROWS, mean_chars=3000, longest_chars=4000)
    card = replace(WORKSTATION, gpus=[replace(CARD, total_gib=12.0, free_gib=11.0)])
    context = make_context(
        card, LLAMA_8B, wide, per_device_train_batch_size=8, gradient_checkpointing=False
    )
    assert total_gib(context.memory) > context.available_gib
    assert recommended_settings(context)["gradient_checkpointing"] is True
    assert total_gib(after(context).memory) <= context.available_gib


def test_dropout_stays_where_rows_are_seen_again_and_kto_keeps_its_batch():
    assert "dropout" in of(make_context(QUICK))
    assert "dropout" not in of(make_context(QUICK, num_train_epochs=3))
    judged = make_context(QUICK, strategy="dpo", trainer={"preference_loss": "kto"})
    assert not {"batch", "padding", "grouping"} & set(of(judged))


def test_compiling_is_offered_for_long_runs_on_cards_that_can():
    can = replace(LARGE, packages=("triton", "cc", "Python.h", "flash_attn"))
    whole = {"use_4bit": False}
    assert "compiling" in of(make_context(can, LLAMA_8B, max_steps=5000, **whole))
    assert "compiling" not in of(make_context(can, LLAMA_8B, max_steps=10, **whole))
    assert "compiling" not in of(make_context(LARGE, LLAMA_8B, max_steps=5000, **whole))
    bare = replace(can, packages=("triton", "flash_attn"))
    assert "compiling" not in of(make_context(bare, LLAMA_8B, max_steps=5000, **whole))
    assert "attention" in of(make_context(can, LLAMA_8B))


def test_an_unknown_speed_has_no_speed_settings():
    context = make_context(summary=None)
    assert list_speedups(context) == []
    assert recommended_settings(context) == {}
    assert tokens_per_s(context) is None
