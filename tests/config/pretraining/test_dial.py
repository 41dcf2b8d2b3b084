"""What a depth gives: the numbers of nanochat, the precedence of horizons, and windows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.pretraining import horizon as h
from modelforge.config.pretraining.shape import (
    Architecture,
    layer_types,
    shape_of_depth,
    windows_of,
)

# Depth → scaling parameters in millions, tokens of a step, steps.
NANOCHAT = {
    4: (11.5, 2**18, 462),
    6: (23.2, 2**18, 929),
    8: (41.9, 2**18, 1_680),
    12: (110, 2**19, 2_205),
    20: (435, 2**20, 4_357),
    24: (730, 2**20, 7_308),
}


def nanochat(depth, **more):
    sizes = {"aspect_ratio": 64, "head_dim": 128, "vocab_size": 32_768, "context": 2_048}
    return shape_of_depth(depth, **{**sizes, **more})


@pytest.mark.parametrize("depth", NANOCHAT)
def test_a_depth_gives_the_numbers_of_nanochat(depth):
    millions, batch, steps = NANOCHAT[depth]
    shape = nanochat(depth)
    assert shape.scaling_parameters / 1e6 == pytest.approx(millions, rel=0.005)
    assert h.best_batch(shape, nanochat(12)) == batch
    assert h.horizon(shape, batch, ratio=10.5).steps == steps


def test_flops_of_a_token_count_the_windows():
    assert nanochat(4).flops_per_token == 94_371_840
    assert nanochat(4, window_pattern="SSSL").flops_per_token == 84_934_656


def test_the_width_is_rounded_up_to_whole_heads():
    shape = nanochat(3, aspect_ratio=64, head_dim=128)
    assert (shape.width, shape.heads) == (256, 2)


def test_steps_rule_over_flops_and_flops_over_tokens_per_parameter():
    shape = nanochat(4)
    batch = 2**18
    all_three = {"steps": 10, "target_flops": 1e15, "ratio": 10.5}
    by_steps = h.horizon(shape, batch, **all_three)
    assert (by_steps.measure, by_steps.steps) == (h.Measure.STEPS, 10)
    by_flops = h.horizon(shape, batch, **{**all_three, "steps": -1})
    assert by_flops.measure is h.Measure.FLOPS
    assert by_flops.steps == round(1e15 / (94_371_840 * batch))
    by_ratio = h.horizon(shape, batch, ratio=10.5)
    assert by_ratio.measure is h.Measure.RATIO
    assert by_ratio.ratio == pytest.approx(10.5, rel=0.01)
    with pytest.raises(ValueError, match="tokens per parameter"):
        h.horizon(shape, batch)


def test_the_last_layer_sees_everything():
    assert windows_of("SSSL", 6, 2048) == (1024, 1024, 1024, 2048, 1024, 2048)
    assert windows_of("S", 2, 8) == (4, 8)
    assert layer_types((4, 8), 8) == ["sliding_attention", "full_attention"]


def test_learning_rates_follow_the_square_root_of_the_batch():
    assert h.rate_factor(2**19) == 1.0
    assert h.rate_factor(2**17) == 0.5


def test_a_short_training_gets_a_batch_that_leaves_it_enough_steps():
    tokens = 15_000_000
    batch = h.largest_batch(tokens)
    assert tokens // batch >= h.LEAST_STEPS > tokens // (2 * batch)


@pytest.mark.torch
@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("is_tied", [False, True])
def test_parameters_are_those_of_the_model_that_is_built(architecture, is_tied):
    from modelforge.modeling.pretraining.build import build_model

    shape = replace(
        nanochat(2, vocab_size=512, context=64, head_dim=64, architecture=architecture),
        is_tied=is_tied,
    )
    model = build_model(shape)
    assert sum(weight.numel() for weight in model.parameters()) == shape.parameters
