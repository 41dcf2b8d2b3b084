"""The names of Transformers 4 in the config of a model, for programs that read only those.

Transformers 5 writes the rotary embedding as `rope_parameters` and the precision as `dtype`.
Transformers 4, older vLLM and mlx-lm take defaults of their own instead, and the model answers
nonsense.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from modelforge.runs.atomic_files import read_json

FULL, SLIDING = "full_attention", "sliding_attention"
_PHI3 = ("short_factor", "long_factor")


def write_old_names(folder: Path) -> None:
    """Add the old names to the config in a folder, unless Transformers 5 misreads it then."""
    path = folder / "config.json"
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = json.dumps(
        {**read_json(path), **old_names(config.to_dict())}, indent=2, ensure_ascii=False
    )
    if _rope(type(config).from_dict(json.loads(text))) == _rope(config):
        path.write_text(f"{text}\n", encoding="utf-8")


def old_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return rotary embedding and precision of a config under the names of Transformers 4."""
    names: dict[str, Any] = {}
    rope = values.get("rope_parameters") or {}
    full = rope.get(FULL) or rope
    if "rope_theta" in full:
        names["rope_theta"] = full["rope_theta"]
        names["rope_scaling"] = _scaling(full, values.get("model_type"))
    for name in ("partial_rotary_factor", "original_max_position_embeddings"):
        if full.get(name):
            names[name] = full[name]
    if rope.get(SLIDING):
        names["rope_local_base_freq"] = rope[SLIDING]["rope_theta"]
    if values.get("dtype"):
        names["torch_dtype"] = values["dtype"]
    return names


def _scaling(rope: Mapping[str, Any], model_type: Any) -> dict[str, Any] | None:
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return None
    scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
    if model_type == "phi3":  # its old config raises at any other name
        return {name: scaling[name] for name in _PHI3 if name in scaling} | {"type": kind}
    return scaling | {"type": kind}


def _rope(config: Any) -> Any:
    """Return the rotary embedding of a config, without the old name of its type."""
    return _without_type(getattr(config, "rope_parameters", None))


def _without_type(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_type(inner) for name, inner in value.items() if name != "type"}
