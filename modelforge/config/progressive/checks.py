"""Checks of growing a model before it starts, and the number of stages from Stack-Wise's blocks."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.progressive.adapter_sizes import (
    LARGEST,
    AdapterSize,
    SizeStrategy,
    StackSizes,
)
from modelforge.config.progressive.stages import Direction, Growth, Mode, Trunk
from modelforge.errors import ConfigError, Problem

# Model types of Transformers whose decoder layers are known: rotary positions, a list of equal
# layers, and output projections that can be zeroed. SmolLM and SmolLM2 are of the type llama.
GROWABLE = frozenset({"deepseek_v3", "llama", "mistral", "nanochat", "qwen2", "qwen3", "smollm3"})
# Further model types that have position embeddings in front of their layers.
_ABSOLUTE = frozenset({"gpt2", "gpt_bigcode", "gpt_neo", "opt"})
# Stack-Wise's total_blocks and block_size when neither is set.
BLOCKS, BLOCK_SIZE = 2, 4
# Precision of a new stack: Stack-Wise's name -> dtype of torch.
DTYPES = {
    "full": "float32",
    **{dtype: dtype for dtype in ("float32", "bfloat16")},
}


def stages_of_blocks(
    layers: int | None, total_blocks: int | None, block_size: int | None
) -> tuple[int, int]:
    """Return stages and layers per stage; None is a value that is not set.

    With one of the two block values, the other follows from the layers. With neither, Stack-Wise
    trains 2 blocks of 4 layers, whatever the number of layers is.

    Raises:
        ConfigError: the blocks do not divide the layers, or their product is not the layers.
    """
    if layers and total_blocks and block_size and layers != total_blocks * block_size:
        product = total_blocks * block_size
        what = f"It is {layers}, and total_blocks times block_size is {product}."
        raise ConfigError(Problem("n_layers", what, "Make them equal."))
    given = total_blocks or block_size
    if layers and given:
        if layers % given:
            name = "total_blocks" if total_blocks else "block_size"
            what = f"{given} does not divide the {layers} layers."
            raise ConfigError(Problem(name, what, "Take a divisor of n_layers."))
        total_blocks = total_blocks or layers // given
        block_size = block_size or layers // given
    return total_blocks or BLOCKS, block_size or BLOCK_SIZE


def growth_problems(growth: Growth) -> list[Problem]:
    """Return what is wrong with a plan, whatever the model is."""
    return [*_mode_problems(growth), *_size_problems(growth)]


def dtype_problem(name: str) -> Problem | None:
    """Return what is wrong with the precision of new layers, if anything."""
    if name in DTYPES:
        return None
    half = "Weights in float16 lose small updates, and its gradient scaler does not train them."
    reasons = {
        "half": half,
        "float16": half,
        "nvfp4": "Weights in NVFP4 cannot be trained, and a new stack is.",
        "qlora": "It is an adapter, not a precision.",
    }
    what = reasons.get(name, f"{name[:40]!r} is not a precision of a new stack.")
    return Problem("progressive.new_layer_dtype", what, "Choose float32 or bfloat16.")


def model_problems(growth: Growth, model_type: str) -> Iterator[Problem]:
    """Yield what is wrong with a plan for a model of a type, such as `llama`."""
    if model_type in _ABSOLUTE and growth.direction is Direction.PREPEND:
        what = f"A model of the type {model_type} adds its positions in front of the first layer."
        yield Problem("progressive.direction", what, "Choose append, or a model with RoPE.")
    if model_type not in GROWABLE:
        what = f"The layers of models of the type {model_type!r} are not known."
        yield Problem("model_name", what, f"Choose one of {', '.join(sorted(GROWABLE))}.")


def _mode_problems(growth: Growth) -> Iterator[Problem]:
    if growth.mode is Mode.LAYERWISE and growth.layers_per_stage != 1:
        what = f"Layerwise mode adds 1 layer per stage, not {growth.layers_per_stage}."
        yield Problem("progressive.layers_per_stage", what, "Enter 1, or choose blockwise.")
    if growth.mode is not Mode.FUSED and growth.trunk is Trunk.LORA:
        what = f"In {growth.mode} mode a stack is trained on the output of a frozen trunk."
        yield Problem("progressive.trunk", what, "Choose frozen, or the mode fused.")
    if growth.mode is not Mode.FUSED and growth.direction is Direction.PREPEND:
        what = f"In {growth.mode} mode a stack is trained on the output of the layers below it."
        yield Problem("progressive.direction", what, "Choose append, or the mode fused.")
    if growth.trunk is Trunk.LORA and not growth.trunk_size and not growth.stack_sizes:
        what = "The trunk trains by adapters, and both kinds of adapters are off."
        yield Problem("progressive.trunk", what, "Switch trunk_lora on, or choose frozen.")


def _size_problems(growth: Growth) -> Iterator[Problem]:
    if growth.stack_sizes:
        yield from _stack_problems(growth.stack_sizes, growth.stages)
    if growth.trunk_size and growth.trunk is Trunk.LORA:
        yield from _limit_problems("progressive.trunk_{}", growth.trunk_size)


def _stack_problems(sizes: StackSizes, stages: int) -> Iterator[Problem]:
    if sizes.strategy is not SizeStrategy.TABLE:
        yield from _limit_problems("progressive.stack_{}", sizes.first)
        return
    missing = sorted(set(range(stages)) - set(sizes.table))
    if missing:
        what = f"Stack {missing[0]} is missing; there are {stages}, from 0 to {stages - 1}."
        yield Problem("progressive.per_stage", what, "Add it.")
    extra = sorted(set(sizes.table) - set(range(stages)))
    if extra:
        what = f"It has stack {extra[0]}; there are {stages}, from 0 to {stages - 1}."
        yield Problem("progressive.per_stage", what, "Remove it, or raise progressive.stages.")
    for stack, size in sizes.table.items():
        yield from _limit_problems(f"progressive.per_stage[{stack}].{{}}", size)


def _limit_problems(where: str, size: AdapterSize) -> Iterator[Problem]:
    for name, value in (("rank", size.rank), ("alpha", size.alpha)):
        if not 1 <= value <= LARGEST:
            bound = "above" if value > LARGEST else "below"
            what = f"{value} is {bound} the range from 1 to {LARGEST}."
            yield Problem(where.format(name), what, f"Enter a value from 1 to {LARGEST}.")
