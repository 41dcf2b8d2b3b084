"""Find the weight files of a model, and read its parameter count from their headers."""

from __future__ import annotations

import json
import math
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.paths import open_regular, read_regular
from modelforge.units import MIB

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SETTING = "model_name"
_MAX_HEADER_BYTES = 100 * MIB
_MAX_JSON_BYTES = 100 * MIB
_DOWNLOAD_AGAIN = "Download the model again, or choose another."
# Values that are looked at, at each end of a tensor.
_SAMPLED = 64
# Type of a value in an array, and the bits of its exponent; NaN has them all set, and others.
_EXPONENTS = {"F32": ("I", 0x7F80_0000), "BF16": ("H", 0x7F80), "F16": ("H", 0x7C00)}
# Raised by headers of any content.
_DAMAGE = (
    *(OSError, ValueError, struct.error, TypeError, KeyError, AttributeError, RecursionError),
    *(IndexError, OverflowError),
)
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class WeightsInfo:
    """The weight files of a model; `has_head` is None if it is unknown whether a head is stored.

    `shapes` has the shape of every tensor by name, and `broken` the name of one with NaN; both are
    empty for weights that are not on this machine.
    """

    bytes: int
    parameters: int | None
    has_head: bool | None
    local: bool
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    broken: str = ""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file; raises ConfigError or NotFoundError."""
    try:
        value = json.loads(read_regular(path, _MAX_JSON_BYTES))
    except FileNotFoundError as error:
        problem = Problem(SETTING, f"{path.name} is missing.", _DOWNLOAD_AGAIN)
        raise NotFoundError(problem) from error
    except (OSError, ValueError, RecursionError) as error:
        what = f"{path} cannot be read as JSON: {getattr(error, 'strerror', None) or error}."
        raise ConfigError(Problem(SETTING, what, _DOWNLOAD_AGAIN)) from error
    if not isinstance(value, dict):
        raise ConfigError(Problem(SETTING, f"{path} does not hold a JSON object.", _DOWNLOAD_AGAIN))
    return value


def weight_files(folder: Path, files: dict[str, int]) -> list[str]:
    """Return the names of the safetensors files of the model."""
    if SINGLE in files:
        return [SINGLE]
    if INDEX in files and (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
        return sorted(name for name in names if isinstance(name, str) and _is_file_name(name))
    return sorted(
        name
        for name in files
        if name.endswith(".safetensors") and not name.startswith("adapter_model")
    )


def read_weights(
    folder: Path, files: dict[str, int], *, parameters: int | None = None, local: bool = True
) -> WeightsInfo:
    """Return the information of the weight files; `files` maps names to sizes in bytes.

    The headers are only read if `local`. Raises ConfigError for pickles, NotFoundError for missing
    files.
    """
    names = weight_files(folder, files)
    if not names:
        raise ConfigError(_no_safetensors(files))
    missing = [name for name in names if name not in files]
    if missing:
        what = f"{len(missing)} of {len(names)} weight files are missing, first {missing[0]}."
        remedy = "Download the model again; the download was incomplete."
        raise NotFoundError(Problem(SETTING, what, remedy))
    if names != [SINGLE] and INDEX not in files:
        raise NotFoundError(_no_index(names))
    total = sum(files[name] for name in names)
    if not local:
        return WeightsInfo(total, parameters, None, local=False)
    shapes: dict[str, tuple[int, ...]] = {}
    broken = ""
    for name in names:
        read, damaged = _read_file(folder / name)
        shapes |= read
        broken = broken or damaged
    if names != [SINGLE]:
        _require_indexed(folder, shapes)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    has_head = any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in shapes)
    return WeightsInfo(total, parameters, has_head, local=True, shapes=shapes, broken=broken)


def _is_file_name(name: str) -> bool:
    return Path(name).name == name and "\\" not in name


def _no_safetensors(files: dict[str, int]) -> Problem:
    pickles = sorted(name for name in files if name.endswith(_PICKLE_SUFFIXES))
    if pickles:
        what = f"The weights are pickled ({pickles[0]}); loading a pickle can run arbitrary code."
        remedy = "Choose a model with .safetensors files, or convert it if you trust it."
    elif any(name.endswith(".gguf") for name in files):
        what = "The weights are in GGUF format, which is for inference, not for training."
        remedy = "Choose the original model with .safetensors files."
    else:
        what = "There are no .safetensors files next to config.json."
        remedy = "Use a folder or Hub id with the weights."
    return Problem(SETTING, what, remedy)


def _no_index(names: list[str]) -> Problem:
    count, first = len(names), names[0]
    if count == 1:
        what = f"The weight file is called {first}, not {SINGLE}."
        return Problem(SETTING, what, f"Rename it to {SINGLE}, if it holds the whole model.")
    what = f"{INDEX} is missing, which names the tensors of the {count} weight files ({first}, …)."
    return Problem(SETTING, what, "Download the model again, with that file.")


def _require_indexed(folder: Path, shapes: Mapping[str, object]) -> None:
    """Raise ConfigError unless the weight files hold every tensor of the index."""
    missing = [name for name in read_json(folder / INDEX)["weight_map"] if name not in shapes]
    if missing:
        what = f"{len(missing)} tensors of {INDEX} are in no weight file, first {missing[0]}."
        raise ConfigError(Problem(SETTING, what, _DOWNLOAD_AGAIN))


def _read_file(path: Path) -> tuple[dict[str, tuple[int, ...]], str]:
    """Return the shape of each tensor of a file, and the name of one with NaN or ""."""
    try:
        size = path.stat().st_size
        with open_regular(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
            if 8 + length + end != size:
                raise ValueError(f"it has {size:,} bytes instead of {8 + length + end:,}")
            broken = (name for name, one in header.items() if _has_nan(file, 8 + length, one))
            return {name: _shape(one) for name, one in header.items()}, next(broken, "")
    except _DAMAGE as error:
        what = f"{path.name} is not a complete safetensors file: {error}."
        raise ConfigError(Problem(SETTING, what, _DOWNLOAD_AGAIN)) from error


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = tuple(tensor["shape"])
    if not all(type(size) is int and 0 <= size < 2**48 for size in shape):
        raise ValueError("a shape is not made of sizes")
    return shape


def _has_nan(file: BinaryIO, start: int, tensor: dict[str, Any]) -> bool:
    """Return whether the first or last values of a tensor contain NaN."""
    if tensor["dtype"] not in _EXPONENTS:
        return False
    kind, exponent = _EXPONENTS[tensor["dtype"]]
    mantissa = (exponent & -exponent) - 1
    first, last = tensor["data_offsets"]
    size = min(_SAMPLED * array(kind).itemsize, last - first)
    for offset in {first, last - size}:
        file.seek(start + offset)
        values = array(kind, file.read(size))
        if any(value & exponent == exponent and value & mantissa for value in values):
            return True
    return False
