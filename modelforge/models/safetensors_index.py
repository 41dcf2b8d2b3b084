"""Which weight files a model has and how many numbers they hold, by their headers alone."""

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
WHERE = "model_name"
_LARGEST_HEADER = 100 * MIB
_LARGEST_JSON = 100 * MIB
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class WeightsInfo:
    """The weights of one model. `has_head` says whether a head is stored; None is unknown."""

    bytes: int
    parameters: int | None
    has_head: bool | None
    local: bool


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file, or say in words why that cannot be."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ConfigError(Problem(WHERE, f"{path.name} is larger than 100 MiB.", _REFETCH))
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(Problem(WHERE, f"{path.name} is missing.", _REFETCH)) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            Problem(WHERE, f"{path} cannot be read as JSON: {error}.", _REFETCH)
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(Problem(WHERE, f"{path} does not hold a JSON object.", _REFETCH))
    return found


_REFETCH = "Fetch the model again, or choose another."


def weight_files(folder: Path, files: dict[str, int]) -> list[str]:
    """Return the names of the safetensors files that make up the model."""
    if "model.safetensors" in files:
        return ["model.safetensors"]
    if INDEX in files and (folder / INDEX).is_file():
        mapped = read_json(folder / INDEX).get("weight_map")
        names = set(mapped.values()) if isinstance(mapped, dict) else set()
        return sorted(name for name in names if isinstance(name, str) and _is_plain(name))
    return sorted(
        name
        for name in files
        if name.endswith(".safetensors") and not name.startswith("adapter_model")
    )


def read_weights(
    folder: Path, files: dict[str, int], *, parameters: int | None = None, local: bool = True
) -> WeightsInfo:
    """Return what the weight files hold; refuses pickles, and a folder that lacks some.

    `local` false means that only the names and sizes in `files` are at hand.
    """
    names = weight_files(folder, files)
    if not names:
        raise ConfigError(_no_safetensors(files))
    missing = [name for name in names if name not in files]
    if missing:
        raise NotFoundError(
            Problem(
                WHERE,
                f"{len(missing)} of {len(names)} weight files are missing, first {missing[0]}.",
                "Fetch the model again; the download was not complete.",
            )
        )
    total = sum(files[name] for name in names)
    if not local:
        return WeightsInfo(total, parameters, None, local=False)
    tensors: dict[str, int] = {}
    for name in names:
        tensors |= _tensors(folder / name)
    has_head = any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in tensors)
    return WeightsInfo(total, sum(tensors.values()), has_head, local=True)


def _is_plain(name: str) -> bool:
    return Path(name).name == name and "\\" not in name


def _no_safetensors(files: dict[str, int]) -> Problem:
    pickles = sorted(name for name in files if name.endswith(_PICKLES))
    if pickles:
        return Problem(
            WHERE,
            f"The weights are pickled ({pickles[0]}); loading a pickle can run any code.",
            "Choose a model with .safetensors files, or convert it where you trust it.",
        )
    if any(name.endswith(".gguf") for name in files):
        return Problem(
            WHERE,
            "The weights are GGUF, which is for running a model, not for training it.",
            "Choose the original of the model, with .safetensors files.",
        )
    return Problem(
        WHERE,
        "There are no .safetensors files beside config.json.",
        "Name a folder or Hub id that holds the weights.",
    )


def _tensors(path: Path) -> dict[str, int]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_LARGEST_HEADER, path.stat().st_size - 8):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
        return {
            name: math.prod(tensor["shape"])
            for name, tensor in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, struct.error, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            Problem(WHERE, f"{path.name} is no whole safetensors file: {error}.", _REFETCH)
        ) from error
