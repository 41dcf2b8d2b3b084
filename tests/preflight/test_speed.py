from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from modelforge.data.sources.combine import RunData
from modelforge.preflight.duration import (
    estimate_seconds,
    eval_time_ratio,
    longest_seconds,
    sample_seconds,
)
from modelforge.preflight.speed import (
    estimate_step,
    estimate_tokens,
    flops_per_s,
    max_tokens,
    muon_flops,
)
from modelforge.preflight.suggest.speedups import tokens_per_s
from tests.preflight.contexts import (
    CARD,
    LAPTOP,
    LLAMA_8B,
    ROWS,
    STARTER,
    WORKSTATION,
    make_context,
)


def with_card(**changed):
    return replace(WORKSTATION, gpus=[replace(CARD, **changed)])


def test_sixty_updates_of_the_starter_on_two_cores_take_about_three_minutes():
    context = make_context(
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        max_seq_length=128,
        packing=True,
        max_steps=60,
        eval_split=0,
        evaluation={"samples": 0},
    )
    assert estimate_seconds(context) == pytest.approx(180, rel=0.15)


@pytest.mark.parametrize(
    ("quick", "slow"),
    [
        ({"max_steps": 10}, {"max_steps": 100}),
        ({"gradient_checkpointing": False}, {"gradient_checkpointing": True}),
        ({"eval_split": 0, "max_steps": 50}, {"eval_split": 0.5, "eval_steps": 5, "max_steps": 50}),
        ({"use_4bit": False}, {"use_4bit": True}),
        ({"lora_r": 8}, {"lora_r": 256}),
        ({"memory": {"checkpoint_every_n_layers": 3}}, {}),
        ({"optim": "adamw_torch"}, {"optim": "muon"}),
    ],
)
def test_longer_work_is_estimated_longer(quick, slow):
    assert estimate_seconds(make_context(**quick)) < estimate_seconds(make_context(**slow))


def test_muon_orthogonalizes_every_matrix_once_an_update():
    full = {"adapter": {"enabled": False}, "use_4bit": False, "optim": "normuon"}
    context = make_context(WORKSTATION, LLAMA_8B, **full)
    found = muon_flops(context.config, context.plan, LLAMA_8B)
    # Of one block: two of 4096 x 4096, two of 4096 x 1024 and three of 4096 x 14336.
    sides = [(4096, 4096)] * 2 + [(1024, 4096)] * 2 + [(4096, 14336)] * 3
    assert found == 5 * 32 * sum(4 * m * m * n + 2 * m**3 for m, n in sides)
    with_adapter = make_context(WORKSTATION, LLAMA_8B, optim="muon")
    assert 0 < muon_flops(with_adapter.config, with_adapter.plan, LLAMA_8B) < found / 1000
    assert muon_flops(make_context().config, make_context().plan, STARTER) == 0


def test_more_cores_and_better_cards_are_quicker():
    eight = make_context(replace(LAPTOP, cores=8))
    assert estimate_seconds(eight) < estimate_seconds(make_context())
    old = make_context(with_card(compute_capability=(8, 6)), LLAMA_8B)
    new = make_context(with_card(compute_capability=(9, 0)), LLAMA_8B)
    assert estimate_seconds(new) < estimate_seconds(old)


def test_a_small_model_on_a_card_is_not_estimated_at_no_time():
    context = make_context(WORKSTATION, STARTER, max_steps=100)
    assert estimate_seconds(context) > 30


def test_loading_a_small_model_takes_seconds_and_a_large_one_longer():
    one_step = {"max_steps": 1, "eval_split": 0}
    assert 5 < estimate_seconds(make_context(**one_step)) < 30
    small = estimate_seconds(make_context(WORKSTATION, **one_step))
    assert 5 < small < 30
    assert 25 < estimate_seconds(make_context(WORKSTATION, LLAMA_8B, **one_step)) - small < 60


@pytest.mark.parametrize(
    "context",
    [
        make_context(with_card(compute_capability=None)),
        make_context(with_card(compute_capability=(6, 1))),
        make_context(replace(LAPTOP, apple_gpu=True)),
        make_context(info=replace(STARTER, parameters=None)),
    ],
    ids=["unknown card", "old card", "Apple GPU", "unknown model"],
)
def test_what_is_unknown_is_left_out(context):
    assert estimate_seconds(context) is None


def test_a_cpu_that_no_run_has_measured_may_take_longer():
    context = make_context()
    assert longest_seconds(context) == pytest.approx(3 * estimate_seconds(context))
    assert longest_seconds(replace(context, step_time_factor=2.0)) is None
    assert longest_seconds(make_context(WORKSTATION, LLAMA_8B)) is None
    assert longest_seconds(make_context(info=replace(STARTER, parameters=None))) is None


@pytest.mark.parametrize("settings", [{}, {"eval_split": 0}])
def test_earlier_runs_correct_the_time_of_steps_and_evaluations_but_not_of_loading(settings):
    context = make_context(max_steps=100, **settings)
    loading = 8.0 + 2 * STARTER.weights_gib
    work = estimate_seconds(context) - loading
    slower = replace(context, step_time_factor=2.5)
    assert estimate_seconds(slower) == pytest.approx(2.5 * work + loading)
    assert tokens_per_s(slower) == pytest.approx(tokens_per_s(context) / 2.5, abs=0.1)
    faster = slower.with_settings({"gradient_checkpointing": False})
    assert faster.step_time_factor == 2.5, "it holds for other settings"


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        ({"samples": 0}, 0),
        ({"samples": 3}, 3),
        ({"samples": 3, "sample_tokens": 128}, 6),
        ({"samples": 1, "sample_prompts": "Who?\nWhat?"}, 3),
    ],
)
def test_sample_prompts_are_part_of_the_time_of_a_run(settings, rounds):
    """Each answer takes about 0.075 s per token on two cores, at step 0, 50 and 60."""
    shared = {"max_steps": 60, "eval_steps": 50}
    context = make_context(machine=LAPTOP, **shared, evaluation=settings)
    without = make_context(machine=LAPTOP, **shared, evaluation={"samples": 0})
    added = estimate_seconds(context) - estimate_seconds(without)
    assert added == pytest.approx(sample_seconds(context))
    assert added == pytest.approx(64 * 0.075 * rounds, rel=0.6)
    assert (added > 0) == (rounds > 0)


def test_unknown_rows_give_no_time():
    context = make_context(summary=None)
    assert context.plan.total_steps is None
    assert estimate_seconds(replace(context, summary=ROWS)) is None


def test_the_upper_bound_of_tokens_lies_above_the_usual_number():
    assert max_tokens(400) > estimate_tokens(400) > 100


def test_a_reference_model_takes_its_time_and_rewards_cannot_be_foreseen():
    plainly, compared = (
        make_context(max_steps=100, eval_split=0),
        make_context(strategy="dpo", max_steps=100, eval_split=0),
    )
    assert 1.3 < estimate_seconds(compared) / estimate_seconds(plainly) < 1.5
    assert estimate_seconds(make_context(strategy="rlhf")) is None


def test_a_gtx_16_has_no_tensor_cores():
    with_them, without = (
        flops_per_s(make_context(with_card(name=name, compute_capability=(7, 5)), LLAMA_8B))
        for name in ("NVIDIA GeForce RTX 2060", "NVIDIA GeForce GTX 1660 SUPER")
    )
    assert without < with_them / 3


def test_evaluations_of_validation_sources_take_their_time():
    held_out = {"validation_sources": [{"path": "held-out.jsonl"}]}
    context = make_context(max_steps=100, eval_steps=10, eval_split=0, data=held_out)
    short, long = (
        replace(context, data=RunData(validation=[SimpleNamespace(rows=rows)]))
        for rows in (10, 1000)
    )
    assert eval_time_ratio(long) == pytest.approx(100 * eval_time_ratio(short))
    assert eval_time_ratio(short) > 0


COMPILING = replace(WORKSTATION, packages=("cc", "Python.h", "triton"))


def compiled(info=LLAMA_8B, **settings):
    # The packages of a machine are known to plans that are made again.
    context = make_context(COMPILING, info, use_4bit=False, max_steps=10)
    return context.with_settings({"trainer.torch_compile": True, **settings})


def test_one_layer_is_compiled_sooner_than_all():
    every, once = compiled(), compiled(**{"hardware.regional_compilation": True})
    assert every.plan.torch_compile
    assert once.plan.torch_compile
    assert estimate_seconds(every) - estimate_seconds(once) == pytest.approx(30 * 1.4)


def test_a_cuda_graph_launches_all_kernels_of_a_small_step_at_once():
    def seconds(mode):
        settings = {"hardware.torch_compile_mode": mode, "max_seq_length": 64}
        context = compiled(STARTER, **settings)
        assert context.plan.torch_compile_mode == mode
        return estimate_step(context).seconds

    assert seconds("reduce-overhead") < seconds("default") / 2


def test_offloaded_inputs_are_copied_while_nothing_is_computed():
    def seconds(**settings):
        return estimate_step(make_context(WORKSTATION, LLAMA_8B, **settings)).seconds

    offload = {"memory": {"activation_offload": True}}
    assert seconds(**offload) > seconds()
    without = {"gradient_checkpointing": False}
    assert seconds(**without, **offload) == seconds(**without)


def test_products_in_fp8_are_faster_in_a_compiled_model_alone():
    def flops(context):
        return flops_per_s(context)

    fp8 = {"quantization.fp8_training": True}
    assert flops(compiled(**fp8)) > flops(compiled())
    rowwise = {**fp8, "quantization.fp8_recipe": "rowwise"}
    assert flops(compiled(**rowwise)) < flops(compiled(**fp8))
    plain = {"trainer.torch_compile": False}
    assert flops(compiled(**plain, **fp8)) < flops(compiled(**plain))
    assert flops(make_context(quantization={"fp8_training": True})) < flops(make_context())


def test_packed_rows_without_a_mask_attend_to_themselves_alone():
    def seconds(attention):
        settings = {"model.attn_implementation": attention, "packing": True}
        context = make_context(WORKSTATION, LLAMA_8B).with_settings(settings)
        assert context.plan.attn_implementation == attention
        return estimate_step(context).seconds

    assert seconds("varlen") < seconds("sdpa")
