"""The nested groups about weights: quantization of the frozen ones, and the adapter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelforge.config.schema.base import (
    BOTH,
    MEMORY,
    GroupName,
    SettingInfo,
    SettingsGroup,
)

MAX_LAYERS = 200


class Quantization(SettingsGroup):
    """Storage format of the frozen weights, beyond the contract's 4 and 8 bits."""

    scheme: Annotated[
        Literal[
            "auto",
            "none",
            "bnb-4bit",
            "bnb-8bit",
            "fp8",
            "fp8-weight-only",
            "int8-weight-only",
            "nvfp4",
            "mxfp4",
        ],
        SettingInfo(
            "Quantization scheme",
            "Storage format of the frozen weights; auto follows 4-bit and 8-bit.",
            "fp8 and nvfp4 need a recent GPU; the weight-only schemes save memory on every one.",
            group=GroupName.QUANTIZATION,
            affects=BOTH,
        ),
    ] = "auto"
    skip_first_layers: Annotated[
        int,
        Field(ge=0, le=MAX_LAYERS),
        SettingInfo(
            "First layers skipped",
            "Number of first layers that are not quantized.",
            unit="layers",
            group=GroupName.QUANTIZATION,
            affects=MEMORY,
        ),
    ] = 0
    skip_last_layers: Annotated[
        int,
        Field(ge=0, le=MAX_LAYERS),
        SettingInfo(
            "Last layers skipped",
            "Number of last layers that are not quantized.",
            unit="layers",
            group=GroupName.QUANTIZATION,
            affects=MEMORY,
        ),
    ] = 0
    allow_slow: Annotated[
        bool,
        SettingInfo(
            "Allow slow schemes",
            "Accept a scheme that this GPU can only emulate.",
            group=GroupName.QUANTIZATION,
        ),
    ] = False


class Adapter(SettingsGroup):
    """Training of a LoRA adapter on frozen weights, or of all weights."""

    enabled: Annotated[
        bool,
        SettingInfo(
            "Adapter",
            "Train a small adapter; off trains all weights, which needs far more memory.",
            group=GroupName.ADAPTER,
            affects=BOTH,
        ),
    ] = True
    target_modules: Annotated[
        str,
        Field(min_length=1, max_length=1000),
        SettingInfo(
            "Target modules",
            "all-linear, or module names with commas: q_proj, v_proj.",
            group=GroupName.ADAPTER,
            affects=MEMORY,
        ),
    ] = "all-linear"
    alpha_over_r: Annotated[
        float | None,
        Field(ge=0.5, le=3),
        SettingInfo(
            "Alpha over rank",
            "LoRA alpha as a multiple of the rank; empty uses LoRA alpha.",
            group=GroupName.ADAPTER,
        ),
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        SettingInfo(
            "Adapter dtype",
            "Number format of the adapter's weights; auto means float32.",
            group=GroupName.ADAPTER,
            affects=MEMORY,
        ),
    ] = "auto"
    init: Annotated[
        Literal["default", "gaussian", "loftq", "pissa", "orthogonal", "olora"],
        SettingInfo(
            "Adapter initialization",
            "Initial weights of the adapter; pissa and loftq often converge faster.",
            "loftq compensates for the error of 4-bit quantization.",
            group=GroupName.ADAPTER,
        ),
    ] = "default"
    use_rslora: Annotated[
        bool,
        SettingInfo(
            "Rank-stabilized LoRA",
            "Scale by the square root of the rank, which stabilizes high ranks.",
            group=GroupName.ADAPTER,
        ),
    ] = False
    use_dora: Annotated[
        bool,
        SettingInfo(
            "DoRA",
            "Train magnitude and direction separately: often slightly better, and slower.",
            group=GroupName.ADAPTER,
        ),
    ] = False
    modules_to_save: Annotated[
        str,
        Field(max_length=1000),
        SettingInfo(
            "Fully trained modules",
            "Names of modules trained in full beside the adapter, with commas.",
            group=GroupName.ADAPTER,
            affects=MEMORY,
        ),
    ] = ""
    start_from: Annotated[
        str | None,
        Field(min_length=1, max_length=4096),
        SettingInfo(
            "Start from",
            "The adapter to continue training: a run id or a folder; empty creates a new one.",
            "Model, rank and alpha must be the same; its target modules are kept.",
            group=GroupName.ADAPTER,
        ),
    ] = None
