"""A model of the catalogue as facts, from the shape that its profile names: nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelforge.models.architecture import ModelInfo
from modelforge.units import GIB

_USUAL = {"context": None, "tied": False, "kind": "decoder", "architecture": ""}


def catalog_model_info(model: Mapping[str, Any]) -> ModelInfo:
    """Return what a profile's entry says of a model; its weights are counted as 16-bit ones."""
    parameters = round(model["parameters"] * 1e9)
    unknown = dict.fromkeys(("hidden_size", "layers", "heads", "kv_heads", "intermediate", "vocab"))
    shape = {**unknown, "model_type": "", **_USUAL, **model.get("shape", {})}
    shape.setdefault("head_dim", _head(shape))
    shape["kv_heads"] = shape["kv_heads"] or shape["heads"]
    return ModelInfo(
        name=model["name"],
        path=model["name"],
        revision=None,
        parameters=parameters,
        weights_gib=parameters * 2 / GIB,
        has_chat_template=shape["kind"] == "decoder",
        local=False,
        **shape,
    )


def _head(shape: Mapping[str, Any]) -> int | None:
    hidden, heads = shape["hidden_size"], shape["heads"]
    return hidden // heads if hidden and heads else None
