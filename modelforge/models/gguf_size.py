"""The size of a GGUF file before it is written, from the shapes of the weights.

The rules are those of `modelforge.export.gguf.quantize`, which a server cannot import; a test
compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# Bits per weight and weights per block of each type.
_TYPES = {
    "F32": (32.0, 1), "F16": (16.0, 1), "BF16": (16.0, 1), "Q8_0": (8.5, 32),
    "Q6_K": (6.5625, 256), "Q5_K": (5.5, 256), "Q4_K": (4.5, 256), "IQ4_XS": (4.25, 256),
    "Q5_0": (5.5, 32), "Q5_1": (6.0, 32), "IQ4_NL": (4.5, 32),
}  # fmt: skip
_MAIN = {
    "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K",
    "q4_k_m": "Q4_K", "iq4_xs": "IQ4_XS",
}  # fmt: skip
_FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
# Bytes of a token with its type and its merge, on average.
_TOKEN_BYTES = 45


def gguf_bytes(
    shapes: Mapping[str, tuple[int, ...]],
    quantization: str,
    *,
    layers: int,
    groups: int,
    tokens: int,
) -> int:
    """Return the size of a file; `groups` are the query heads per key head."""
    is_tied = not any(name.endswith("lm_head.weight") for name in shapes)
    size = sum(
        math.prod(shape) * _bits(name, shape, quantization, layers, groups, is_tied) / 8
        for name, shape in shapes.items()
    )
    return round(size) + tokens * _TOKEN_BYTES


def _bits(
    name: str, shape: tuple[int, ...], quantization: str, layers: int, groups: int, is_tied: bool
) -> float:
    if len(shape) < 2 or not name.endswith(".weight") or "norm" in name:
        return _TYPES["F32"][0]
    kind = _preferred(name, quantization, layers, groups, is_tied)
    for fallback in (kind, _FALLBACKS.get(kind, "F16"), "F16"):
        bits, block = _TYPES[fallback]
        if shape[-1] % block == 0:
            return bits
    return _TYPES["F16"][0]


def _preferred(name: str, quantization: str, layers: int, groups: int, is_tied: bool) -> str:
    kind = _MAIN[quantization]
    if quantization in ("f16", "bf16", "q8_0"):
        return kind
    if name.endswith("lm_head.weight") or (is_tied and name.endswith("embed_tokens.weight")):
        return "Q6_K"
    parts = name.split(".")
    if "layers" not in parts or quantization == "q6_k":
        return kind
    layer, part = int(parts[parts.index("layers") + 1]), parts[-2]
    eighth = layers // 8
    if quantization == "iq4_xs":
        needs_more = (part == "v_proj" and groups >= 4) or (part == "down_proj" and layer < eighth)
        return "Q5_K" if needs_more or part == "qkv_proj" else kind
    if part == "qkv_proj":
        return "Q5_K" if quantization == "q4_k_m" else "Q6_K"
    outer = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return "Q6_K" if part in ("v_proj", "down_proj") and outer else kind
