"""Batches of learning from rewards: whole prompts, and no more of them than there are."""

from __future__ import annotations

import pytest

from modelforge.config.plan.training import generation_batching
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
