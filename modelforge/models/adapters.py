"""Which adapter a run is to begin with: a run's or a folder's, and whether it fits its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelforge.config.plan.weights import effective_alpha
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.models.safetensors_index import read_json
from modelforge.paths import Home

WHERE = "adapter.start_from"
WEIGHTS, SHAPE = "adapter_model.safetensors", "adapter_config.json"


def find_adapter(config: TrainingConfig, home: Home, model_path: str) -> Path:
    """Return the folder of the adapter that `adapter.start_from` names.

    Raises NotFoundError where there is none, ConfigError for one of another model or shape.
    """
    said = str(config.adapter.start_from).strip()
    folder = _folder(said, home)
    if not (folder / WEIGHTS).is_file() or not (folder / SHAPE).is_file():
        what = f"{said} has no adapter in safetensors."
        remedy = "Name a run that left an adapter, or a folder with one."
        raise NotFoundError(Problem(WHERE, what, remedy))
    shape = read_json(folder / SHAPE)
    problems = list(_misfits(config, shape, model_path))
    if problems:
        raise ConfigError(problems)
    return folder


def _folder(said: str, home: Home) -> Path:
    # A run's id is no path, so that nothing outside the home is meant by one.
    run = home.runs / said / "output"
    if "/" not in said and "\\" not in said and ".." not in said and run.is_dir():
        return run.resolve()
    try:
        folder = Path(said).expanduser().resolve()
        if folder.is_dir():
            return folder
    except (OSError, ValueError, RuntimeError):  # the last: no home of that user
        pass
    what = f"{said[:120]!r} is neither a run that left something nor a folder."
    raise NotFoundError(Problem(WHERE, what, "The Runs page shows the runs there are."))


def _misfits(config: TrainingConfig, shape: dict[str, Any], model_path: str) -> list[Problem]:
    base = str(shape.get("base_model_name_or_path") or "")
    if shape.get("peft_type") != "LORA":
        kind = shape.get("peft_type") or "unknown"
        return [Problem(WHERE, f"It is an adapter of the kind {kind}, not LoRA.", "Name another.")]
    if not _same_model(base, model_path):
        what = f"The adapter was trained on {Path(base).name or 'another model'}."
        return [Problem(WHERE, what, f"Choose that model; now it is {Path(model_path).name}.")]
    wanted = {
        "lora_r": (shape.get("r"), config.lora_r),
        "lora_alpha": (shape.get("lora_alpha"), effective_alpha(config)),
        "adapter.use_rslora": (bool(shape.get("use_rslora")), config.adapter.use_rslora),
        "adapter.use_dora": (bool(shape.get("use_dora")), config.adapter.use_dora),
    }
    return [
        Problem(name, f"The adapter to start from has {_shown(own)}.", f"Set it to {_shown(own)}.")
        for name, (own, said) in wanted.items()
        if own != said
    ]


def _same_model(base: str, model_path: str) -> bool:
    """Say whether both name one model; a home may have been moved since."""
    names = [name.replace("\\", "/").rstrip("/") for name in (base, model_path)]
    return names[0] == names[1] or names[0].rsplit("/", 1)[-1] == names[1].rsplit("/", 1)[-1]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
