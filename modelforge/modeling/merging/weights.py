"""Merge adapters into freshly loaded base weights, one shard at a time.

PEFT builds the model with its adapters over empty weights; each base weight is then read from its
file, merged by PEFT's own code for that layer in float32, and written in the precision of the base.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import init_empty_weights
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from modelforge.errors import Problem, RunError

Progress = Callable[[float], None]
WeightPrecision = Literal["base", "float16", "float32"]
_F16_MAX = 65504.0
_BEFORE_WRITING = 0.99  # share of the progress before the last file is written
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


class UnknownNamesError(RunError):
    """The files of the base model name its weights otherwise than the model does."""


@dataclass(frozen=True)
class Shard:
    """A file of weights and the names in it."""

    path: Path
    keys: list[str]


def shards_of(folder: Path) -> list[Shard]:
    """Return the weight files of a model folder; raises RunError if there are none."""
    index = folder / INDEX
    if index.is_file():
        files: dict[str, list[str]] = {}
        weights: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        for key, name in weights.items():
            files.setdefault(name, []).append(key)
        return [Shard(folder / name, keys) for name, keys in sorted(files.items())]
    if not (folder / SINGLE).is_file():
        what = f"{folder.name} has no safetensors weights."
        raise RunError(Problem("base model", what, "Choose the folder of the base model."))
    with safe_open(folder / SINGLE, framework="pt") as file:
        return [Shard(folder / SINGLE, list(file.keys()))]


def merge(
    base: Path,
    adapter: Path,
    target: Path,
    progress: Progress = lambda _share: None,
    *,
    precision: WeightPrecision = "base",
    config: Any = None,
) -> None:
    """Write the weights of `base` with `adapter` merged, and their config, into `target`.

    Memory stays under one shard as it is written, the adapter, and one weight in float32.
    `precision` is that of the base, float32, or float16 for merged weights of bfloat16: it has
    three more bits for changes. `config` is that of the merged model, if it is another one.

    Raises:
        RunError: The adapter does not fit the base model.
        UnknownNamesError: The files have no weight for a layer of the adapter.
    """
    config = config or AutoConfig.from_pretrained(base, trust_remote_code=False)
    merger = _Merger(empty_model(config, adapter), precision=precision)
    weight_map: dict[str, str] = {}
    shards, size = shards_of(base), 0
    count, done = sum(len(shard.keys) for shard in shards), 0
    for shard in shards:
        tensors: dict[str, torch.Tensor] = {}
        for key in shard.keys:
            tensors |= merger.merged(key, _weight(shard.path, key))
            done += 1
            progress(min(done / count, _BEFORE_WRITING))
        save_file(tensors, target / shard.path.name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, shard.path.name)
        size += sum(tensor.nbytes for tensor in tensors.values())
    progress(1.0)
    merger.require_all()
    if len(shards) > 1:
        _write_index(target, weight_map, size)
    config.tie_word_embeddings = config.tie_word_embeddings and not merger.is_untied
    config.dtype = torch.float32 if precision == "float32" else config.dtype
    config.save_pretrained(target)


def _weight(path: Path, key: str) -> torch.Tensor:
    """Return one weight in memory of its own.

    The file is opened for each, since what was read of an open one stays in memory: beside the
    merged weights, all of it.
    """
    with safe_open(path, framework="pt") as file:
        weight: torch.Tensor = file.get_tensor(key)
        return weight.clone()


def _write_index(target: Path, weight_map: dict[str, str], size: int) -> None:
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (target / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def merge_in_place(model: PeftModel) -> None:
    """Merge the adapter of a model in float32, and round to the precision of each weight."""
    adapter = model.active_adapter
    for module in list(model.modules()):
        if isinstance(module, ModulesToSaveWrapper):
            dtypes = {name: own.dtype for name, own in module.original_module.named_parameters()}
            for name, own in module.modules_to_save[adapter].named_parameters():
                own.data = own.data.to(dtypes.get(name, own.dtype)).to(own.dtype)
        elif isinstance(module, BaseTunerLayer):
            layer = module.get_base_layer()
            merged = merged_weight(module, layer.weight, adapter).to(layer.weight.dtype)
            layer.weight = torch.nn.Parameter(merged, requires_grad=False)
            module.merged_adapters.append(adapter)


class _Merger:
    """The adapted layers of a model without base weights, each merged when its weight comes."""

    def __init__(self, model: PeftModel, *, precision: WeightPrecision) -> None:
        """Take the layers of a model on the meta device."""
        self._precision = precision
        inner = model.get_base_model()
        self._adapted = {
            name: module
            for name, module in inner.named_modules()
            if isinstance(module, (BaseTunerLayer, ModulesToSaveWrapper))
        }
        self._adapter = model.active_adapter
        self._tied = _tied_head(inner)
        self._left = set(self._adapted)
        self.is_untied = False

    def merged(self, key: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the merged weight by its name, with that of a tied head if it differs now."""
        result = {key: self._merge(key, weight)}
        if self._tied and key == self._tied[0]:
            head = self._merge(self._tied[1], weight)
            if head.dtype != result[key].dtype or not torch.equal(head, result[key]):
                result[self._tied[1]] = head
                self.is_untied = True
        return result

    def require_all(self) -> None:
        """Raise UnknownNamesError if the weight of an adapted layer did not come."""
        if self._left:
            what = f"The base model has no weight for {min(self._left)} of the adapter."
            remedy = "Choose the model that it was trained on."
            raise UnknownNamesError(Problem("adapter", what, remedy))

    def _merge(self, key: str, weight: torch.Tensor) -> torch.Tensor:
        path, _, name = key.rpartition(".")
        module = self._adapted.get(path)
        if self._precision == "float32" and weight.is_floating_point():
            weight = weight.float()
        if module is None:
            return weight
        if isinstance(module, ModulesToSaveWrapper):
            self._left.discard(path)
            trained: torch.Tensor = module.modules_to_save[self._adapter].get_parameter(name)
            return trained.detach().to(weight.dtype)
        if name != "weight":
            return weight
        self._left.discard(path)
        merged = merged_weight(module, weight, self._adapter)
        is_kept_finer = self._precision == "float16" and weight.dtype == torch.bfloat16
        fits = is_kept_finer and merged.abs().max() <= _F16_MAX
        return merged.to(torch.float16 if fits else weight.dtype)


def merged_weight(layer: Any, weight: torch.Tensor, adapter: str) -> torch.Tensor:
    """Return a base weight merged with the adapter of its layer by PEFT, in float32."""
    inner = layer.get_base_layer()
    own = inner.weight
    inner.weight = torch.nn.Parameter(weight.float(), requires_grad=False)
    layer.merge(safe_merge=True, adapter_names=[adapter])
    merged: torch.Tensor = inner.weight.detach()
    layer.merged_adapters.clear()
    inner.weight = own
    return merged


def empty_model(config: Any, adapter: Path) -> PeftModel:
    """Return the model with its adapter over base weights that take no memory."""
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    # Not on the meta device, to which PEFT would move the adapter as well.
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            empty = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
            setattr(module, name, torch.nn.Parameter(empty, requires_grad=False))
    try:
        return PeftModel.from_pretrained(model, adapter, torch_device="cpu")
    except (RuntimeError, ValueError, KeyError) as error:
        what = f"The adapter does not fit the base model: {str(error).splitlines()[0]}"
        remedy = "Choose the model that it was trained on."
        raise RunError(Problem("adapter", what, remedy)) from error


def _tied_head(model: Any) -> tuple[str, str] | None:
    """Return the names of the embedding and of the head that shares its weight."""
    if not model.config.tie_word_embeddings:
        return None
    names = {id(module): name for name, module in model.named_modules()}
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return (f"{names[id(embedding)]}.weight", f"{names[id(head)]}.weight") if head else None
