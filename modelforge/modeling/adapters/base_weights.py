"""The weights of a model as its files have them, one layer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers.utils.hub import cached_file

from modelforge.config.plan.make import Plan
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class BaseWeights:
    """Reads single weights out of the files of a model that was loaded before."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._files: dict[str, Path] | None = None

    def load(self, name: str) -> torch.Tensor:
        """Return the weight of the layer `name`. Raises WorkError when no file has it."""
        files = self._where()
        # Files may leave the body's own name out, or have one more in front.
        wanted = f"{name}.weight"
        for key in (wanted, wanted.partition(".")[2], f"model.{wanted}"):
            if key in files:
                with safe_open(files[key], framework="pt") as opened:
                    return opened.get_tensor(key)
        raise WorkerError("start-unreadable", _unreadable(self._plan.model_path, name))

    def _where(self) -> dict[str, Path]:
        if self._files is None:
            index = self._file(_INDEX)
            if index is not None:
                parts = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                self._files = {key: index.parent / part for key, part in parts.items()}
            else:
                self._files = self._keys_of(self._file(_ONE))
        return self._files

    def _keys_of(self, path: Path | None) -> dict[str, Path]:
        if path is None:
            return {}
        with safe_open(path, framework="pt") as opened:
            return dict.fromkeys(opened.keys(), path)

    def _file(self, name: str) -> Path | None:
        found = cached_file(
            self._plan.model_path,
            name,
            revision=self._plan.model_revision,
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return Path(found) if found else None


def _unreadable(model: str, name: str) -> Problem:
    return Problem(
        "adapter.init",
        f"The files of {model} hold no weight named {name}, which this start begins from.",
        "Choose the start default.",
    )
