"""Write the model of a run with its adapter merged: weights, configs, tokenizer."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.errors import Problem, RunError
from modelforge.modeling.generation_config import FILE, load_generation_config
from modelforge.modeling.merging.old_names import write_old_names
from modelforge.modeling.merging.weights import (
    Progress,
    UnknownNamesError,
    WeightPrecision,
    merge,
)
from modelforge.modeling.providers.huggingface import GENERATING
from modelforge.modeling.rope import scale_rope
from modelforge.modeling.tokenizer_files import FILES
from modelforge.modeling.trained_run import (
    add_adapter,
    load_model,
    open_run_tokenizer,
    tokenizer_folder,
)


@dataclass(frozen=True)
class MergeSource:
    """What is merged: the folders of the base model, of the adapter, and of the run's result.

    `plan` is that of the run: its kind of model and its rope scaling. The result of the run has its
    tokenizer and generation config.
    """

    base: Path
    adapter: Path
    output: Path
    plan: Plan

    @property
    def head(self) -> Head:
        """The kind of model: causal, seq2seq or span."""
        return self.plan.facts.head


def write_merged(
    source: MergeSource, target: Path, progress: Progress, precision: WeightPrecision = "base"
) -> None:
    """Write the merged model into `target`; `progress` gets the share that is done.

    `precision` is that of `merge`.

    Raises:
        RunError: The base model is stored quantized, or the adapter does not fit it.
    """
    require_plain(source.base)
    _merge(source, target, progress, precision)
    write_old_names(target)
    _write_generation_config(source, target)
    _write_tokenizer(source, target)


def require_plain(base: Path) -> None:
    """Raise RunError if the weights of a base model are stored quantized."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        what = (
            f"The weights of {base.name} are stored quantized; merging into them loses precision."
        )
        remedy = "Train on the model with 16-bit weights, or export the adapter alone."
        raise RunError(Problem("base model", what, remedy))


def _merge(
    source: MergeSource, target: Path, progress: Progress, precision: WeightPrecision
) -> None:
    if source.head == "causal":
        try:
            config = AutoConfig.from_pretrained(source.base, trust_remote_code=False)
            scaled = scale_rope(config, source.plan)
            merge(source.base, source.adapter, target, progress, precision=precision, config=scaled)
        except UnknownNamesError:
            shutil.rmtree(target)
            target.mkdir()
        else:
            return
    # Files with other names than the model's own, and small models with other heads.
    _merge_whole(source, target, precision)


def _merge_whole(source: MergeSource, target: Path, precision: WeightPrecision) -> None:
    """Merge with all weights in memory, in float32; write them so, or as precise as the base."""
    model = load_model(source.base, source.head, plan=source.plan)
    stored: torch.dtype = model.dtype
    merged: Any = add_adapter(model.float(), source.adapter).merge_and_unload(safe_merge=True)
    merged = merged.to(stored) if precision == "base" else merged
    merged.save_pretrained(target, safe_serialization=True)


def _write_generation_config(source: MergeSource, target: Path) -> None:
    """Write the generation config of the run, whose stop tokens were set by the training."""
    if source.head not in GENERATING:
        return
    has_own = (source.output / FILE).is_file()
    folder = str(source.output if has_own else source.base)
    generation, _notes = load_generation_config(folder, revision=None, local_files_only=True)
    generation.save_pretrained(target)


def _write_tokenizer(source: MergeSource, target: Path) -> None:
    """Copy the tokenizer of the run; one without a chat template gets that of the training."""
    folder = tokenizer_folder(source.output, source.base)
    tokenizer = open_run_tokenizer(folder, source.head)
    for name in FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    if tokenizer.chat_template and not (target / "chat_template.jinja").is_file():
        tokenizer.save_pretrained(target)
