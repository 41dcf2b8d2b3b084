"""Read unquantized base weights from the model's files, one layer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers.utils import cached_file

from modelforge.config.plan.make import Plan
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class BaseWeights:
    """The weights in the files of a model that was loaded before."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._files: dict[str, Path] | None = None

    def load(self, name: str) -> torch.Tensor:
        """Return the weight of the module `name`; raises WorkerError when no file has it."""
        if self._files is None:
            self._files = self._files_by_key()
        # Files may omit the name of the base model, or have one more in front.
        wanted = f"{name}.weight"
        for key in (wanted, wanted.partition(".")[2], f"model.{wanted}"):
            if key in self._files:
                with safe_open(self._files[key], framework="pt") as file:
                    return file.get_tensor(key)
        raise WorkerError("start-unreadable", _missing_weight(self._plan.model_path, name))

    def _files_by_key(self) -> dict[str, Path]:
        index = self._cached(_INDEX)
        if index is not None:
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {key: index.parent / shard for key, shard in shards.items()}
        single = self._cached(_SINGLE)
        if single is None:
            return {}
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)

    def _cached(self, name: str) -> Path | None:
        try:
            path = cached_file(
                self._plan.model_path,
                name,
                revision=self._plan.model_revision,
                local_files_only=True,
            )
        except OSError:
            return None
        return Path(path) if path else None


def _missing_weight(model: str, name: str) -> Problem:
    return Problem(
        "adapter.init",
        f"The files of {model} have no weight named {name}, which this initialization needs.",
        "Choose the initialization default.",
    )
