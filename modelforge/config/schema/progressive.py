"""The nested group about growing a model stack by stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from modelforge.config.progressive.adapter_sizes import LARGEST
from modelforge.config.schema.base import (
    ALL_CACHES,
    MEMORY,
    Group,
    SettingsGroup,
    setting,
)

MAX_STAGES = 100
MAX_LAYERS = 200
MAX_STEPS = 10_000_000
_PATTERNS = Literal["constant", "increasing", "decreasing", "linear"]


def _join_numbers(value: Any) -> Any:
    """Return a list of numbers as text with commas; other values unchanged."""
    is_list = isinstance(value, (list, tuple)) and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for number in value
    )
    return ", ".join(f"{number:g}" for number in value) if is_list else value


def _join_table(value: Any) -> Any:
    """Return a mapping such as {0: {rank: 8, alpha: 16}} as text: 0: 8/16; others unchanged."""
    if not isinstance(value, Mapping):
        return value
    parts = []
    for stack, size in value.items():
        known = isinstance(size, Mapping) and set(size) == {"rank", "alpha"}
        parts.append(f"{stack}: {size['rank']}/{size['alpha']}" if known else f"{stack}: {size}")
    return ", ".join(parts)


# Numbers with commas; a list is accepted too.
Numbers = Annotated[str, BeforeValidator(_join_numbers, json_schema_input_type=str | list[float])]
# Rank and alpha by number of the stack: 0: 8/16, 1: 16/32; a mapping is accepted too.
Table = Annotated[str, BeforeValidator(_join_table, json_schema_input_type=str | dict[str, Any])]


class Progressive(SettingsGroup):
    """Growing a model: new layers are added and trained in stages, beside a frozen trunk or not."""

    enabled: bool = setting(False, "Grow stack by stack", Group.GROWING, affects=MEMORY)
    """Add new layers to the model in stages, and train them; the result is a whole model.

    The new layers change nothing until they are trained. With training from nothing, the model
    consists of the stacks alone.
    """

    mode: Literal["layerwise", "blockwise", "fused"] = setting(
        "fused", "Mode", Group.GROWING, irrelevant_for=ALL_CACHES
    )
    """What a stage may add and train: layerwise one layer, blockwise several, fused anything.

    layerwise and blockwise train as fused does with a frozen trunk and layers behind it; fused
    alone allows adapters in the trunk and new layers in front.
    """

    stages: int = setting(2, "Stages", Group.GROWING, ge=1, le=MAX_STAGES, affects=MEMORY)
    """Number of stacks that are added, one after the other."""

    layers_per_stage: int = setting(
        1,
        "Layers of a stack",
        Group.GROWING,
        ge=1,
        le=MAX_LAYERS,
        unit="layers",
        affects=MEMORY,
    )
    """Decoder layers that each stage adds."""

    direction: Literal["append", "prepend"] = setting(
        "append", "Direction", Group.GROWING, affects=MEMORY
    )
    """Where new layers are inserted: behind the last layer, or in front of the first.

    In front, gradients pass through all layers above, which takes more memory and time.
    """

    trunk: Literal["frozen", "lora"] = setting("frozen", "Trunk", Group.GROWING, affects=MEMORY)
    """What trains in the layers that were there before: nothing, or LoRA adapters."""

    steps_per_stage: int | None = setting(
        None,
        "Steps of a stage",
        Group.GROWING,
        ge=1,
        le=MAX_STEPS,
        unit="steps",
        irrelevant_for=ALL_CACHES,
    )
    """Optimizer steps of each stage; empty uses the epochs of a stage."""

    epochs_per_stage: int = setting(
        1, "Epochs of a stage", Group.GROWING, ge=1, le=1000, irrelevant_for=ALL_CACHES
    )
    """Passes over the training rows in each stage."""

    stack_lora: bool = setting(True, "Adapters of stacks", Group.GROWING, affects=MEMORY)
    """Train a LoRA adapter on the stacks, beside the weights of the newest one.

    With a frozen trunk the newest stack alone has one.
    """

    stack_rank: int = setting(16, "Rank of stacks", Group.GROWING, ge=1, le=LARGEST, affects=MEMORY)
    """LoRA rank of the adapter of the first stack, or of all."""

    stack_alpha: int = setting(
        32, "Alpha of stacks", Group.GROWING, ge=1, le=LARGEST, irrelevant_for=ALL_CACHES
    )
    """LoRA alpha of the adapter of the first stack, or of all."""

    trunk_lora: bool = setting(True, "Adapter of the trunk", Group.GROWING, affects=MEMORY)
    """Train a second LoRA adapter on all layers below the newest stack."""

    trunk_rank: int = setting(8, "Rank of the trunk", Group.GROWING, ge=1, le=LARGEST,
        affects=MEMORY)  # fmt: skip
    """LoRA rank of the adapter of the trunk."""

    trunk_alpha: int = setting(
        16, "Alpha of the trunk", Group.GROWING, ge=1, le=LARGEST, irrelevant_for=ALL_CACHES
    )
    """LoRA alpha of the adapter of the trunk."""

    rank_strategy: Literal["uniform", "pattern", "table"] = setting(
        "uniform", "Sizes of adapters", Group.GROWING, affects=MEMORY
    )
    """Whether the adapters of all stacks have one size, sizes by a pattern, or by a table."""

    rank_pattern: _PATTERNS = setting("constant", "Pattern of ranks", Group.GROWING, affects=MEMORY)
    """Rank by stack: times 2 each, divided by 2 each, or 8 more each; from 1 to 256."""

    alpha_pattern: _PATTERNS = setting(
        "constant", "Pattern of alphas", Group.GROWING, irrelevant_for=ALL_CACHES
    )
    """Alpha by stack: times 2 each, divided by 2 each, or 16 more each; from 1 to 256."""

    per_stage: Table = setting("", "Table of sizes", Group.GROWING, max_length=4000, affects=MEMORY)
    """Rank and alpha of each stack, from 0: 0: 8/16, 1: 16/32."""

    new_layer_dtype: Literal["float32", "bfloat16"] = setting(
        "float32", "Precision of new layers", Group.GROWING, affects=MEMORY
    )
    """Number format of the weights of new layers while they are trained."""

    trunk_quantization: Literal["none", "bnb-4bit", "fp8-weight-only"] = setting(
        "none", "Quantized trunk", Group.GROWING, affects=MEMORY
    )
    """How the weights of the trunk are held in memory while it is frozen.

    The result is not quantized: what was trained is merged into the weights of the base model.
    """

    objective: Literal["clm", "mlm"] = setting(
        "clm", "Objective", Group.GROWING, irrelevant_for=ALL_CACHES
    )
    """clm predicts the next token; mlm predicts masked tokens.

    mlm attends in both directions and is experimental: its result cannot generate text token by
    token.
    """

    mask_by: Literal["none", "depth", "input"] = setting(
        "none", "Time step of masks", Group.GROWING, irrelevant_for=ALL_CACHES
    )
    """The share of masked tokens: by a schedule over the stages (none), or from a list.

    depth takes the share with the number of the stage, input one at random for every batch.
    """

    mask_steps: int = setting(
        8, "Time steps", Group.GROWING, ge=1, le=1000, irrelevant_for=ALL_CACHES
    )
    """Length of the list of shares."""

    mask_fractions: Numbers = setting(
        "", "Shares of masks", Group.GROWING, max_length=4000, irrelevant_for=ALL_CACHES
    )
    """Ascending shares of masked tokens, such as 0.15, 0.5; empty rises from 0.15 to 0.85."""

    mask_min: float = setting(
        0.15, "Least masks", Group.GROWING, ge=0, le=1, irrelevant_for=ALL_CACHES
    )
    """Share of masked tokens in the first stage."""

    mask_max: float = setting(
        0.9, "Most masks", Group.GROWING, ge=0, le=1, irrelevant_for=ALL_CACHES
    )
    """Share of masked tokens in the last stage."""

    mask_schedule: Literal["linear", "exponential", "cosine"] = setting(
        "linear", "Schedule of masks", Group.GROWING, irrelevant_for=ALL_CACHES
    )
    """How the share rises from the first stage to the last."""

    mask_token: str = setting(
        "", "Mask token", Group.GROWING, max_length=100, irrelevant_for=ALL_CACHES
    )
    """The token that stands for a masked one; empty adds one where the tokenizer has none."""

    cache_activations: bool = setting(
        False, "Cache of the trunk", Group.GROWING, irrelevant_for=ALL_CACHES
    )
    """Store what a frozen trunk computes on disk, so that later epochs skip the trunk.

    It takes tokens × width × bytes of a number for each stage.
    """

    cache_limit_gib: float = setting(
        4.0, "Size of the cache", Group.GROWING, gt=0, le=10_000, unit="GiB",
        irrelevant_for=ALL_CACHES,
    )  # fmt: skip
    """Most disk space for the cache of the trunk; texts beyond it are computed again."""

    joint_tuning_steps: int = setting(
        0, "Joint steps", Group.GROWING, ge=0, le=MAX_STEPS, unit="steps", affects=MEMORY
    )
    """Steps of a last stage that trains all weights; 0 leaves it out."""

    save_each_stage: bool = setting(
        True, "Keep every stage", Group.GROWING, irrelevant_for=ALL_CACHES
    )
    """Keep the model of every stage, which takes the disk space of a model each."""
