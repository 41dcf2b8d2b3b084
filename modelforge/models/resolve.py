"""Resolve a model name, and read architecture and size from small files without loading it."""

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

SETTING = "model_name"
STARTER = "starter"
USE_STARTER = "Use the model `starter`, which needs no network, or a local folder."
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def resolve_model(
    name: str, home: Home, *, endpoint: str | None = None, cache: Path | None = None
) -> ModelInfo:
    """Return the information of a model: the starter, a folder, or a Hub id (cache before network).

    Raises ConfigError for an unsupported model, NotFoundError for a missing one.
    """
    name = name.strip()
    if name == STARTER:
        return _starter(home)
    if _is_path(name):
        return _from_folder(name, _existing_folder(name))
    if not _HUB_ID.fullmatch(name) or "--" in name or ".." in name:
        raise ConfigError(
            Problem(
                SETTING,
                f"{name[:120]!r} is neither `starter`, nor an existing folder, nor a Hub id.",
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
        names = {entry.name for entry in folder.iterdir()}
    except (OSError, ValueError, RuntimeError) as error:
        raise NotFoundError(
            Problem(
                SETTING,
                f"The folder {name[:200]!r} does not exist or cannot be read.",
                "Check the path, or use a Hub id.",
            )
        ) from error
    if "config.json" in names:
        return folder
    if "adapter_config.json" in names:
        raise ConfigError(
            Problem(
                SETTING,
                f"{folder} contains an adapter, not a model.",
                "Use the model that the adapter was trained on.",
            )
        )
    raise ConfigError(
        Problem(
            SETTING,
            f"The folder {folder} has no config.json.",
            "Use the folder with config.json and the .safetensors files.",
        )
    )


def _starter(home: Home) -> ModelInfo:
    if not (home.starter_model / "config.json").is_file():
        raise NotFoundError(
            Problem(
                SETTING,
                "The starter model is not set up yet.",
                "Run `python launch.py setup`; it takes one or two minutes.",
            )
        )
    return _from_folder(STARTER, home.starter_model)


def _from_folder(name: str, folder: Path) -> ModelInfo:
    weights = read_weights(folder, _files(folder))
    return _model_info(name, str(folder), None, folder, weights)


def _from_hub(name: str, endpoint: str | None, cache: Path | None) -> ModelInfo:
    from modelforge.models import hub  # noqa: PLC0415 - importing httpx takes 0.2 s

    folder = hub.cached_folder(name, cache)
    if folder is not None:
        files = _files(folder)
        if hub.is_complete(folder, files):
            return _model_info(name, name, folder.name, folder, read_weights(folder, files))
    if hub.is_offline():
        raise NotFoundError(
            Problem(
                SETTING,
                f"{name} is not on this machine, and HF_HUB_OFFLINE prevents a download.",
                f"{USE_STARTER} Or unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE.",
            )
        )
    model = hub.fetch_hub_model(name, endpoint=endpoint, cache=cache)
    weights = read_weights(model.folder, model.files, parameters=model.parameters, local=False)
    return replace(
        _model_info(name, name, model.revision, model.folder, weights), licence=model.licence
    )


def _files(folder: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()}


def _model_info(
    name: str, path: str, revision: str | None, folder: Path, weights: WeightsInfo
) -> ModelInfo:
    config = read_json(folder / "config.json")
    shape = read_shape(config)
    _refuse_unknown_type(name, config, shape["model_type"])
    shape["tied"] = shape["tied"] if weights.has_head is None else not weights.has_head
    stored = None if shape["quantization"] else weights.parameters
    parameters = stored or parameters_by_shape(shape)
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
        remote_code="auto_map" in config,
        **shape,
    )


def _has_chat_template(folder: Path) -> bool:
    if any((folder / file).is_file() for file in ("chat_template.jinja", "chat_template.json")):
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and bool(read_json(tokenizer_config).get("chat_template"))


def _refuse_unknown_type(name: str, config: dict[str, Any], model_type: str) -> None:
    is_known = _known_types()
    if is_known is None or is_known(model_type):
        return
    if "auto_map" in config:
        raise ConfigError(
            Problem(
                SETTING,
                f"{name} needs its own Python code, which ModelForge never executes.",
                "Choose a model type that Transformers supports, such as Qwen3 or Llama.",
            )
        )
    raise ConfigError(
        Problem(
            SETTING,
            f"{name} has the type {model_type or 'unknown'!r}, which the installed Transformers "
            "does not support.",
            "Choose another model, or update ModelForge.",
        )
    )


def _known_types() -> Callable[[str], bool] | None:
    """Return a test for supported model types, read from the source of Transformers."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return None
    auto = Path(os.fspath(spec.submodule_search_locations[0])) / "models" / "auto"
    sources = [auto / "auto_mappings.py", auto / "configuration_auto.py"]
    text = "".join(file.read_text("utf-8") for file in sources if file.is_file())
    if '("llama", "LlamaConfig")' not in text:
        return None
    return lambda model_type: f'("{model_type}", ' in text


def format_parameters(parameters: int | None) -> str:
    """Return a number of parameters as text: 135M, 4.0B."""
    if parameters is None:
        return "unknown size"
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f}B"
    return f"{math.ceil(parameters / 1e6)}M"
