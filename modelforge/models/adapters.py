"""Find the adapter that a run starts from, and check that it fits the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelforge.config.plan.weights import effective_alpha
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.models.safetensors_index import read_json
from modelforge.paths import Home

SETTING = "adapter.start_from"
WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"


def find_adapter(config: TrainingConfig, home: Home, model_path: str) -> Path:
    """Return the folder of the adapter that `adapter.start_from` names: a run or a folder.

    Raises NotFoundError if there is none, ConfigError if its model or shape differs.
    """
    name = str(config.adapter.start_from).strip()
    folder = _find_folder(name, home)
    if not (folder / WEIGHTS_FILE).is_file() or not (folder / CONFIG_FILE).is_file():
        what = f"{name} has no adapter in safetensors format."
        remedy = "Name a run that saved an adapter, or a folder with one."
        raise NotFoundError(Problem(SETTING, what, remedy))
    problems = _mismatches(config, read_json(folder / CONFIG_FILE), model_path)
    if problems:
        raise ConfigError(problems)
    return folder


def _find_folder(name: str, home: Home) -> Path:
    # A run id is not a path, so it cannot lead outside of the home.
    run = home.runs / name / "output"
    remedy = "Name a run from the Runs page, or the path of a folder."
    try:
        if "/" not in name and "\\" not in name and ".." not in name and run.is_dir():
            return run.resolve()
        folder = Path(name).expanduser().resolve()
        if folder.is_dir():
            return folder
    except (OSError, ValueError, RuntimeError) as error:
        what = f"{name[:120]!r} cannot be read as a folder: {error}."
        raise NotFoundError(Problem(SETTING, what, remedy)) from error
    what = f"{name[:120]!r} is neither a run with an output nor a folder."
    raise NotFoundError(Problem(SETTING, what, remedy))


def _mismatches(config: TrainingConfig, adapter: dict[str, Any], model_path: str) -> list[Problem]:
    kind = adapter.get("peft_type") or "unknown"
    if kind != "LORA":
        return [Problem(SETTING, f"Its type is {kind}, not LoRA.", "Name a LoRA adapter.")]
    base = str(adapter.get("base_model_name_or_path") or "")
    if not _is_same_model(base, model_path):
        what = f"The adapter was trained on {Path(base).name or 'another model'}."
        return [Problem(SETTING, what, f"Choose that model instead of {Path(model_path).name}.")]
    pairs = {
        "lora_r": (adapter.get("r"), config.lora_r),
        "lora_alpha": (adapter.get("lora_alpha"), effective_alpha(config)),
        "adapter.use_rslora": (bool(adapter.get("use_rslora")), config.adapter.use_rslora),
        "adapter.use_dora": (bool(adapter.get("use_dora")), config.adapter.use_dora),
    }
    problems = []
    for setting, (stored, value) in pairs.items():
        if stored != value:
            text = str(stored).lower() if isinstance(stored, bool) else str(stored)
            problems.append(Problem(setting, f"The adapter has {text}.", f"Set it to {text}."))
    return problems


def _is_same_model(base: str, model_path: str) -> bool:
    """Return whether both paths name one model; the home may have been moved since."""
    base, model_path = (path.replace("\\", "/").rstrip("/") for path in (base, model_path))
    return base == model_path or base.rsplit("/", 1)[-1] == model_path.rsplit("/", 1)[-1]
