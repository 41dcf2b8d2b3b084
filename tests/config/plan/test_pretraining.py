"""The plan of a training from nothing: which measure decides, its batch and its rates."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import Plan, make_plan
from modelforge.config.plan.pretraining import eval_tokens, text_tokens
from modelforge.config.schema.config import TrainingConfig

NANOCHAT = {
    "arch": "nanochat", "depth": 20, "aspect_ratio": 64, "head_dim": 128, "vocab_size": 32_768,
}  # fmt: skip
CONTEXT = PlanContext("cpu", "d6")
MODEL = {"task": "text-generation", "model_name": "m", "dataset": "d", "compute_specs": "low_end"}


def config(group=None, **settings):
    values = {"dataset": "text.txt", "compute_specs": "low_end", "max_seq_length": 512}
    return TrainingConfig(**values | settings, pretraining={"enabled": True, **(group or {})})


def plan_of(group=None, context=CONTEXT, **settings):
    return make_plan(config(group, **settings), context)


@pytest.mark.parametrize(
    ("depth", "batch", "steps"),
    [(4, 2**18, 462), (6, 2**18, 929), (12, 2**19, 2_205), (20, 2**20, 4_357), (24, 2**20, 7_308)],
)
def test_a_depth_gives_the_batch_and_the_steps_of_nanochat(depth, batch, steps):
    plan = plan_of({**NANOCHAT, "depth": depth}, max_seq_length=2048)
    assert (plan.pretraining.batch_tokens, plan.total_steps) == (batch, steps)
    assert plan.gradient_accumulation_steps * 16 * 2048 == batch
    assert plan.method == "pretraining"
    assert plan.trains == "all"


def test_the_plan_says_which_measure_decides_and_what_the_others_would_be():
    plan = plan_of({"target_flops": 1e15, "total_batch_tokens": 16_384}, max_steps=100)
    planned = plan.pretraining
    assert (plan.length_by, plan.total_steps) == ("max_steps", 100)
    by_flops = round(1e15 / (planned.shape.flops_per_token * 16_384))
    assert planned.other_steps["pretraining.target_flops"] == by_flops
    assert (
        planned.other_steps["pretraining.target_param_data_ratio"]
        == int(10.5 * planned.shape.scaling_parameters) // 16_384
    )
    plan = plan_of({"target_flops": 1e15, "total_batch_tokens": 16_384})
    assert (plan.length_by, plan.total_steps) == ("pretraining.target_flops", by_flops)
    assert list(plan.pretraining.other_steps) == ["pretraining.target_param_data_ratio"]
    (change,) = [each for each in plan.changes if each.where == "max_steps"]
    assert f"{by_flops:,} steps" in change.reason


def test_a_step_takes_at_most_a_sixteenth_of_the_text_and_leaves_enough_steps():
    small = replace(CONTEXT, train_rows=100, row_tokens=5_000.0)
    assert plan_of(context=small).pretraining.batch_tokens == 16_384
    tiny = plan_of({"depth": 2, "vocab_size": 512, "target_param_data_ratio": 10})
    assert tiny.total_steps >= 256


def test_a_text_smaller_than_a_batch_has_one_batch_for_a_step():
    small = replace(CONTEXT, train_rows=1, row_tokens=2_000.0)
    planned = plan_of(context=small).pretraining
    assert (planned.batch_tokens, planned.accumulation) == (16 * 512, 1)


def test_rates_follow_the_batch_and_those_of_embeddings_the_width():
    plan = plan_of({"depth": 3, "total_batch_tokens": 2**17})
    rates = plan.pretraining.rates
    assert rates.matrix == pytest.approx(0.02 / 2)
    assert rates.scalar == pytest.approx(0.02 / 2)
    assert rates.embedding == pytest.approx(0.3 / 2 * 2)  # a width of 192 is a quarter of 768
    assert rates.unembedding == pytest.approx(0.004 / 2 * 2)
    assert plan.learning_rate == pytest.approx(0.004 / 2)


def test_the_weight_decay_follows_the_depth():
    assert plan_of({**NANOCHAT, "depth": 24}).pretraining.weight_decay == pytest.approx(0.05)
    assert plan_of({"depth": 2}).pretraining.weight_decay == pytest.approx(0.8)


def test_own_sizes_replace_those_of_the_dial():
    group = {"d_model": 96, "n_heads": 4, "n_kv_heads": 2, "d_ff": 40, "n_layers": 3}
    shape = plan_of({**group, "tie_embeddings": True}).pretraining.shape
    assert (shape.layers, shape.width, shape.heads, shape.kv_heads) == (3, 96, 4, 2)
    assert (shape.head_dim, shape.mlp_width, shape.is_tied) == (24, 40, True)


def test_a_borrowed_tokenizer_decides_the_vocabulary():
    context = replace(CONTEXT, vocab_size=1_234)
    assert plan_of({"tokenizer": "starter"}, context).pretraining.shape.vocab_size == 1_234


def test_tokens_are_whole_numbers():
    context = replace(CONTEXT, train_rows=7, row_tokens=211_876.2381)
    plan = plan_of(context=context)
    assert (type(plan.tokens), type(plan.pretraining.text_tokens)) == (int, int)
    assert plan.pretraining.text_tokens == 1_483_134
    assert type(make_plan(TrainingConfig(**MODEL), context).tokens) is int


def test_an_evaluation_reads_what_is_set_or_a_share_of_the_training():
    assert eval_tokens(config(), 10**7) == 1_500_000
    assert eval_tokens(config(), 1_000) == 2**17
    assert eval_tokens(config(evaluation={"eval_tokens": 999}), 10**7) == 999


def test_a_plan_is_read_as_it_was_stored():
    settings = config({"arch": "qwen3", "window_pattern": "SSL"})
    plan = make_plan(settings, CONTEXT)
    stored = json.loads(json.dumps(plan.as_dict()))
    assert Plan.from_dict(stored, settings.explicit_values()) == plan


def test_other_trainings_have_no_such_plan(minimal):
    assert make_plan(TrainingConfig(**minimal), CONTEXT).pretraining is None


def test_larger_vocabularies_give_fewer_tokens():
    counts = [text_tokens(1e6, size) for size in (260, 1_024, 8_192, 32_768)]
    assert counts == sorted(counts, reverse=True)
    assert counts[2] == pytest.approx(1e6 / 3.72)


def test_a_short_training_is_evaluated_four_times_unless_the_interval_is_set():
    assert plan_of(max_steps=60).eval_steps == 15
    assert plan_of(max_steps=60, eval_steps=30).eval_steps == 30
    assert plan_of(max_steps=4_000).eval_steps == 100


def test_a_record_with_a_fraction_of_a_token_is_read():
    made = plan_of(context=replace(CONTEXT, train_rows=100, row_tokens=50.0))
    record = made.as_dict()
    record["pretraining"]["text_tokens"] += 0.8
    assert Plan.from_dict(record, {}).pretraining == made.pretraining
