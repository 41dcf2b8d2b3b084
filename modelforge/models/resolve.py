"""Which model is meant: its shape and size, read from small files and headers, never loaded."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.models.architecture import ModelInfo, parameters_by_shape, read_shape
from modelforge.models.safetensors_index import WeightsInfo, read_json, read_weights
from modelforge.paths import Home
from modelforge.units import GIB

WHERE = "model_name"
STARTER = "starter"
USE_STARTER = "Use the model `starter`, which needs no network, or a folder."
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def resolve_model(
    name: str, home: Home, *, endpoint: str | None = None, cache: Path | None = None
) -> ModelInfo:
    """Return what is known of the model: the starter, a folder, or a Hub id (cache before network).

    Raises ConfigError for a model that cannot be used and NotFoundError for one that is not there.
    """
    name = name.strip()
    if name == STARTER:
        return _starter(home)
    if _is_path(name):
        return _from_folder(name, _existing_folder(name))
    if not _HUB_ID.fullmatch(name) or "--" in name or ".." in name:
        raise ConfigError(
            Problem(
                WHERE,
                f"{name[:120]!r} is neither `starter`, nor a folder here, nor a Hub id.",
                "A Hub id looks like Qwen/Qwen3-0.6B.",
            )
        )
    return _from_hub(name, endpoint, cache)


def _is_path(name: str) -> bool:
    if name.startswith((".", "~", "/")) or "\\" in name or Path(name).is_absolute():
        return True
    try:
        return (Path(name) / "config.json").is_file()
    except (OSError, ValueError):
        return False


def _existing_folder(name: str) -> Path:
    try:
        folder = Path(name).expanduser().resolve()
        there = {entry.name for entry in folder.iterdir()}
    except (OSError, ValueError, RuntimeError) as error:
        raise NotFoundError(
            Problem(
                WHERE,
                f"There is no folder {name[:200]!r} that can be read.",
                "Check the path, or name a Hub id.",
            )
        ) from error
    if "config.json" in there:
        return folder
    if "adapter_config.json" in there:
        raise ConfigError(
            Problem(
                WHERE,
                f"{folder} holds an adapter, not a whole model.",
                "Name the model that the adapter was trained on.",
            )
        )
    raise ConfigError(
        Problem(
            WHERE,
            f"The folder {folder} has no config.json.",
            "Name the folder that holds config.json and the .safetensors files.",
        )
    )


def _starter(home: Home) -> ModelInfo:
    if not (home.starter_model / "config.json").is_file():
        raise NotFoundError(
            Problem(
                WHERE,
                "The starter model is not set up yet.",
                "Run `python launch.py setup`, which needs a minute or two.",
            )
        )
    return _from_folder(STARTER, home.starter_model)


def _from_folder(name: str, folder: Path) -> ModelInfo:
    weights = read_weights(folder, _files(folder))
    return _facts(name, str(folder), None, folder, weights)


def _from_hub(name: str, endpoint: str | None, cache: Path | None) -> ModelInfo:
    from modelforge.models import hub  # noqa: PLC0415 - brings in httpx, a fifth of a second

    folder = hub.cached_folder(name, cache)
    if folder is not None:
        files = _files(folder)
        if hub.is_complete(folder, files):
            return _facts(name, name, folder.name, folder, read_weights(folder, files))
    if hub.is_offline():
        raise NotFoundError(
            Problem(
                WHERE,
                f"{name} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it.",
                f"{USE_STARTER} Or unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE.",
            )
        )
    found = hub.fetch_hub_model(name, endpoint=endpoint, cache=cache)
    weights = read_weights(found.folder, found.files, parameters=found.parameters, local=False)
    return replace(_facts(name, name, found.revision, found.folder, weights), licence=found.licence)


def _files(folder: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()}


def _facts(
    name: str, path: str, revision: str | None, folder: Path, weights: WeightsInfo
) -> ModelInfo:
    raw = read_json(folder / "config.json")
    shape = read_shape(raw)
    _refuse_unknown_code(name, raw, shape["model_type"])
    shape["tied"] = shape["tied"] if weights.has_head is None else not weights.has_head
    counted = None if shape["quantization"] else weights.parameters
    parameters = counted or parameters_by_shape(shape)
    if parameters is None and not shape["quantization"] and weights.bytes:
        parameters = weights.bytes // 2
    return ModelInfo(
        name=name,
        path=path,
        revision=revision,
        parameters=parameters,
        weights_gib=weights.bytes / GIB,
        has_chat_template=_has_chat_template(folder),
        local=weights.local,
        remote_code="auto_map" in raw,
        **shape,
    )


def _has_chat_template(folder: Path) -> bool:
    if any((folder / file).is_file() for file in ("chat_template.jinja", "chat_template.json")):
        return True
    settings = folder / "tokenizer_config.json"
    return settings.is_file() and bool(read_json(settings).get("chat_template"))


def _refuse_unknown_code(name: str, raw: dict[str, Any], model_type: str) -> None:
    knows = _known_types()
    if knows is None or knows(model_type):
        return
    if "auto_map" in raw:
        raise ConfigError(
            Problem(
                WHERE,
                f"{name} runs on Python code of its own, which ModelForge never executes.",
                "Choose a model of a family that Transformers knows, for instance Qwen3 or Llama.",
            )
        )
    raise ConfigError(
        Problem(
            WHERE,
            f"{name} is of the type {model_type or 'unknown'!r}, which the installed Transformers "
            "does not know.",
            "Choose another model, or a newer ModelForge.",
        )
    )


def _known_types() -> Callable[[str], bool] | None:
    """Return a test for model types, read from Transformers' own list without importing it."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return None
    auto = Path(os.fspath(spec.submodule_search_locations[0])) / "models" / "auto"
    listed = [auto / "auto_mappings.py", auto / "configuration_auto.py"]
    text = "".join(file.read_text("utf-8") for file in listed if file.is_file())
    if '("llama", "LlamaConfig")' not in text:
        return None
    return lambda model_type: f'("{model_type}", ' in text


def format_parameters(parameters: int | None) -> str:
    """Return a count as people say it: 135M, 4.0B."""
    if parameters is None:
        return "unknown size"
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f}B"
    return f"{math.ceil(parameters / 1e6)}M"
