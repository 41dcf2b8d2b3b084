"""Types of tensors, and blocks as llama.cpp's own quantizer writes them."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from modelforge.export.gguf.quantize import FILE_TYPES, Mix, Type, encode
from modelforge.export.gguf.write import write_gguf

pytestmark = pytest.mark.torch

# Root mean square of the error on unit normals.
ERRORS = {
    Type.Q8_0: 0.007,
    Type.Q6_K: 0.02,
    Type.Q5_K: 0.04,
    Type.Q4_K: 0.08,
    Type.IQ4_XS: 0.09,
    Type.IQ4_NL: 0.09,
    Type.Q5_0: 0.05,
    Type.Q5_1: 0.05,
}


@pytest.mark.parametrize("kind", ERRORS)
def test_blocks_are_read_back_with_a_small_error(kind):
    values = np.random.default_rng(0).standard_normal((4096, 512)).astype(np.float32)
    blocks = encode(kind, values)
    again = dequantize(blocks.reshape(4096, -1), kind)
    error = float(np.sqrt(np.square(again - values).mean()))
    assert ERRORS[kind] / 2 < error < ERRORS[kind]


def test_the_outer_layers_and_each_third_get_more_bits():
    mix = Mix("q4_k_m", layers=24, is_tied=False, groups=3)
    shape = (512, 512)
    more = [n for n in range(24) if mix.type_of(f"blk.{n}.ffn_down.weight", shape) is Type.Q6_K]
    assert more == [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]
    assert mix.type_of("blk.3.attn_v.weight", shape) is Type.Q4_K
    assert mix.type_of("blk.5.attn_v.weight", shape) is Type.Q6_K
    assert mix.type_of("blk.3.attn_qkv.weight", shape) is Type.Q4_K
    assert mix.type_of("blk.5.attn_qkv.weight", shape) is Type.Q6_K
    assert mix.type_of("blk.5.attn_norm.weight", (512,)) is Type.F32
    assert mix.type_of("token_embd.weight", shape) is Type.Q4_K
    assert mix.type_of("output.weight", shape) is Type.Q6_K


def test_narrow_rows_get_blocks_of_32():
    mix = Mix("q4_k_m", layers=24, is_tied=True, groups=3)
    assert mix.type_of("blk.3.ffn_up.weight", (1536, 576)) is Type.Q5_0
    assert mix.type_of("blk.0.attn_v.weight", (192, 576)) is Type.Q8_0
    assert mix.type_of("token_embd.weight", (512, 576)) is Type.Q8_0
    assert mix.type_of("blk.3.ffn_up.weight", (1536, 20)) is Type.F16


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("case", ["llama", "llama-tied", "phi3", "gemma2"])
@pytest.mark.parametrize("file_type", [name for name in FILE_TYPES if name not in ("f16", "bf16")])
def test_files_equal_those_of_llama_cpp(file_type, case, heads, model_of, tmp_path):
    """Run with MODELFORGE_LIBLLAMA naming a libllama.so with llama_model_quantize.

    The package xllamacpp does not export it; the npm package @node-llama-cpp/linux-x64 does.
    """
    if "MODELFORGE_LIBLLAMA" not in os.environ:
        pytest.skip("MODELFORGE_LIBLLAMA names no libllama.so")
    model, folder = model_of(case, num_hidden_layers=8, num_key_value_heads=heads)
    model.half().float().save_pretrained(folder)
    write_gguf(folder, tmp_path / "exact.gguf", "f16", "a model")
    write_gguf(folder, tmp_path / "ours.gguf", file_type, "a model")
    quantize(tmp_path / "exact.gguf", tmp_path / "theirs.gguf", FILE_TYPES[file_type][1])
    ours, theirs = (
        {tensor.name: tensor for tensor in GGUFReader(tmp_path / name).tensors}
        for name in ("ours.gguf", "theirs.gguf")
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.tensor_type == theirs[name].tensor_type, name
        assert np.array_equal(tensor.data, theirs[name].data), name


class Params(ctypes.Structure):
    """llama_model_quantize_params, of which only the beginning matters here."""

    _fields_ = [
        ("threads", ctypes.c_int32),
        ("kind", ctypes.c_int32),
        ("rest", ctypes.c_uint8 * 1024),
    ]


def quantize(source, target, kind):
    library = ctypes.CDLL(os.environ["MODELFORGE_LIBLLAMA"])
    library.llama_backend_init()
    library.llama_model_quantize_default_params.restype = Params
    params = library.llama_model_quantize_default_params()
    params.kind = int(kind)
    files = (str(source).encode(), str(target).encode())
    assert library.llama_model_quantize(*files, ctypes.byref(params)) == 0
