"""Training with matrix products in FP8, by torchao.

The weights stay as they are. Inputs, weights and gradients of a linear layer are scaled and
converted for each product: to e4m3, gradients of the recipe tensorwise to e5m2.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib import import_module
from typing import Any

from torch import nn

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

# Compute capability of the GPUs that multiply in FP8.
FP8_FROM = (8, 9)
# The kernels need sides that are multiples of 16; below 128 the conversion takes longer than the
# product saves (nanochat, nanochat/fp8.py).
SIDE_MULTIPLE, MIN_SIDE = 16, 128


def use_float8(
    model: Any,
    config: TrainingConfig,
    plan: Plan,
    blocks: list[str],
    capability: tuple[int, int] | None,
) -> None:
    """Let the linear layers of the blocks multiply in FP8, where the plan says so.

    Args:
        model: The model without an adapter; layers are replaced in place.
        config: Says how many of the first and last blocks are left out.
        plan: Its `fp8_recipe` is tensorwise, rowwise, or None for no FP8.
        blocks: Names of the transformer blocks in order.
        capability: CUDA compute capability; None on other devices, which emulate FP8.

    Raises:
        WorkerError: torchao is missing, the device only emulates FP8, or no layer is large enough.
    """
    if plan.fp8_recipe is None:
        return
    emulates = capability is None or capability < FP8_FROM
    if emulates and not config.quantization.allow_slow:
        raise WorkerError("fp8-training-card", _no_fp8_gpu(capability))
    if importlib.util.find_spec("torchao") is None:
        raise WorkerError("package-missing", _no_torchao())
    torchao: Any = import_module("torchao.float8")  # optional, and slow to import
    # Products over tokens, of which a batch has any number, are padded to a multiple of 16.
    recipe = torchao.Float8LinearConfig.from_recipe_name(plan.fp8_recipe)
    options = replace(recipe, emulate=emulates, pad_inner_dim=True)
    chosen = set(float8_layers(model, config, blocks))
    if not chosen:
        raise WorkerError("fp8-training-shape", _no_layer())
    torchao.convert_to_float8_training(
        model, config=options, module_filter_fn=lambda _layer, name: name in chosen
    )


def float8_layers(model: Any, config: TrainingConfig, blocks: list[str]) -> list[str]:
    """Return the names of the linear layers that multiply in FP8."""
    settings = config.quantization
    last = len(blocks) - settings.skip_last_layers
    inside = tuple(f"{block}." for block in blocks[settings.skip_first_layers : max(0, last)])
    return [
        name
        for name, layer in model.named_modules()
        if type(layer) is nn.Linear and name.startswith(inside) and has_float8_sides(layer)
    ]


def has_float8_sides(layer: nn.Linear) -> bool:
    """Return whether a layer is large enough for FP8, and of sides that its kernels take."""
    sides = (layer.in_features, layer.out_features)
    return all(side % SIDE_MULTIPLE == 0 and side >= MIN_SIDE for side in sides)


def _no_fp8_gpu(capability: tuple[int, int] | None) -> Problem:
    has = "there is no NVIDIA GPU" if capability is None else f"this GPU has {_dotted(capability)}"
    return Problem(
        "quantization.fp8_training",
        f"Training in FP8 needs a GPU of compute capability {_dotted(FP8_FROM)}; {has}.",
        "Set it to false, or allow_slow to true to emulate FP8, which is slower than without.",
    )


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _no_torchao() -> Problem:
    return Problem(
        "quantization.fp8_training",
        "Training in FP8 needs torchao, which is not installed.",
        "Run `python launch.py setup --with quantization`.",
    )


def _no_layer() -> Problem:
    return Problem(
        "quantization.fp8_training",
        f"No linear layer of this model multiplies in FP8: that needs sides of {MIN_SIDE} or more "
        f"that are multiples of {SIDE_MULTIPLE}, in a layer that is not skipped.",
        "Set it to false, or choose a larger model.",
    )
