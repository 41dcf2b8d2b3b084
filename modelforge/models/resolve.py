"""Resolve a model name, and read architecture and size from small files without loading it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelforge.errors import ConfigError, ForgeError, NotFoundError, Problem
from modelforge.models.architecture import ModelInfo, parameters_by_shape, read_shape
from modelforge.models.generation_fields import unusable_fields
from modelforge.models.safetensors_index import WeightsInfo, read_json, read_weights
from modelforge.paths import Home, expand_user, folder_stamp, read_regular
from modelforge.units import GIB, MIB, human_bytes

_MAX_TOKENIZER_BYTES = 64 * MIB
# Limits of the files beside the weights; the largest tokenizers have 35 MiB.
_MAX_SIDE_FILE_BYTES = {
    **dict.fromkeys((".json", ".txt", ".model", ".tiktoken"), 100 * MIB),
    ".jinja": MIB,
}
# Transformers reads these files of a tokenizer as JSON objects, and fails at other contents.
_TOKENIZER_OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SPECIAL_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
_MORE_TEMPLATES = "additional_chat_templates"
SETTING = "model_name"
STARTER = "starter"
_HUB_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_HUB_ID = re.compile(rf"{_HUB_NAME}(/{_HUB_NAME})?(?<!\.git)", re.ASCII)


class UnusableWeightsError(ConfigError):
    """Weights that are missing or damaged; `model` is known from config.json alone."""

    def __init__(self, error: ForgeError, model: ModelInfo) -> None:
        super().__init__(error.problems)
        self.http_status = error.http_status
        self.model = model


def resolve_model(
    name: str, home: Home, *, endpoint: str | None = None, cache: Path | None = None
) -> ModelInfo:
    """Return the information of a model: the starter, a folder, or a Hub id (cache before network).

    Raises ConfigError for an unsupported model, NotFoundError for a missing one.
    """
    name = name.strip()
    if name == STARTER:
        if not (home.starter_model / "config.json").is_file():
            remedy = "Run `python launch.py setup`; it takes one or two minutes."
            raise NotFoundError(Problem(SETTING, "The starter model is not set up yet.", remedy))
        return _from_folder(STARTER, home.starter_model)
    if _is_path(name):
        return _from_folder(name, _existing_folder(name))
    if not is_hub_id(name):
        what = f"{name[:120]!r} is neither `starter`, nor an existing folder, nor a Hub id."
        raise ConfigError(Problem(SETTING, what, "A Hub id looks like Qwen/Qwen3-0.6B."))
    return _from_hub(name, endpoint, cache)


def model_stamp(name: str, home: Home) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when the files of a model on this machine change.

    It is empty for a model that is not, or not completely, on this machine.
    """
    name = name.strip()
    if name == STARTER:
        return folder_stamp(home.starter_model)
    if _is_path(name):
        return folder_stamp(expand_user(name))
    if not is_hub_id(name):
        return ()
    from modelforge.models import hub  # noqa: PLC0415 - importing httpx takes 0.2 s

    folder = hub.cached_folder(name)
    if folder is None or not hub.is_complete(folder, _files(folder)):
        return ()
    return folder_stamp(folder)


def is_hub_id(name: str) -> bool:
    """Return whether the client of the Hub accepts the name."""
    return bool(_HUB_ID.fullmatch(name)) and not any(part in name for part in ("--", ".."))


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
        what = f"The folder {name[:200]!r} does not exist or cannot be read."
        remedy = "Check the path, or use a Hub id."
        raise NotFoundError(Problem(SETTING, what, remedy)) from error
    if "config.json" in names:
        return folder
    if "adapter_config.json" in names:
        what = f"{folder} contains an adapter, not a model."
        remedy = "Use the model that the adapter was trained on."
    else:
        what = f"The folder {folder} has no config.json."
        remedy = "Use the folder with config.json and the .safetensors files."
    raise ConfigError(Problem(SETTING, what, remedy))


def _from_folder(name: str, folder: Path) -> ModelInfo:
    try:
        weights = read_weights(folder, _files(folder))
    except (ConfigError, NotFoundError) as error:
        none = WeightsInfo(0, None, None, local=True)
        raise UnusableWeightsError(
            error, _model_info(name, str(folder), None, folder, none)
        ) from error
    return _model_info(name, str(folder), None, folder, weights)


def _from_hub(name: str, endpoint: str | None, cache: Path | None) -> ModelInfo:
    from modelforge.models import hub, hub_download  # noqa: PLC0415 - importing httpx takes 0.2 s

    folder = hub.cached_folder(name, cache)
    if folder is not None:
        files = _files(folder)
        if hub.is_complete(folder, files):
            return _model_info(name, name, folder.name, folder, read_weights(folder, files))
    if hub.is_offline():
        what = f"{name} is not on this machine, and HF_HUB_OFFLINE prevents a download."
        starter = "Use the model `starter`, which needs no network, or a local folder."
        remedy = f"{starter} Or unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE."
        raise NotFoundError(Problem(SETTING, what, remedy))
    model = hub.fetch_hub_model(name, endpoint=endpoint, cache=cache)
    weights = read_weights(model.folder, model.files, parameters=model.parameters, local=False)
    found = _model_info(name, name, model.revision, model.folder, weights, model.licence)
    return replace(found, download_bytes=hub_download.missing_bytes(model))


def _files(folder: Path) -> dict[str, int]:
    """Return the sizes of the files of a model; raises ConfigError for one that must not be read.

    Transformers reads every text file with a known name, whatever it is.
    """
    files = {}
    for place in (folder, folder / _MORE_TEMPLATES):
        for entry in place.iterdir() if place.is_dir() else ():
            if not entry.exists() or entry.is_dir():
                continue
            if reason := _why_unreadable(entry):
                what = f"{entry.name} {reason}."
                remedy = "Remove the file, or choose another model."
                raise ConfigError(Problem(SETTING, what, remedy))
            if place == folder:
                files[entry.name] = entry.stat().st_size
    return files


def _why_unreadable(file: Path) -> str:
    """Return why a file of a model must not be read; empty if it may be."""
    if not file.is_file() or str(file.resolve()).startswith(("/proc/", "/sys/", "/dev/")):
        return "is not a regular file"
    limit = _MAX_SIDE_FILE_BYTES.get(file.suffix)
    if limit is not None and file.stat().st_size > limit:
        return f"is larger than {human_bytes(limit)}"
    return ""


def _model_info(
    name: str,
    path: str,
    revision: str | None,
    folder: Path,
    weights: WeightsInfo,
    licence: str = "",
) -> ModelInfo:
    config = read_json(folder / "config.json")
    for file in _TOKENIZER_OBJECTS:
        _require_special_tokens(folder / file)
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
        has_chat_template=has_chat_template(folder),
        local=weights.local,
        remote_code="auto_map" in config,
        licence=licence,
        tokens=token_count(folder),
        broken_tensor=weights.broken,
        shapes=weights.shapes,
        generation_fields=tuple(unusable_fields(folder)),
        **shape,
    )


def _require_special_tokens(path: Path) -> None:
    """Raise ConfigError unless a tokenizer's file is an object with special tokens as texts."""
    values = read_json(path) if path.is_file() else {}
    for name in _SPECIAL_TOKENS:
        value = values.get(name)
        if not isinstance(value, str | dict | None):
            what = f"{name} in {path} is {value!r:.50}, not the text of a token."
            raise ConfigError(Problem(SETTING, what, "Correct the file, or choose another model."))


def has_chat_template(folder: Path) -> bool:
    """Return whether a folder has a chat template beside its tokenizer."""
    if any((folder / file).is_file() for file in ("chat_template.jinja", "chat_template.json")):
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and bool(read_json(tokenizer_config).get("chat_template"))


def _refuse_unknown_type(name: str, config: dict[str, Any], model_type: str) -> None:
    if _is_known_type(model_type):
        return
    if "auto_map" in config:
        what = f"{name} needs its own Python code, which ModelForge never executes."
        remedy = "Choose a model type that Transformers supports, such as Qwen3 or Llama."
    else:
        kind = repr(model_type or "unknown")
        what = f"{name} has the type {kind}, which the installed Transformers does not support."
        remedy = "Choose another model, or update ModelForge."
    raise ConfigError(Problem(SETTING, what, remedy))


def _is_known_type(model_type: str) -> bool:
    """Return whether the source of Transformers names a model type; True if it cannot be read."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return True
    auto = Path(os.fspath(spec.submodule_search_locations[0])) / "models" / "auto"
    sources = [auto / "auto_mappings.py", auto / "configuration_auto.py"]
    text = "".join(file.read_text("utf-8") for file in sources if file.is_file())
    return '("llama", "LlamaConfig")' not in text or f'("{model_type}", ' in text


def token_count(folder: Path) -> int | None:
    """Return the highest token id plus 1; None for a missing or unreadable tokenizer.json."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = json.loads(read_regular(path, _MAX_TOKENIZER_BYTES))
        ids = [token["id"] for token in tokenizer.get("added_tokens") or []]
        highest = max([*ids, _highest(tokenizer["model"]["vocab"])])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return highest + 1 if isinstance(highest, int) and highest >= 0 else None


def _highest(vocabulary: Any) -> int:
    """Return the highest id; a Unigram vocabulary is a list in the order of the ids."""
    if isinstance(vocabulary, list):
        return len(vocabulary) - 1
    return max(vocabulary.values(), default=-1)
