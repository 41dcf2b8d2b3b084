"""What a run was found to hold by tracing it, and the parts of its memory that come to.

The worker traces the code that trains; what tensors do not say is added here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from modelforge.config.plan.make import Plan, releases_memory
from modelforge.config.plan.training import generation_batching
from modelforge.config.schema.config import TrainingConfig
from modelforge.preflight.memory.estimate import (
    OVERHEAD_GIB,
    PRODUCTS_GIB,
    MemoryPart,
    longest_row,
)
from modelforge.preflight.speed import max_tokens
from modelforge.units import GIB

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary

# What bears on no tensor.
_NO_MATTER = frozenset(
    {"dataset", "model_name", "compute_specs", "num_train_epochs", "max_steps", "learning_rate"}
    | {"weight_decay", "lr_scheduler_type", "warmup_ratio", "max_grad_norm", "eval_steps"}
    | {"eval_split", "max_seq_length", "optim", "lora_alpha", "gradient_accumulation_steps"}
    | {"logging", "schedule", "progressive", "evaluation", "optimizer", "hardware", "memory"}
)
_OF_PLAN = (
    *("model_path", "model_revision", "device", "precision", "quantization", "optim", "method"),
    *("bnb_4bit_compute_dtype", "trains", "attn_implementation", "adapter_dtype", "start_from"),
    "loss_piece",
)
_KINDS = (
    *("weights", "adapter", "reference", "judge", "gradients", "optimizer"),
    *("activations", "logits", "generation", "evaluation"),
)
# What the process of a run on the CPU holds beyond tensors and imports, in bytes, and the share of
# what comes and goes in a forward pass that malloc cannot use again: for an aligned block it wants
# a hole of 96 bytes more, so that a tensor's own is too small for the next. An adapter sends three
# more tensors through each layer. With recomputation the worker gives tensors back at once.
# Measured: a Llama of 10 layers at 2 x 256 tokens trained whole, with LoRA and in 4 bits, with and
# without recomputation, and the starter with LoRA at 4 x 256 (see bench/memory.py).
_BESIDE = {"all": (0.35 * GIB, 0.0), "adapter": (0.2 * GIB, 0.2)}
_BESIDE_GIVING = {"all": 0.1 * GIB, "adapter": 0.2 * GIB}
# Of small tensors; where nothing is worked out again they lie between others that stay. The starter
# in 4 bits at 1 x 384, and with recomputation at 4 x 64.
_SMALL_KEPT = {True: 0.2, False: 0.4}


@dataclass(frozen=True)
class MemoryTrace:
    """What a run holds, traced: bytes of each part at the moment of the most.

    `passing` are the bytes that come and go in one forward pass, `passing_small` those in small
    tensors, `cached` what torch's cache on a card holds beyond tensors, `process` the worker with
    its imports, `cache_token` what a token of an answer that is being written takes.
    """

    key: str
    parts: dict[str, int] = field(default_factory=dict)
    transient: int = 0
    small_transient: int = 0
    cached: int = 0
    process: int = 0
    kv_bytes_per_token: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MemoryTrace:
        """Read back what `as_dict` gave; raises TypeError for anything else."""
        return cls(**data)


def longest_row_tokens(config: TrainingConfig, plan: Plan, look: DatasetSummary | None) -> int:
    """Return how long the longest row is, as far as the first look tells."""
    return longest_row(config, plan, max_tokens(look.longest_chars) if look else None)


def memory_trace_key(
    config: TrainingConfig, plan: Plan, length: int, shape: str, versions: Mapping[str, str]
) -> str:
    """Return what is the same for runs with the same footprint.

    `shape` is the text of the model's config.json, or what else tells it; `versions` are those of
    the libraries that train.
    """
    said = {name: value for name, value in config.model_dump().items() if name not in _NO_MATTER}
    for group, names in (("trainer", ("seed", "save_steps")), ("data", ("sources",))):
        for name in names:
            said.get(group, {}).pop(name, None)
    accumulates = plan.gradient_accumulation_steps > 1
    about = {
        "said": said,
        "plan": {name: getattr(plan, name) for name in _OF_PLAN},
        "length": length,
        "accumulates": accumulates,
        "checks": config.eval_split > 0 or bool(config.data.validation_sources),
        "shape": shape,
        "versions": dict(versions),
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def traced_parts(
    found: MemoryTrace, config: TrainingConfig, plan: Plan, length: int
) -> list[MemoryPart]:
    """Return the parts of the memory of a run that was traced."""
    sizes = dict(found.parts)
    if plan.method == "rlhf":
        held = sizes.get("activations", 0) + sizes.get("logits", 0)
        sizes["generation"] = max(0, _answers(found, config, length) - held)
    sizes["overhead"] = _overhead(found, config, plan)
    order = (*_KINDS, "overhead")
    return [MemoryPart(name, sizes[name] / GIB) for name in order if sizes.get(name)]


def _answers(found: MemoryTrace, config: TrainingConfig, length: int) -> int:
    """Return what the answers to one update's prompts take while they are written, all at once."""
    own = config.trainer
    layout = generation_batching(
        config.per_device_train_batch_size,
        config.gradient_accumulation_steps,
        own.num_generations,
    )
    return layout.completions * (length + own.max_completion_length) * found.kv_bytes_per_token


def _overhead(found: MemoryTrace, config: TrainingConfig, plan: Plan) -> int:
    if plan.device != "cpu":
        return int(OVERHEAD_GIB * GIB) + found.cached
    constant, share = _BESIDE[plan.trains]
    kept = share * found.transient
    if releases_memory(config, plan):
        constant = _BESIDE_GIVING[plan.trains]
        kept = _SMALL_KEPT[config.gradient_checkpointing] * found.small_transient
    products = PRODUCTS_GIB * GIB if plan.precision == "bf16" else 0.0
    return int(found.process + constant + products + kept)
