"""Combine several adapters of one base model into a single one.

PEFT does it, over base weights that take no memory: linear, cat (stacked: exact, at the sum of the
ranks), TIES and DARE. What it would combine wrongly is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoConfig

from modelforge.errors import Problem, RunError
from modelforge.export.job import AdapterPart, Job
from modelforge.modeling.errors import first_line
from modelforge.modeling.merging.weights import empty_model
from modelforge.runs.exports import Combination
from modelforge.runs.portable.model_card import file_name

NAME = "combined"
PRUNING = ("ties", "dare_linear", "dare_ties")
# Settings of an adapter that PEFT does not combine, and what they are.
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "modules_to_save": "whole layers beside the adapter",
    "trainable_token_indices": "rows of the embeddings",
    "target_parameters": "parameters that are not layers",
    "lora_bias": "biases of its own",
    "rank_pattern": "ranks that differ between layers",
}
# Settings that must be the same, as only those of the first adapter are kept.
_SAME = ("layers_to_transform", "layers_pattern", "exclude_modules", "fan_in_fan_out", "bias")


def combine(job: Job, target: Path) -> None:
    """Write the combination of the adapters of an export into `target`.

    Raises:
        RunError: An adapter, a weight or the density does not allow it.
    """
    request = job.request
    combine_parts(job.source, job.adapters, target, request.combination, request.density)


def combine_parts(
    base: Path,
    parts: Sequence[AdapterPart],
    target: Path,
    combination: Combination,
    density: float = 0.5,
    seed: int = 0,
) -> None:
    """Write the combination of adapters of the model in `base` into `target`.

    `density` is the share of values that TIES and DARE keep; DARE draws them with `seed`.

    Raises:
        RunError: A weight, the density or an adapter does not allow it.
    """
    configs = [_config(part) for part in parts]
    problems = [*_number_problems(parts, combination, density), *_problems(parts, configs)]
    if combination != "cat":
        problems += _rank_problems(parts, configs, combination)
    if problems:
        raise RunError(problems)
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    # PEFT would round the stacked adapters to the precision of the base model.
    config.dtype = torch.float32
    model = empty_model(config, parts[0].path)
    names = [model.active_adapter, *(f"part-{place}" for place in range(1, len(parts)))]
    _load(model, parts, names)
    arguments: dict[str, Any] = {"weights": [part.weight for part in parts]}
    if combination in PRUNING:
        arguments["density"] = density
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model.add_weighted_adapter(
                names, adapter_name=NAME, combination_type=combination, **arguments
            )
        except (ValueError, TypeError, RuntimeError) as error:
            what = f"The adapters cannot be combined: {first_line(error)}"
            raise _problem(what, "Choose other runs, or merge them one by one.") from error
    _save(model, target)


def _load(model: PeftModel, parts: Sequence[AdapterPart], names: Sequence[str]) -> None:
    """Load the other adapters beside the first one."""
    for part, name in zip(parts[1:], names[1:], strict=True):
        try:
            model.load_adapter(part.path, name, torch_device="cpu")
        except (RuntimeError, ValueError, KeyError) as error:
            what = f"The adapter of {part.name} does not fit the base model."
            raise _problem(what, "Choose runs of one base model.") from error
    # Some initializations read the base weights, which are empty here.
    model.peft_config[names[0]].init_lora_weights = True


def _save(model: PeftModel, target: Path) -> None:
    """Write the combined adapter into `target` itself, not into a subfolder with its name."""
    # The scale of each adapter is part of the combined weights.
    model.peft_config[NAME].use_rslora = False
    model.save_pretrained(target, selected_adapters=[NAME], save_embedding_layers=False)
    for path in (target / NAME).iterdir():
        path.replace(target / path.name)
    (target / NAME).rmdir()


def _config(part: AdapterPart) -> Any:
    config = PeftConfig.from_pretrained(part.path)
    if config.peft_type != "LORA":
        what = f"The adapter of {part.name} is {config.peft_type}, not LoRA."
        raise _problem(what, "Choose runs that trained LoRA adapters.")
    return config


def _number_problems(
    parts: Sequence[AdapterPart], combination: str, density: float
) -> Iterator[Problem]:
    for part in parts:
        if not math.isfinite(part.weight):
            what = f"The weight of {part.name} is {part.weight}."
            yield Problem("adapters", what, "Give a number such as 0.5.")
    if all(part.weight == 0 for part in parts):
        yield Problem("adapters", "All weights are 0.", "Give one of them another weight.")
    if combination in PRUNING and not 0 < density <= 1:
        yield Problem("density", f"{density:g} is not a share.", "Give a number above 0, up to 1.")


def _problems(parts: Sequence[AdapterPart], configs: Sequence[Any]) -> Iterator[Problem]:
    first_part, first = parts[0], configs[0]
    for part, config in zip(parts, configs, strict=True):
        for name, what in _UNSUPPORTED.items():
            if getattr(config, name, None):
                text = f"The adapter of {part.name} has {what} ({name}), which cannot be combined."
                yield Problem("adapters", text, "Merge this run alone.")
        for name in _SAME:
            if getattr(config, name, None) != getattr(first, name, None):
                text = f"{name} differs between {first_part.name} and {part.name}."
                yield Problem("adapters", text, "Choose runs with the same setting.")
        if isinstance(config.target_modules, str) != isinstance(first.target_modules, str):
            text = f"{part.name} names its layers by a pattern, {first_part.name} by a list."
            yield Problem("adapters", text, "Choose runs with the same kind of setting.")
        if _model_name(config) != _model_name(first):
            text = f"{part.name} was trained on {_model_name(config)}, "
            text += f"{first_part.name} on {_model_name(first)}."
            yield Problem("adapters", text, "Choose runs of one base model.")


def _rank_problems(
    parts: Sequence[AdapterPart], configs: Sequence[Any], combination: str
) -> Iterator[Problem]:
    if len({config.r for config in configs}) > 1:
        ranks = ", ".join(f"{part.name} has {c.r}" for part, c in zip(parts, configs, strict=True))
        what = f"{combination} needs adapters of one rank; {ranks}."
        yield Problem("combination", what, "Choose cat, which stacks any ranks.")


def _model_name(config: Any) -> str:
    return file_name(str(config.base_model_name_or_path or ""))


def _problem(what: str, remedy: str) -> RunError:
    return RunError(Problem("adapters", what, remedy))
