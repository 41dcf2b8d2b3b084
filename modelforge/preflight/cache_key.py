"""Keys of cached measurements (memory traces and trial runs), and the hash of a plan.

A key contains every setting that is not declared irrelevant for the cache (see SettingOptions), and
the effective values from the plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.config.fields import field_specs
from modelforge.config.plan.make import Plan
from modelforge.config.resolve import flatten
from modelforge.config.schema.base import Cache
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.models.fingerprint import fingerprint

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine

_PLAN_FIELDS = (
    "model_path",
    "model_revision",
    "device",
    "precision",
    "quantization",
    "bnb_4bit_compute_dtype",
    "optim",
    "method",
    "trains",
    "attn_implementation",
    "adapter_dtype",
    "start_from",
    "loss_piece",
    "weights_dtype",
    "rope_type",
    "rope_factor",
    "max_model_len",
    "activation_offload",
    "fp8_recipe",
)
HASH_DIGITS = 32
_TRIAL_RUN_PLAN_FIELDS = (
    "max_length",
    "group_by_length",
    "gradient_accumulation_steps",
    "torch_compile",
    "torch_compile_mode",
)


def plan_hash(
    config: TrainingConfig, plan: Plan, model: ModelInfo, dataset: Mapping[str, Any]
) -> str:
    """Return a hash of what a run would do; `dataset` is the entry of its record.

    Equal hashes mean the same settings and effective values on the same rows and weights.
    """
    is_folder = model.local and model.revision is None
    parts = {
        "config": config.explicit_values(),
        "plan": plan.as_dict(),
        "dataset": dataset,
        "base": fingerprint(Path(model.path)) if is_folder else model.revision,
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:HASH_DIGITS]


def memory_trace_key(
    config: TrainingConfig, plan: Plan, length: int, shape: str, versions: Mapping[str, str]
) -> str:
    """Return the key of runs with the same memory trace.

    `length` is the longest row in tokens, `shape` the text of the model's config.json or its
    hash, `versions` those of the training libraries.
    """
    return _digest(
        {
            "settings": _settings(config, "memory"),
            "plan": {name: getattr(plan, name) for name in _PLAN_FIELDS},
            "length": length,
            "accumulates": plan.gradient_accumulation_steps > 1,
            "evaluates": config.evaluates,
            "shape": shape,
            "versions": dict(versions),
        }
    )


def trial_run_key(
    config: TrainingConfig,
    plan: Plan,
    model: ModelInfo,
    summary: DatasetSummary,
    machine: Machine,
    versions: Mapping[str, str | None],
) -> str:
    """Return the key of runs with the same memory and the same time per step.

    `versions` are those of the training libraries.
    """
    fields = (*_PLAN_FIELDS, *_TRIAL_RUN_PLAN_FIELDS)
    gpu = next((gpu for gpu in machine.gpus if gpu.index == config.hardware.gpu_index), None)
    device = gpu.name if plan.device == "cuda" and gpu else f"{machine.cpu} {machine.cores}"
    key = _digest(
        {
            "settings": _settings(config, "trial_run"),
            "plan": {name: getattr(plan, name) for name in fields},
            # The evaluation interval has no effect, but whether the run evaluates has.
            "evaluates": plan.eval_steps is not None,
            "model": [model.name, model.path, model.revision, model.parameters],
            "data": [summary.sha256, summary.rows, summary.mean_chars, summary.longest_chars],
            "machine": [machine.system, device, machine.ram_total_gib],
            "versions": dict(versions),
        }
    )
    return key[:32]


def _settings(config: TrainingConfig, cache: Cache) -> dict[str, Any]:
    values = flatten(config.model_dump(mode="json"))
    return {
        spec.name: values.get(spec.name)
        for spec in field_specs()
        if cache not in spec.irrelevant_for
    }


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
