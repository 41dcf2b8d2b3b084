"""A folder for mlx-lm: the merged model, with a config in which mlx-lm finds every value.

mlx-lm reads `config.json`, `model*.safetensors`, `generation_config.json` and the tokenizer. For
most models it reads the rotary embedding under the names of Transformers 4, and takes defaults of
its own for what is missing, so that a model would load and answer nonsense.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from modelforge.errors import Problem, RunError
from modelforge.export import merged
from modelforge.export.job import Job
from modelforge.modeling.merging.old_names import FULL, SLIDING, old_names
from modelforge.modeling.merging.weights import INDEX
from modelforge.runs.atomic_files import read_json
from modelforge.runs.jobs import StepWriter

PREFIX = "model"


def write(job: Job, target: Path, steps: StepWriter) -> None:
    """Write the merged model for mlx-lm into `target`.

    Raises:
        RunError: The model is not a decoder, or mlx-lm cannot hold its layers.
    """
    config = AutoConfig.from_pretrained(job.source, trust_remote_code=False)
    if job.head != "causal":
        what = "mlx-lm runs models that write text, and this one does not."
        raise RunError(Problem("format", what, "Export the adapter or the merged model."))
    mlx_config(config)
    merged.write(job, target, steps)
    adapt(target)


def adapt(folder: Path) -> None:
    """Make the folder of a merged model one that mlx-lm loads."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = json.dumps(mlx_config(config), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")
    _rename_weights(folder)


def mlx_config(config: Any) -> dict[str, Any]:
    """Return a config as plain data with every value, also under the names of Transformers 4.

    Raises:
        RunError: The layers do not alternate as mlx-lm expects.
    """
    values: dict[str, Any] = config.to_dict()
    values |= old_names(values)
    if (values.get("rope_parameters") or {}).get(SLIDING):
        values["sliding_window_pattern"] = _pattern(values)
    return values


def _pattern(values: dict[str, Any]) -> int:
    """Return every how many layers one sees the whole text."""
    kinds = values.get("layer_types") or []
    every = kinds.index(FULL) + 1 if FULL in kinds else len(kinds) + 1
    expected = [SLIDING if (layer + 1) % every else FULL for layer in range(len(kinds))]
    if kinds != expected:
        what = "The layers with sliding attention do not alternate evenly, as mlx-lm expects."
        raise RunError(Problem("format", what, "Export the merged model instead."))
    return every


def _rename_weights(folder: Path) -> None:
    """Give weight files that mlx-lm would not find a name that it finds."""
    names = {
        path.name: f"{PREFIX}-{path.name}"
        for path in folder.glob("*.safetensors")
        if not path.name.startswith(PREFIX)
    }
    for old, new in names.items():
        (folder / old).rename(folder / new)
    if names and (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        weights = index["weight_map"]
        index["weight_map"] = {key: names.get(name, name) for key, name in weights.items()}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
