"""Batches of learning from rewards, and what the plan changes in the settings of training."""

from __future__ import annotations

import pytest

from modelforge.config.plan.context import ChangeLog
from modelforge.config.plan.run_length import packed_rows, reward_steps
from modelforge.config.plan.training import (
    effective_eval_batch_size,
    generation_batching,
    lora_dropout,
    scheduler,
)
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError


@pytest.mark.parametrize(
    ("asked", "prompts", "accumulation", "per_update"),
    [
        ((1, 4, 2), 100, 4, 2),
        ((1, 1, 2), 100, 2, 1),
        ((2, 1, 2), 100, 1, 1),
        ((4, 3, 8), 100, 4, 2),
        ((3, 1, 4), 100, 4, 3),
        ((8, 1, 4), 100, 1, 2),
        ((1, 16, 2), 3, 6, 3),
        ((1, 16, 2), 1, 2, 1),
        ((1, 16, 2), None, 16, 8),
    ],
)
def test_every_update_holds_whole_prompts_and_no_more_than_there_are(
    asked, prompts, accumulation, per_update
):
    layout = generation_batching(*asked, prompts)
    assert (layout.accumulation, layout.prompts) == (accumulation, per_update)
    assert layout.completions % layout.generations == 0
    if prompts is not None:
        assert layout.steps(prompts) >= 1


def test_a_batch_for_more_prompts_than_there_are_cannot_be_laid_out():
    with pytest.raises(ConfigError) as refused:
        generation_batching(16, 1, 2, 3)
    assert refused.value.problems[0].where == "per_device_train_batch_size"
    assert "needs 8 prompts" in refused.value.problems[0].what
    assert generation_batching(2, 1, 2, 1).prompts == 1


@pytest.mark.parametrize(
    ("settings", "rows", "steps"),
    [
        ({}, 72, 18),
        ({"gradient_accumulation_steps": 2}, 72, 36),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}, 73, 19),
        # The accumulation is raised to hold all completions of a prompt, in both stages.
        ({"gradient_accumulation_steps": 1}, 72, 36),
        ({"trainer": {"reward_epochs": 3}}, 72, 54),
        ({"max_steps": 6}, 72, 18),
        ({}, None, None),
        ({"trainer": {"reward": "length"}}, 72, None),
        ({"trainer": {"reward_model": "a-model"}}, 72, None),
        ({"strategy": "dpo"}, 72, None),
    ],
)
def test_the_steps_that_train_a_reward_model_are_known_before(settings, rows, steps):
    fields = {"task": "text-generation", "model_name": "m", "dataset": "d"}
    usual = {"compute_specs": "low_end", "strategy": "rlhf", "use_4bit": False}
    config = TrainingConfig(**fields, **usual | settings)
    assert reward_steps(config, rows) == steps


@pytest.mark.parametrize(
    ("rows", "row_tokens", "sequences"),
    [(1, 10, 1), (0, 10, 1), (97, 100, 20), (98, 100, 21), (3, 5000, 4)],
)
def test_packed_sequences_are_97_percent_full_and_at_least_one(rows, row_tokens, sequences):
    assert packed_rows(rows, row_tokens, 500) == sequences


@pytest.mark.parametrize(
    ("settings", "dropout"),
    [
        ({"strategy": "dpo"}, 0.0),
        ({"strategy": "dpo", "lora_dropout": 0}, None),
        ({"strategy": "dpo", "adapter": {"enabled": False}}, None),
        ({"strategy": "sft"}, None),
        ({"strategy": "rlhf"}, None),
    ],
)
def test_methods_that_compare_answers_train_without_dropout(minimal, settings, dropout):
    config = TrainingConfig(**minimal | {"lora_dropout": 0.1, "use_4bit": False} | settings)
    lora_dropout(config, log := ChangeLog(config))
    used = {change.where: change.used for change in log.changes}
    assert used == ({} if dropout is None else {"lora_dropout": dropout})


@pytest.mark.parametrize(("steps", "name"), [(0, "constant"), (1, "constant_with_warmup")])
def test_one_step_of_warm_up_is_kept_by_a_constant_rate(minimal, steps, name):
    values = {"lr_scheduler_type": "constant", "schedule": {"warmup_steps": steps}}
    config = TrainingConfig(**minimal | values)
    assert scheduler(config, ChangeLog(config))[0] == name


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 4),
        ({"gradient_accumulation_steps": 2}, 2),
        ({"per_device_eval_batch_size": 1}, 1),
        ({"strategy": "sft"}, 1),
    ],
)
def test_up_to_four_completions_are_generated_together_in_an_evaluation(minimal, settings, size):
    usual = {"strategy": "rlhf", "use_4bit": False, "gradient_accumulation_steps": 8}
    config = TrainingConfig(**minimal | usual | settings)
    assert effective_eval_batch_size(config) == size
