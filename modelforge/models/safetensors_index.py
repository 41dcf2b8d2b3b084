"""Find the weight files of a model, and read its parameter count from their headers."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.units import MIB

INDEX = "model.safetensors.index.json"
SETTING = "model_name"
_MAX_HEADER_BYTES = 100 * MIB
_MAX_JSON_BYTES = 100 * MIB
_DOWNLOAD_AGAIN = "Download the model again, or choose another."
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class WeightsInfo:
    """The weight files of a model; `has_head` is None if it is unknown whether a head is stored."""

    bytes: int
    parameters: int | None
    has_head: bool | None
    local: bool


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file; raises ConfigError or NotFoundError."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            what = f"{path.name} is larger than 100 MiB."
            raise ConfigError(Problem(SETTING, what, _DOWNLOAD_AGAIN))
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        problem = Problem(SETTING, f"{path.name} is missing.", _DOWNLOAD_AGAIN)
        raise NotFoundError(problem) from error
    except (OSError, ValueError) as error:
        what = f"{path} cannot be read as JSON: {error}."
        raise ConfigError(Problem(SETTING, what, _DOWNLOAD_AGAIN)) from error
    if not isinstance(value, dict):
        raise ConfigError(Problem(SETTING, f"{path} does not hold a JSON object.", _DOWNLOAD_AGAIN))
    return value


def weight_files(folder: Path, files: dict[str, int]) -> list[str]:
    """Return the names of the safetensors files of the model."""
    if "model.safetensors" in files:
        return ["model.safetensors"]
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
    total = sum(files[name] for name in names)
    if not local:
        return WeightsInfo(total, parameters, None, local=False)
    sizes: dict[str, int] = {}
    for name in names:
        sizes |= _tensor_sizes(folder / name)
    has_head = any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in sizes)
    return WeightsInfo(total, sum(sizes.values()), has_head, local=True)


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


def _tensor_sizes(path: Path) -> dict[str, int]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
        return {
            name: math.prod(tensor["shape"])
            for name, tensor in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, struct.error, TypeError, KeyError, AttributeError) as error:
        what = f"{path.name} is not a complete safetensors file: {error}."
        raise ConfigError(Problem(SETTING, what, _DOWNLOAD_AGAIN)) from error
