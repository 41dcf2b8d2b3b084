"""Stages of growing a model, the sizes of their adapters, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.progressive.adapter_sizes import (
    AdapterSize,
    Pattern,
    SizeStrategy,
    StackSizes,
)
from modelforge.config.progressive.checks import (
    dtype_problem,
    growth_problems,
    model_problems,
    stages_of_blocks,
)
from modelforge.config.progressive.stages import (
    Direction,
    Growth,
    Mode,
    RateGroup,
    Trunk,
    stage_plans,
)
from modelforge.errors import ConfigError

GROWTH = Growth(base_layers=4, stages=3, layers_per_stage=2)
BOTH = replace(GROWTH, trunk=Trunk.LORA, stack_sizes=StackSizes(), trunk_size=AdapterSize(8, 16))
PREPEND = {"direction": Direction.PREPEND}


def wheres(growth, model_type="llama"):
    problems = [*model_problems(growth, model_type), *growth_problems(growth)]
    return [problem.where for problem in problems]


def test_appended_stacks_train_alone_and_the_layers_below_are_frozen():
    stages = stage_plans(GROWTH)
    assert [stage.layers for stage in stages] == [6, 8, 10]
    assert [list(stage.new_layers) for stage in stages] == [[4, 5], [6, 7], [8, 9]]
    assert [stage.trained_layers for stage in stages] == [(4, 5), (6, 7), (8, 9)]
    assert stages[1].frozen_layers == (0, 1, 2, 3, 4, 5)
    assert [stage.first_saved_layer for stage in stages] == [4, 6, 8]
    assert stages[2].saved_share == pytest.approx(0.2)
    assert all(stage.has_fixed_trunk for stage in stages)
    assert all(stage.rate_groups == (RateGroup.BLOCK,) for stage in stages)


def test_gradients_pass_through_the_layers_above_prepended_stacks():
    stages = stage_plans(replace(GROWTH, **PREPEND))
    assert [list(stage.new_layers) for stage in stages] == [[0, 1]] * 3
    assert stages[1].frozen_layers == (2, 3, 4, 5, 6, 7)
    assert stages[1].saved_share == 1
    assert not stages[1].has_fixed_trunk


def test_a_stack_moves_up_when_others_are_prepended():
    growth = replace(GROWTH, **PREPEND)
    assert [list(growth.stack_layers(0, stage)) for stage in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert list(GROWTH.stack_layers(0, 2)) == [4, 5]


def test_from_nothing_only_the_first_stage_trains_embeddings_and_head():
    nothing = replace(GROWTH, base_layers=0)
    stages = stage_plans(nothing)
    assert [stage.layers for stage in stages] == [2, 4, 6]
    assert [stage.trains_embeddings for stage in stages] == [True, False, False]
    assert [stage.trains_head for stage in stages] == [True, False, False]
    assert [stage.has_fixed_trunk for stage in stages] == [False, True, True]
    assert stages[0].rate_groups == (RateGroup.TRUNK, RateGroup.BLOCK)
    borrowed = stage_plans(replace(nothing, freezes_embeddings=True))[0]
    assert (borrowed.trains_embeddings, borrowed.trains_head) == (False, True)


def test_the_joint_stage_trains_every_weight_and_adds_no_layer():
    *stages, joint = stage_plans(replace(BOTH, ends_jointly=True))
    assert joint.is_joint
    assert not any(stage.is_joint for stage in stages)
    assert (joint.index, joint.layers) == (3, 10)
    assert joint.trained_layers == tuple(range(10))
    assert joint.trains_embeddings
    assert joint.trains_head
    assert joint.adapters == ()
    assert joint.rate_groups == (RateGroup.TRUNK,)


def test_a_trunk_with_lora_has_both_adapters_and_a_frozen_one_that_of_the_new_stack():
    stage = stage_plans(BOTH)[1]
    stack, trunk = stage.adapters
    assert (stack.name, sorted(stack.sizes)) == ("stack", [4, 5, 6, 7])
    assert (trunk.name, sorted(trunk.sizes)) == ("trunk", [0, 1, 2, 3, 4, 5])
    assert set(trunk.sizes.values()) == {AdapterSize(8, 16)}
    assert stage.full_layers == range(6, 8)
    assert stage.trained_layers == tuple(range(8))
    assert stage.rate_groups == (RateGroup.BLOCK, RateGroup.ADAPTERS)
    assert [stage.rate_group(layer) for layer in (5, 6)] == [RateGroup.TRUNK, RateGroup.BLOCK]
    (only,) = stage_plans(replace(BOTH, trunk=Trunk.FROZEN))[1].adapters
    assert (only.name, sorted(only.sizes)) == ("stack", [6, 7])


def test_the_first_stage_from_nothing_has_no_trunk_for_an_adapter():
    first, second, _ = stage_plans(replace(BOTH, base_layers=0))
    assert [adapter.name for adapter in first.adapters] == ["stack"]
    assert [adapter.name for adapter in second.adapters] == ["stack", "trunk"]


def test_prepended_stacks_keep_their_sizes():
    sizes = StackSizes(strategy=SizeStrategy.PATTERN, rank_pattern=Pattern.INCREASING)
    stage = stage_plans(replace(BOTH, **PREPEND, stack_sizes=sizes))[2]
    ranks = {layer: size.rank for layer, size in stage.adapters[0].sizes.items()}
    assert ranks == {0: 64, 1: 64, 2: 32, 3: 32, 4: 16, 5: 16}
    assert sorted(stage.adapters[1].sizes) == list(range(2, 10))


@pytest.mark.parametrize(
    ("pattern", "ranks", "alphas"),
    [
        (Pattern.CONSTANT, [16, 16, 16, 16, 16, 16], [32, 32, 32, 32, 32, 32]),
        (Pattern.INCREASING, [16, 32, 64, 128, 256, 256], [32, 64, 128, 256, 256, 256]),
        (Pattern.DECREASING, [16, 8, 4, 2, 1, 1], [32, 16, 8, 4, 2, 1]),
        (Pattern.LINEAR, [16, 24, 32, 40, 48, 56], [32, 48, 64, 80, 96, 112]),
    ],
)
def test_a_pattern_gives_rank_and_alpha_by_its_formula(pattern, ranks, alphas):
    sizes = StackSizes(strategy=SizeStrategy.PATTERN, rank_pattern=pattern, alpha_pattern=pattern)
    assert [sizes.of(stack).rank for stack in range(6)] == ranks
    assert [sizes.of(stack).alpha for stack in range(6)] == alphas
    only_rank = replace(sizes, alpha_pattern=Pattern.CONSTANT)
    assert [only_rank.of(stack).alpha for stack in range(6)] == [32] * 6
    uniform = replace(sizes, strategy=SizeStrategy.UNIFORM)
    assert {uniform.of(stack) for stack in range(6)} == {AdapterSize(16, 32)}


def test_a_table_gives_the_sizes_of_its_stacks():
    table = {0: AdapterSize(8, 16), 1: AdapterSize(16, 32), 2: AdapterSize(32, 64)}
    sizes = StackSizes(strategy=SizeStrategy.TABLE, table=table)
    assert [sizes.of(stack) for stack in range(3)] == list(table.values())
    assert wheres(replace(GROWTH, stack_sizes=sizes)) == []
    assert wheres(replace(GROWTH, stages=4, stack_sizes=sizes)) == ["progressive.per_stage"]


@pytest.mark.parametrize(
    ("stacks", "what"), [((0, 2), "Stack 1 is missing"), ((0, 1, 2, 3), "It has stack 3")]
)
def test_a_table_has_every_stack_and_no_other(stacks, what):
    table = dict.fromkeys(stacks, AdapterSize(8, 16))
    sizes = StackSizes(strategy=SizeStrategy.TABLE, table=table)
    (problem,) = growth_problems(replace(GROWTH, stack_sizes=sizes))
    assert problem.where == "progressive.per_stage"
    assert problem.what.startswith(what)


def test_ranks_and_alphas_are_from_1_to_256():
    large, table = AdapterSize(257, 0), dict.fromkeys(range(3), AdapterSize(256, 1))
    assert wheres(replace(BOTH, stack_sizes=StackSizes(large), trunk_size=large)) == [
        "progressive.stack_rank",
        "progressive.stack_alpha",
        "progressive.trunk_rank",
        "progressive.trunk_alpha",
    ]
    sizes = StackSizes(large, SizeStrategy.TABLE, table=table)
    assert wheres(replace(GROWTH, stack_sizes=sizes)) == []
    sizes = replace(sizes, table={**table, 1: large})
    assert wheres(replace(GROWTH, stack_sizes=sizes)) == [
        "progressive.per_stage[1].rank",
        "progressive.per_stage[1].alpha",
    ]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"mode": Mode.LAYERWISE}, "progressive.layers_per_stage"),
        ({"mode": Mode.BLOCKWISE, "trunk": Trunk.LORA}, "progressive.trunk"),
        ({"mode": Mode.BLOCKWISE, **PREPEND}, "progressive.direction"),
        ({"trunk": Trunk.LORA, "stack_sizes": None, "trunk_size": None}, "progressive.trunk"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, where):
    assert wheres(replace(BOTH, trunk=Trunk.FROZEN)) == []
    assert wheres(replace(BOTH, **{"trunk": Trunk.FROZEN, **changes})) == [where]


def test_layerwise_and_blockwise_stages_are_appended_stacks():
    layerwise = Growth(base_layers=0, stages=3, layers_per_stage=1, mode=Mode.LAYERWISE)
    assert wheres(layerwise) == []
    assert [stage.trained_layers for stage in stage_plans(layerwise)] == [(0,), (1,), (2,)]


def test_only_models_with_known_layers_grow():
    assert wheres(GROWTH, "qwen3") == []
    assert wheres(GROWTH, "bloom") == ["model_name"]
    assert wheres(GROWTH, "gpt2") == ["model_name"]
    assert wheres(replace(GROWTH, **PREPEND), "gpt2") == ["progressive.direction", "model_name"]


@pytest.mark.parametrize(
    ("blocks", "stages"),
    [
        ((12, 3, 4), (3, 4)),
        ((12, 3, None), (3, 4)),
        ((12, None, 4), (3, 4)),
        ((None, 3, None), (3, 4)),
        ((None, None, 3), (2, 3)),
        ((None, None, None), (2, 4)),
        ((4, None, None), (2, 4)),
    ],
)
def test_blocks_give_stages_and_layers_per_stage(blocks, stages):
    assert stages_of_blocks(*blocks) == stages


@pytest.mark.parametrize(
    ("blocks", "where"),
    [((12, 3, 3), "n_layers"), ((12, 5, None), "total_blocks"), ((12, None, 5), "block_size")],
)
def test_blocks_that_do_not_divide_the_layers_are_refused(blocks, where):
    with pytest.raises(ConfigError) as error:
        stages_of_blocks(*blocks)
    assert [problem.where for problem in error.value.problems] == [where]


def test_a_trained_stack_is_not_in_nvfp4():
    assert dtype_problem("full") is dtype_problem("bfloat16") is None
    assert "small updates" in dtype_problem("half").what
    assert "cannot be trained" in dtype_problem("nvfp4").what
    assert "adapter" in dtype_problem("qlora").what
    assert "'int8'" in dtype_problem("int8").what
