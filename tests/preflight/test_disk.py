from __future__ import annotations

import pytest

from modelforge.preflight.disk import disk_needed_gib
from tests.preflight.contexts import LAPTOP, LLAMA_8B, STARTER, WORKSTATION, make_context


def needed(machine, model, **settings):
    context = make_context(machine, model, **settings)
    return disk_needed_gib(context.config, context.plan, model)


def test_a_run_of_the_starter_writes_a_few_hundred_mebibytes():
    assert 0.1 < needed(LAPTOP, STARTER) < 0.5


def test_a_model_that_must_be_fetched_counts():
    assert needed(WORKSTATION, LLAMA_8B) > LLAMA_8B.weights_gib


def test_a_larger_adapter_and_its_optimizer_count_once_a_checkpoint():
    small, large = needed(LAPTOP, STARTER, lora_r=8), needed(LAPTOP, STARTER, lora_r=256)
    assert large > 10 * (small - 0.1)
    assert needed(LAPTOP, STARTER, lora_r=256, optim="sgd") < large


def test_every_checkpoint_that_is_kept_counts():
    often = {"num_train_epochs": 50, "eval_steps": 10}
    three, nine = (
        needed(LAPTOP, STARTER, **often, trainer={"save_total_limit": kept}) for kept in (3, 9)
    )
    one = needed(LAPTOP, STARTER, **often, trainer={"save_total_limit": 1})
    # The best stays beside the newest, and one more is there while it is written.
    assert (nine - three) / 6 > 0.05
    assert one < three
    at_the_end = {"trainer": {"save_steps": -1}, "evaluation": {"keep_best": False}}
    assert needed(LAPTOP, STARTER, **often, **at_the_end) < one


def test_a_merged_model_is_written_beside_the_adapter():
    merged = {"adapter": {"merge_after_training": True}}
    more = needed(WORKSTATION, LLAMA_8B, **merged) - needed(WORKSTATION, LLAMA_8B)
    assert more == pytest.approx(LLAMA_8B.weights_gib)
    whole = {"adapter": {"enabled": False, "merge_after_training": True}, "use_4bit": False}
    plain = {"adapter": {"enabled": False}, "use_4bit": False}
    assert needed(LAPTOP, STARTER, **whole) == needed(LAPTOP, STARTER, **plain)
