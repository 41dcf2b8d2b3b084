"""Batches of learning from rewards: whole prompts, and no more of them than there are."""

from __future__ import annotations

import pytest

from modelforge.config.plan.training import generation_batching, reward_steps
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
