"""Write a GGUF file from a folder with safetensors weights, one tensor at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter, TensorNameMap, get_tensor_name_map
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from modelforge.errors import Problem, RunError
from modelforge.export.gguf.architectures import Architecture, architecture_of
from modelforge.export.gguf.metadata import add_hyperparameters, rope_factors
from modelforge.export.gguf.quantize import FILE_TYPES, Mix, Type, encode, encoded_bytes
from modelforge.export.gguf.tokenizer import add_tokenizer

Progress = Callable[[float], None]
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_QUANTIZATION_VERSION = 2
_F16_MAX = 65504.0
_PHI3 = re.compile(r"phi-?3", re.IGNORECASE)
_PHI3_TOKENS = {"<unk>", "<s>", "</s>", "<|endoftext|>"}


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the file: its name, its shape, its type, and how its values are read."""

    name: str
    shape: tuple[int, ...]
    kind: Type
    read: Callable[[], torch.Tensor]


def write_gguf(
    folder: Path, target: Path, file_type: str, name: str, progress: Progress = lambda _share: None
) -> None:
    """Write the model in `folder` as `target` with one of FILE_TYPES.

    `name` is the model's name in the file; `progress` gets the share of bytes written. Memory
    stays under the largest tensor in float32 and its encoding.

    Raises:
        RunError: llama.cpp has no such model, rotary embedding or tokenizer, or a value does not
            fit into float16.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    architecture = architecture_of(config)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tensors = list(_tensors(folder, config, architecture, file_type))
    rows = next(item.shape[0] for item in tensors if item.name == "token_embd.weight")
    with closing(GGUFWriter(target, architecture.arch.name.lower())) as writer:
        writer.add_name(_name_for(name, tokenizer))
        writer.add_file_type(FILE_TYPES[file_type][1])
        writer.add_quantization_version(_QUANTIZATION_VERSION)
        add_hyperparameters(writer, config, architecture)
        add_tokenizer(writer, tokenizer, rows, stop_ids(folder, tokenizer))
        for item in tensors:
            size = encoded_bytes(item.kind, item.shape)
            writer.add_tensor_info(
                item.name, item.shape, np.dtype(np.float32), size, raw_dtype=item.kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total = sum(encoded_bytes(item.kind, item.shape) for item in tensors)
        written = 0
        for item in tensors:
            data = _encoded(item)
            writer.write_tensor_data(data)
            written += data.nbytes
            progress(written / total)


def stop_ids(folder: Path, tokenizer: Any) -> list[int]:
    """Return the ids that end an answer: the tokenizer's end token, then the others."""
    try:
        ends = GenerationConfig.from_pretrained(folder).eos_token_id
    except OSError:
        ends = None
    listed = [ends] if isinstance(ends, int) else list(ends or [])
    return list(dict.fromkeys(i for i in [tokenizer.eos_token_id, *listed] if i is not None))


def _name_for(name: str, tokenizer: Any) -> str:
    """Return the name for a file; llama.cpp strips spaces after special tokens in files of Phi-3.

    It knows them by their name, and opens no other file of that name.
    """
    plain = _PHI3.sub("Phi 3", name)
    strips = any(token.rstrip for token in tokenizer.added_tokens_decoder.values())
    is_phi3 = strips and tokenizer.get_vocab().keys() >= _PHI3_TOKENS
    return f"{plain} (phi-3)" if is_phi3 else plain


def _tensors(
    folder: Path, config: Any, architecture: Architecture, file_type: str
) -> Iterator[_Tensor]:
    names = get_tensor_name_map(architecture.arch, config.num_hidden_layers)
    files = _files_by_key(folder)
    is_tied = bool(config.tie_word_embeddings)
    groups = config.num_attention_heads // config.num_key_value_heads
    mix = Mix(file_type, config.num_hidden_layers, is_tied, groups)
    for key in sorted(files, key=_order):
        if key == "lm_head.weight" and is_tied:
            continue
        with safe_open(files[key], framework="pt") as file:
            shape = tuple(file.get_slice(key).get_shape())
        name = gguf_name(names, key)
        yield _Tensor(
            name, shape, mix.type_of(name, shape), _reader(files[key], key, config, architecture)
        )
    for name, values in rope_factors(config).items():
        yield _Tensor(name, tuple(values.shape), Type.F32, partial(torch.Tensor.clone, values))


def _reader(
    path: Path, key: str, config: Any, architecture: Architecture
) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        with safe_open(path, framework="pt") as file:
            values: torch.Tensor = file.get_tensor(key).float()
        if key.endswith("norm.weight"):
            values = values + architecture.norm_offset
        return rotated(values, key, config, architecture)

    return read


def rotated(
    weight: torch.Tensor, key: str, config: Any, architecture: Architecture
) -> torch.Tensor:
    """Return a weight with its rows in the order in which llama.cpp rotates them."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    module = key.split(".")[-2]
    if architecture.permutes_rope and module in heads:
        return _interleave(weight, heads[module])
    return weight


def gguf_name(names: TensorNameMap, key: str) -> str:
    """Return the name of a weight in a file; raises RunError if llama.cpp has none."""
    name = names.get_name(key, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise RunError(
            Problem(
                "gguf",
                f"llama.cpp has no place for the weight {key}.",
                "Export the merged model instead.",
            )
        )
    return str(name)


def _interleave(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Order the rows of each head (first half, second half) as neighbouring pairs."""
    rows = weight.shape[0]
    halves = weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _encoded(item: _Tensor) -> NDArray[Any]:
    values = item.read()
    if item.kind is Type.F32:
        return values.contiguous().numpy()
    if item.kind is Type.BF16:
        return values.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    if item.kind is Type.F16:
        largest = float(values.abs().max())
        if largest > _F16_MAX:
            raise RunError(
                Problem(
                    "gguf",
                    f"{item.name} has values up to {largest:g}; float16 ends at {_F16_MAX:g}.",
                    "Choose bf16, or a quantization.",
                )
            )
        return values.half().contiguous().numpy()
    return encode(item.kind, values.contiguous().numpy())


def _files_by_key(folder: Path) -> dict[str, Path]:
    index = folder / _INDEX
    if index.is_file():
        shards: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {key: folder / shard for key, shard in shards.items()}
    with safe_open(folder / _SINGLE, framework="pt") as file:
        return dict.fromkeys(file.keys(), folder / _SINGLE)


def _order(key: str) -> tuple[int, str]:
    """Order by layer: embeddings, layers, what follows them."""
    parts = key.split(".")
    if "layers" in parts:
        return int(parts[parts.index("layers") + 1]) + 1, key
    return (0 if "embed" in key else 1 << 30), key
