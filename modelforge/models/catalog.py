"""Models of the catalog as ModelInfo, from the shape in their profile; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelforge.models.architecture import ModelInfo
from modelforge.units import GIB

_UNKNOWN_SHAPE = dict.fromkeys(
    ("hidden_size", "layers", "heads", "kv_heads", "intermediate", "vocab", "context")
)
_DEFAULTS = {"model_type": "", "tied": False, "kind": "decoder", "architecture": ""}
_BYTES_PER_PARAMETER = 2


def catalog_model_info(model: Mapping[str, Any]) -> ModelInfo:
    """Return the information of a profile's model entry, with 16-bit weights."""
    parameters = round(model["parameters"] * 1e9)
    shape = {**_UNKNOWN_SHAPE, **_DEFAULTS, **model.get("shape", {})}
    hidden_size, heads = shape["hidden_size"], shape["heads"]
    shape.setdefault("head_dim", hidden_size // heads if hidden_size and heads else None)
    shape["kv_heads"] = shape["kv_heads"] or heads
    return ModelInfo(
        name=model["name"],
        path=model["name"],
        revision=None,
        parameters=parameters,
        weights_gib=parameters * _BYTES_PER_PARAMETER / GIB,
        has_chat_template=shape["kind"] == "decoder",
        local=False,
        **shape,
    )
