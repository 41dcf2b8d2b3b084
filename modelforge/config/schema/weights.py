"""The nested groups about weights: quantization of the frozen ones, and the adapter."""

from __future__ import annotations

from typing import Literal

from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    Group,
    Names,
    SettingsGroup,
    setting,
)

MAX_LAYERS = 200


class Quantization(SettingsGroup):
    """Storage format of the frozen weights, beyond the contract's 4 and 8 bits."""

    scheme: Literal[
        "auto",
        "none",
        "bnb-4bit",
        "bnb-8bit",
        "fp8",
        "fp8-weight-only",
        "int8-weight-only",
        "nvfp4",
        "mxfp4",
    ] = setting("auto", "Quantization scheme", Group.QUANTIZATION, affects=BOTH)
    """Storage format of the frozen weights; auto follows 4-bit and 8-bit.

    fp8 and nvfp4 need a recent GPU; the weight-only schemes save memory on every one. With its
    scales, a weight has 4.5 bits in bnb-4bit (4.13 nested) and nvfp4, 4.25 in mxfp4, else 8.1.
    """

    skip_first_layers: int = setting(
        0,
        "First layers skipped",
        Group.QUANTIZATION,
        ge=0,
        le=MAX_LAYERS,
        unit="layers",
        affects=MEMORY,
    )
    """Number of first layers that are not quantized."""

    skip_last_layers: int = setting(
        0,
        "Last layers skipped",
        Group.QUANTIZATION,
        ge=0,
        le=MAX_LAYERS,
        unit="layers",
        affects=MEMORY,
    )
    """Number of last layers that are not quantized."""

    fp8_block_size: Literal["auto", "16", "32", "64", "128", "256"] = setting(
        "auto", "FP8 block size", Group.QUANTIZATION
    )
    """For the scheme fp8: side of the square blocks of weights that share a scale.

    auto takes the largest up to 128 that divides every layer; a smaller one is more exact.
    """

    four_over_six: bool = setting(False, "Four over six", Group.QUANTIZATION)
    """For the scheme nvfp4: scale each block of 16 weights to 4 or 6, whichever is more exact.

    It needs the package fouroversix. The 16-bit weights are kept too, so it saves no memory.
    """

    fp8_training: bool = setting(False, "Multiply in FP8", Group.PRECISION, affects=BOTH)
    """Multiply 8-bit numbers in the layers of the model; for weights that are not quantized.

    It needs torchao and a GPU of compute capability 8.9 or higher, and is faster only with a
    compiled model of large layers.
    """

    fp8_recipe: Literal["tensorwise", "rowwise"] = setting(
        "tensorwise", "FP8 scaling", Group.PRECISION
    )
    """One scale for a whole tensor, which is faster, or one for each row, which is more exact."""

    allow_slow: bool = setting(False, "Allow slow schemes", Group.QUANTIZATION)
    """Accept a scheme, or training in FP8, that this device can only emulate."""


class Adapter(SettingsGroup):
    """Training of a LoRA adapter on frozen weights, or of all weights."""

    enabled: bool = setting(True, "Adapter", Group.ADAPTER, affects=BOTH)
    """Train a small adapter; off trains all weights, which needs far more memory."""

    target_modules: Names = setting(
        "all-linear", "Target modules", Group.ADAPTER, min_length=1, max_length=1000, affects=MEMORY
    )
    """all-linear, or module names with commas: q_proj, v_proj."""

    alpha_over_r: float | None = setting(None, "Alpha over rank", Group.ADAPTER, ge=0.5, le=3)
    """LoRA alpha as a multiple of the rank; empty uses LoRA alpha."""

    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "Adapter dtype", Group.ADAPTER, affects=MEMORY
    )
    """Number format of the adapter's weights; auto means float32."""

    init: Literal["default", "gaussian", "loftq", "pissa", "orthogonal", "olora"] = setting(
        "default", "Adapter initialization", Group.ADAPTER
    )
    """Initial weights of the adapter; pissa and loftq often converge faster.

    loftq compensates for the error of 4-bit quantization.
    """

    use_rslora: bool = setting(False, "Rank-stabilized LoRA", Group.ADAPTER)
    """Scale by the square root of the rank, which stabilizes high ranks."""

    use_dora: bool = setting(False, "DoRA", Group.ADAPTER, affects=MEMORY)
    """Train magnitude and direction separately: often slightly better, and slower."""

    modules_to_save: Names = setting(
        "", "Fully trained modules", Group.ADAPTER, max_length=1000, affects=MEMORY
    )
    """Names of modules trained in full beside the adapter, with commas."""

    merge_after_training: bool = setting(
        False, "Merge after training", Group.ADAPTER, irrelevant_for=ALL_CACHES
    )
    """Merge the adapter into the base model when the run has finished.

    The merged model is written into the run folder beside the adapter, in the precision of the base
    model. If it cannot be merged, the run keeps its adapter and says why. A stopped run is not
    merged.
    """

    start_from: str | None = setting(
        None, "Start from", Group.ADAPTER, min_length=1, max_length=4096
    )
    """The adapter to continue training: a run id or a folder; empty creates a new one.

    Model, rank and alpha must be the same; its target modules are kept.
    """
