"""The nested groups about weights: how the frozen ones are stored, and what is trained on them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelforge.config.schema.base import SettingInfo
from modelforge.config.schema.runtime import SettingsGroup

LAYERS = 200


class Quantization(SettingsGroup):
    """How the frozen weights are stored, beyond the contract's 4 and 8 bits."""

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
            "Scheme",
            "How the frozen weights are stored; auto follows 4-bit and 8-bit.",
            "fp8 and nvfp4 want a new card; the weight-only kinds save memory on every one.",
            group="Quantization",
        ),
    ] = "auto"
    skip_first_layers: Annotated[
        int,
        Field(ge=0, le=LAYERS),
        SettingInfo(
            "First layers left out",
            "So many of the first layers keep their full precision.",
            unit="layers",
            group="Quantization",
        ),
    ] = 0
    skip_last_layers: Annotated[
        int,
        Field(ge=0, le=LAYERS),
        SettingInfo(
            "Last layers left out",
            "So many of the last layers keep their full precision.",
            unit="layers",
            group="Quantization",
        ),
    ] = 0
    allow_slow: Annotated[
        bool,
        SettingInfo(
            "Allow slow schemes",
            "Take a scheme that this card can only emulate.",
            group="Quantization",
        ),
    ] = False


class Adapter(SettingsGroup):
    """What is trained: an adapter beside the frozen weights, or all of them."""

    enabled: Annotated[
        bool,
        SettingInfo(
            "Adapter",
            "Train a small adapter; off trains every weight, which needs far more memory.",
            group="Adapter",
        ),
    ] = True
    target_modules: Annotated[
        str,
        Field(min_length=1, max_length=1000),
        SettingInfo(
            "Adapted layers",
            "all-linear, or the names of layers with commas: q_proj, v_proj.",
            group="Adapter",
        ),
    ] = "all-linear"
    alpha_over_r: Annotated[
        float | None,
        Field(ge=0.5, le=3),
        SettingInfo(
            "Alpha by rank",
            "LoRA alpha as a multiple of the rank; empty takes LoRA alpha as it stands.",
            group="Adapter",
        ),
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        SettingInfo(
            "Adapter number format",
            "In which the adapter is kept; auto means float32.",
            group="Adapter",
        ),
    ] = "auto"
    init: Annotated[
        Literal["default", "gaussian", "loftq", "pissa", "orthogonal", "olora"],
        SettingInfo(
            "Adapter start",
            "What the adapter begins with; pissa and loftq begin nearer to the goal.",
            "loftq makes up for what 4 bits lose.",
            group="Adapter",
        ),
    ] = "default"
    use_rslora: Annotated[
        bool,
        SettingInfo(
            "Rank-stabilised LoRA",
            "Scale by the root of the rank, so that high ranks learn as they should.",
            group="Adapter",
        ),
    ] = False
    use_dora: Annotated[
        bool,
        SettingInfo(
            "DoRA",
            "Learn size and direction apart: often a little better, and slower.",
            group="Adapter",
        ),
    ] = False
    modules_to_save: Annotated[
        str,
        Field(max_length=1000),
        SettingInfo(
            "Layers trained whole",
            "Names of layers that are trained in full beside the adapter, with commas.",
            group="Adapter",
        ),
    ] = ""
    start_from: Annotated[
        str | None,
        Field(min_length=1, max_length=4096),
        SettingInfo(
            "Start from",
            "An adapter that is trained on: a run's id, or a folder. Empty begins with a new one.",
            "It has to be of the same model, rank and alpha; the layers are its own.",
            group="Adapter",
        ),
    ] = None
