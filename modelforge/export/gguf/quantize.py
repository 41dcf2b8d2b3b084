"""Which tensor gets which type, and llama.cpp's own quantization of rows."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

from modelforge.export.llama_cpp import library

Type: TypeAlias = GGMLQuantizationType
# Type of most tensors, by name of the file type.
FILE_TYPES: dict[str, tuple[Type, LlamaFileType]] = {
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": (Type.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "q5_k_m": (Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "q4_k_m": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    "iq4_xs": (Type.IQ4_XS, LlamaFileType.MOSTLY_IQ4_XS),
}
PLAIN = (Type.F32, Type.F16, Type.BF16)
# Rows that are not a multiple of 256 wide get a type with blocks of 32.
_FALLBACKS = {
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.IQ4_XS: Type.IQ4_NL,
}
# Elements that one call quantizes: a few MiB, so that threads share a large tensor.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Mix:
    """The types of a file: the same rules as in llama.cpp's quantizer without importance matrix."""

    name: str
    layers: int
    is_tied: bool
    groups: int  # query heads per key head

    def type_of(self, tensor: str, shape: tuple[int, ...]) -> Type:
        """Return the type of a tensor by its GGUF name and its shape (rows, columns)."""
        kind = FILE_TYPES[self.name][0]
        if len(shape) < 2 or not tensor.endswith(".weight") or "_norm" in tensor:
            return Type.F32
        if kind in PLAIN:
            return kind
        return _fitting(self._preferred(tensor, kind), shape[-1])

    def _preferred(self, tensor: str, kind: Type) -> Type:
        if kind is Type.Q8_0:
            return kind
        is_output = tensor == "output.weight" or (self.is_tied and tensor == "token_embd.weight")
        if is_output:
            return Type.Q6_K
        if self.name not in ("q4_k_m", "q5_k_m", "iq4_xs") or not tensor.startswith("blk."):
            return kind
        layer, part = int(tensor.split(".")[1]), tensor.split(".")[2]
        is_value, is_down = part in ("attn_v", "attn_qkv"), part == "ffn_down"
        if self.name == "iq4_xs":
            more = (is_value and self.groups >= 4) or (is_down and layer < self.layers // 8)
            return Type.Q5_K if more else kind
        needs_more = (is_value or is_down) and _gets_more_bits(layer, self.layers)
        return Type.Q6_K if needs_more else kind


def encoded_bytes(kind: Type, shape: tuple[int, ...]) -> int:
    """Return the size of a tensor of that type."""
    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * size


def encode(kind: Type, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Quantize a matrix (rows, columns) float32 with llama.cpp; return its bytes."""
    rows, columns = values.shape
    quantize = _quantize_chunk()
    result = np.empty(encoded_bytes(kind, values.shape), dtype=np.uint8)
    source, target = np.ascontiguousarray(values), result.ctypes.data
    row_bytes = result.nbytes // rows

    def run(first: int) -> None:
        count = min(step, rows - first)
        start = source.ctypes.data + first * columns * 4
        quantize(kind, start, target + first * row_bytes, 0, count, columns, None)

    step = max(1, _CHUNK // columns)
    with ThreadPoolExecutor() as pool:
        list(pool.map(run, range(0, rows, step)))
    return result


def _fitting(kind: Type, columns: int) -> Type:
    if columns % GGML_QUANT_SIZES[kind][0]:
        kind = _FALLBACKS.get(kind, Type.F16)
    return Type.F16 if columns % GGML_QUANT_SIZES[kind][0] else kind


def _gets_more_bits(layer: int, layers: int) -> bool:
    """Return whether llama.cpp gives more bits to this layer: the outer eighths, each third."""
    first, last = layers // 8, 7 * layers // 8
    return layer < first or layer >= last or (layer - first) % 3 == 2


@cache
def _quantize_chunk() -> ctypes._NamedFuncPointer:
    function = library().ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    size = ctypes.c_int64
    pointer = ctypes.c_void_p
    function.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    return function
