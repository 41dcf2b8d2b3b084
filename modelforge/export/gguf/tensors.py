"""Compare tensors of a GGUF file with weights of the trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGUFReader, ReaderTensor, get_tensor_name_map
from gguf.quants import dequantize
from numpy.typing import NDArray

from modelforge.export.answers import Answers
from modelforge.export.gguf.quantize import PLAIN, Type, encode

Rows = NDArray[np.float32]


def tensor_differences(path: Path, answers: Answers) -> tuple[float | None, float | None]:
    """Return the largest relative difference of the compared weights, and of the embeddings.

    The weights of the trained model are quantized as those of the file are. Embeddings are
    compared by direction. None where the file has no such tensor.

    Raises:
        ValueError: The file is damaged.
    """
    reader = GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    names = _tensor_names(reader)
    weights = []
    for place, key in enumerate(answers.weights):
        tensor = tensors.get(names.get_name(key, try_suffixes=(".weight",)) if names else "")
        if tensor is not None:
            weights.append(_weight_difference(tensor, answers.weight(place)))
    embeddings = None
    if answers.added and "token_embd.weight" in tensors:
        rows = _rows(tensors["token_embd.weight"], answers.added)
        embeddings = direction_difference(rows, answers.embeddings())
    return float(np.max(weights)) if weights else None, embeddings


def direction_difference(rows: Rows, known: Rows) -> float:
    """Return 1 - the smallest cosine of rows with those of the trained model.

    Rows that are zero in the trained model do not count; rows that are missing differ by 1.
    """
    if rows.shape != known.shape:
        return 1.0
    sizes = np.linalg.norm(rows, axis=1) * np.linalg.norm(known, axis=1)
    is_used = np.linalg.norm(known, axis=1) > 0
    cosines = (rows * known).sum(axis=1) / np.maximum(sizes, np.finfo(np.float32).tiny)
    return float(1 - cosines[is_used].min()) if is_used.any() else 0.0


def relative_difference(values: Rows, known: Rows) -> float:
    """Return the root mean square of the difference, relative to that of the known values."""
    if values.shape != known.shape:
        return float("inf")
    size = float(np.sqrt(np.square(known, dtype=np.float64).mean()))
    difference = np.sqrt(np.square(values - known, dtype=np.float64).mean())
    return float(difference / size) if size else float(difference > 0)


def _weight_difference(tensor: ReaderTensor, known: Rows) -> float:
    kind = Type(tensor.tensor_type)
    count = known.shape[0]
    if kind not in PLAIN:
        known = dequantize(encode(kind, known).reshape(count, -1), kind)
    return relative_difference(_rows(tensor, list(range(count))), known)


def _rows(tensor: ReaderTensor, places: list[int]) -> Rows:
    """Return rows of a matrix as float32; fewer if it has fewer."""
    existing = [place for place in places if place < tensor.data.shape[0]]
    result: Rows = dequantize(np.ascontiguousarray(tensor.data[existing]), tensor.tensor_type)
    return result.reshape(len(existing), -1)


def _tensor_names(reader: GGUFReader) -> Any:
    name = str(reader.fields["general.architecture"].contents())
    arch = next((arch for arch, known in MODEL_ARCH_NAMES.items() if known == name), None)
    if arch is None:
        return None
    return get_tensor_name_map(arch, int(reader.fields[f"{name}.block_count"].contents()))
