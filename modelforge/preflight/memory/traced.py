"""The memory of a run from a trace of its training step, which the worker runs on meta tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelforge.config.plan.make import Plan, releases_memory
from modelforge.config.plan.training import generation_batching
from modelforge.config.schema.config import TrainingConfig
from modelforge.preflight.memory.estimate import OVERHEAD_GIB, PRODUCTS_GIB, MemoryPart
from modelforge.preflight.speed import max_tokens
from modelforge.units import GIB

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary

_PART_NAMES = (
    "weights",
    "adapter",
    "reference",
    "judge",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "generation",
    "evaluation",
    "overhead",
)
# On the CPU: bytes of the process beyond tensors and imports, and the share of the tensors freed
# during the forward pass that malloc cannot reuse: an aligned block needs 96 bytes more than its
# size, so the hole of an equal tensor is too small. An adapter allocates three more tensors per
# layer. With gradient checkpointing the worker returns memory at once. Measured with a Llama of 10
# layers at 2 x 256 tokens (full, LoRA, 4-bit; with and without checkpointing) and the starter with
# LoRA at 4 x 256 (bench/memory.py).
_PROCESS_BYTES = {"all": (0.35 * GIB, 0.0), "adapter": (0.2 * GIB, 0.2)}
_PROCESS_RELEASING_BYTES = {"all": 0.1 * GIB, "adapter": 0.2 * GIB}
# Share of small tensors retained, by gradient checkpointing; without it they lie between others
# that stay allocated. Measured with the starter in 4 bits at 1 x 384 and 4 x 64.
_SMALL_RETAINED = {True: 0.2, False: 0.4}


@dataclass(frozen=True)
class MemoryTrace:
    """The memory of a run at its peak, traced.

    Attributes:
        parts: Bytes of each part.
        transient: Bytes allocated and freed within one forward pass.
        small_transient: Those of them in small tensors.
        cached: Bytes of the CUDA caching allocator beyond the tensors.
        process: Bytes of the worker process with its imports.
        kv_bytes_per_token: Bytes of the KV cache per token of a generated completion.
    """

    key: str
    parts: dict[str, int] = field(default_factory=dict)
    transient: int = 0
    small_transient: int = 0
    cached: int = 0
    process: int = 0
    kv_bytes_per_token: int = 0
    seconds: float = 0.0


def longest_row_tokens(config: TrainingConfig, plan: Plan, summary: DatasetSummary | None) -> int:
    """Return the longest trained row in tokens, estimated from the dataset summary."""
    if summary is None or config.packing or config.pretraining.enabled:
        return plan.max_length
    return min(plan.max_length, max_tokens(summary.longest_chars))


def traced_parts(
    trace: MemoryTrace, config: TrainingConfig, plan: Plan, length: int
) -> list[MemoryPart]:
    """Return the parts of the memory of a traced run; `length` is its longest row in tokens."""
    sizes = dict(trace.parts)
    if plan.facts.generates:
        step = sizes.get("activations", 0) + sizes.get("logits", 0)
        sizes["generation"] = max(0, _generation(trace, config, plan, length) - step)
    sizes["overhead"] = _overhead(trace, config, plan)
    return [MemoryPart(name, sizes[name] / GIB) for name in _PART_NAMES if sizes.get(name)]


def _generation(trace: MemoryTrace, config: TrainingConfig, plan: Plan, length: int) -> int:
    """Return the bytes of the KV cache while the completions of one step are generated."""
    batching = generation_batching(
        config.rows_per_pass,
        config.gradient_accumulation_steps,
        config.trainer.num_generations,
    )
    tokens = batching.completions * (length + plan.max_completion_length)
    return tokens * trace.kv_bytes_per_token


def _overhead(trace: MemoryTrace, config: TrainingConfig, plan: Plan) -> int:
    if plan.device != "cpu":
        return int(OVERHEAD_GIB * GIB) + trace.cached
    constant, share = _PROCESS_BYTES[plan.trains]
    retained = share * trace.transient
    if releases_memory(config, plan):
        constant = _PROCESS_RELEASING_BYTES[plan.trains]
        retained = _SMALL_RETAINED[config.gradient_checkpointing] * trace.small_transient
    products = PRODUCTS_GIB * GIB if plan.precision == "bf16" else 0.0
    return int(trace.process + constant + products + retained)
