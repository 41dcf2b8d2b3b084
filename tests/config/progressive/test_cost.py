"""Parameters and FLOPs of stages, against those of training everything at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.pretraining.shape import Architecture, shape_of_depth
from modelforge.config.progressive.adapter_sizes import AdapterSize, StackSizes
from modelforge.config.progressive.cost import LayerSizes, sizes_of_shape, stage_cost
from modelforge.config.progressive.stages import Direction, Growth, Trunk, stage_plans

# Two matrices of 12 and 6 weights, one vector; 100 weights in embedding and head each.
SIZES = LayerSizes(((3, 4), (2, 3)), 5, 7, embedding=100, is_tied=False, scores=10)
GROWTH = Growth(base_layers=2, stages=2, layers_per_stage=1)


def costs(growth, sizes=SIZES, **options):
    return [stage_cost(stage, sizes, **options) for stage in stage_plans(growth)]


@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("is_tied", [False, True])
def test_the_joint_stage_costs_what_a_training_from_nothing_does(architecture, is_tied):
    sizes = {"aspect_ratio": 64, "head_dim": 32, "vocab_size": 512, "context": 64}
    shape = shape_of_depth(6, **sizes, architecture=architecture, window_pattern="SL")
    shape = replace(shape, is_tied=is_tied)
    *_, joint = costs(Growth(2, 2, 2, ends_jointly=True), sizes_of_shape(shape))
    assert joint.parameters == joint.trained == shape.parameters
    assert joint.flops_per_token == shape.flops_per_token


def test_appended_stages_have_a_backward_pass_through_the_new_layers_alone():
    first, second = costs(GROWTH)
    assert (first.parameters, second.parameters) == (3 * 23 + 207, 4 * 23 + 207)
    assert first.trained == second.trained == 23
    # Forward through 4 layers, two gradients in 1; the frozen head has one gradient.
    assert second.flops_per_token == 18 * 2 * (4 + 1 + 1) + 10 * (4 * 4 + 8) + 100 * 2 * 2


def test_a_cached_trunk_has_no_forward_pass():
    cached = costs(GROWTH, is_cached=True)[1]
    assert cached.flops_per_token == 18 * 2 * 3 + 10 * 12 + 400


def test_prepended_stages_have_gradients_of_inputs_in_all_layers():
    second = costs(replace(GROWTH, direction=Direction.PREPEND))[1]
    assert second.trained == 23
    assert second.flops_per_token == 18 * 2 * (4 + 4 + 1) + 10 * 12 * 4 + 400


def test_adapters_have_rank_times_inputs_and_outputs():
    growth = replace(
        GROWTH,
        trunk=Trunk.LORA,
        stack_sizes=StackSizes(AdapterSize(16, 32)),
        trunk_size=AdapterSize(8, 16),
    )
    second = costs(growth)[1]
    # 12 inputs and outputs of a layer: two stacks of rank 16, three layers of rank 8.
    assert second.adapters == 12 * (16 * 2 + 8 * 3)
    assert second.trained == 23 + second.adapters
    flops = 18 * 2 * (4 + 4 + 1) + 10 * 12 * 4 + 400 + 6 * second.adapters
    assert second.flops_per_token == flops


@pytest.mark.parametrize(
    ("is_tied", "freezes", "trained"),
    [(False, False, 207), (False, True, 107), (True, False, 107), (True, True, 7)],
)
def test_the_first_stage_from_nothing_trains_the_head_too(is_tied, freezes, trained):
    growth = replace(GROWTH, base_layers=0, freezes_embeddings=freezes)
    first, second = costs(growth, replace(SIZES, is_tied=is_tied))
    assert first.trained == 23 + trained
    assert second.trained == 23
    trains_head = not (is_tied and freezes)
    assert first.flops_per_token == 18 * 6 + 10 * 12 + 200 * (2 + trains_head)
