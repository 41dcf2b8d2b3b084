"""Speed of a run: time of a step and tokens per second, from its arithmetic and the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelforge.config.optimizers import MUON
from modelforge.config.plan.context import ModelFlops
from modelforge.config.plan.make import Plan
from modelforge.config.plan.memory import GRAPH_MODES
from modelforge.config.plan.run_length import PACKED_SHARE
from modelforge.config.plan.weights import VARLEN
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.estimate import (
    adapter_weights,
    offloaded_bytes,
    recomputed_layers,
    trained_weights,
    weight_bytes,
)

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine
    from modelforge.preflight.context import RunContext

TEMPLATE_TOKENS = 24
# Share of tokens in completions: 0.35 to 0.5 in the bundled samples.
TRAINED_SHARE = 0.4
# The next five values are fitted to the starter model on an EPYC with avx512_bf16: one thread,
# 22 combinations of options, and 145 tokens/s with two threads in fp32 (bench/training.py).
FLOPS_OF_TWO_CORES = 130e9
BF16_ON_CPU = 1.9
# With AVX-512, which converts bf16 first; without it, 5.7 in place of 115 tokens/s of the starter
# model with two threads of an EPYC.
BF16_CONVERTED, BF16_WITHOUT_INSTRUCTIONS = 0.5, 0.05
SECONDS_PER_WEIGHT_BYTE = 0.45e-9
SECONDS_PER_DROPPED = 4e-9
# An attention weight with dropout, for which the CPU has no kernel: 22e-9 s at 1,024 tokens and
# 77e-9 s at 256. The step took 1.8 to 2.2 times as long (two busy cores, depth 4).
SECONDS_PER_DROPPED_WEIGHT = 3e-8
HEAD_COST = 1.2
_DEQUANTIZATION = {"none": 1.0, "8-bit": 1.6, "4-bit": 1.35}
_DEQUANTIZATION_ON_CPU = {"none": 1.0, "8-bit": 3.0, "4-bit": 3.0}
# Dense 16-bit TFLOPS of a mid-range GPU of each compute capability.
_TFLOPS = {(7, 0): 100.0, (7, 5): 30.0, (8, 0): 280.0, (8, 6): 40.0, (8, 9): 60.0, (9, 0): 790.0}
_TFLOPS_NEWER = 60.0
# Turing without tensor cores.
_TFLOPS_GTX_16 = 8.0
_UTILIZATION = 0.4
_LAUNCH_SECONDS_PER_BLOCK = 0.005
# Pinned memory over PCIe 4 with 16 lanes, of 32 GB/s at most.
_COPY_BYTES_PER_SECOND = 20e9
# torch.compile saves 14 to 19 % of a step (axolotl, docs/optimizations.qmd; torchtune's README:
# 27 % more tokens per second). On the CPU it saved nothing in our benchmark.
COMPILED = 1.18
COMPILED_ON_CPU = 1.0
# Measured by nanochat on an H100 (dev/LOG.md): tokens per second with FP8 over bf16, by recipe, and
# without torch.compile, where scaling and conversion are kernels of their own. Emulated on one core
# of an EPYC, a layer of 1,024 or 2,048 numbers took 1.7 to 3 times as long.
FP8_FROM = (8, 9)
FP8_COMPILED = {"tensorwise": 1.17, "rowwise": 0.98}
FP8_NOT_COMPILED = 0.25
FP8_EMULATED = 0.5
# Polynomials that Muon applies to a matrix in each update.
MUON_STEPS = 5


@dataclass(frozen=True)
class BatchLayout:
    """The tokens of a micro-batch.

    Attributes:
        tokens: All tokens.
        useful: Tokens without padding.
        span: Tokens that each token attends to.
    """

    tokens: float
    useful: float
    span: float


@dataclass(frozen=True)
class StepEstimate:
    """One optimizer step: its tokens without padding, and its duration."""

    useful: float
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second, padding not counted."""
        return self.useful / self.seconds


def estimate_tokens(chars: float) -> float:
    """Return about how many tokens a row of this many characters has, chat template included."""
    return chars / 4 + TEMPLATE_TOKENS


def max_tokens(chars: float) -> int:
    """Return a number of tokens that a row of this many characters rarely exceeds."""
    return int(chars / 2) + 2 * TEMPLATE_TOKENS


def estimate_step(context: RunContext) -> StepEstimate | None:
    """Return the estimate of one step; None where it is unknown.

    With a method that generates, the time is that of completions of unknown length.
    """
    config, plan, model, summary = context.rank_config, context.plan, context.model, context.summary
    flops = flops_per_s(context)
    if model is None or summary is None or flops is None or plan.facts.generates:
        return None
    if not model.parameters or not model.layers:
        return None
    layout = batch_layout(config, plan, summary)
    # The forward pass of the reference model adds half of forward and backward.
    factor = 1.5 if plan.facts.needs_reference else 1.0
    work = layout.tokens * _flops_per_token(config, plan, model, layout)
    work += _head_flops(plan, model, layout)
    seconds = factor * work / flops + _cpu_overhead(config, plan, model, layout)
    if plan.device == "cuda":
        seconds = max(seconds, _launch_seconds(config, plan, model))
        seconds += _offload_seconds(context, layout)
    passes = config.per_device_train_batch_size // config.rows_per_pass
    batches = plan.gradient_accumulation_steps * passes
    seconds /= plan.sequence_parallel_size
    update = muon_flops(config, plan, model) / flops + exchange_seconds(config, plan, model)
    return StepEstimate(batches * plan.replicas * layout.useful, batches * seconds + update)


def exchange_seconds(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float:
    """Return the seconds of a step in which several GPUs exchange gradients and weights.

    Gradients are added up once in a step. Divided weights are gathered for each forward and each
    backward pass, and their gradients are added up in each.
    """
    if plan.ranks == 1:
        return 0.0
    trained = trained_weights(config, plan, model) * plan.trained_bytes
    sent = 2.0 * trained
    if plan.sharding in ("fsdp2", "zero3"):
        passes = plan.gradient_accumulation_steps
        sent = passes * (2 * weight_bytes(config, plan, model) + trained)
    return sent * (plan.ranks - 1) / plan.ranks / _COPY_BYTES_PER_SECOND


def muon_flops(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float:
    """Return the FLOPs of orthogonalizing all trained matrices once; 0 for other optimizers.

    Each of the steps multiplies the matrix of m x n (m <= n) by its transpose, the product of m x m
    by itself, and the matrix by the result: 4 m m n + 2 m m m.
    """
    if plan.optim not in MUON:
        return 0.0
    rank, shapes = config.lora_r, model.layer_matrices
    if plan.trains == "adapter":
        shapes = [(rank, size) for shape in shapes for size in shape]
    sides = [sorted(shape) for shape in shapes]
    work = sum(4 * m * m * n + 2 * m**3 for m, n in sides)
    return float(MUON_STEPS * (model.layers or 0) * work)


def _launch_seconds(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float:
    """Return the seconds in which the kernels of a micro-batch are launched, however small.

    A CUDA graph launches all of them at once.
    """
    if plan.torch_compile_mode in GRAPH_MODES:
        return 0.0
    blocks = (model.layers or 0) * 0.75 + 0.25 * recomputed_layers(config, model)
    return blocks * _LAUNCH_SECONDS_PER_BLOCK


def _offload_seconds(context: RunContext, layout: BatchLayout) -> float:
    """Return the seconds in which activations of a micro-batch are copied to the host and back.

    Those of recomputed layers are copied on the stream that computes, the others beside it.
    """
    config, plan, model = context.config, context.plan, context.model
    if model is None or not plan.activation_offload or not config.gradient_checkpointing:
        return 0.0
    copied = layout.tokens * offloaded_bytes(config, plan, model, plan.max_length)
    return 2 * copied / _COPY_BYTES_PER_SECOND


def batch_layout(config: TrainingConfig, plan: Plan, summary: DatasetSummary) -> BatchLayout:
    """Return the tokens of a micro-batch of rows as in the summary.

    Concatenated rows are separated by a full attention mask, so a token costs as much as if it
    attended to the whole micro-batch; without a mask it attends to its own row.
    """
    rows, longest = config.rows_per_pass, float(plan.max_length)
    if plan.pretraining is not None:
        windows = plan.pretraining.shape.windows
        return BatchLayout(rows * longest, rows * longest, sum(windows) / len(windows))
    mean = min(longest, estimate_tokens(summary.mean_chars))
    has_mask = plan.attn_implementation != VARLEN
    if config.packing:
        tokens = rows * longest
        return BatchLayout(tokens, tokens * PACKED_SHARE, 2 * tokens if has_mask else mean)
    if config.data.padding_free:
        return BatchLayout(rows * mean, rows * mean, 2 * rows * mean if has_mask else mean)
    padded = padded_length(config, plan, summary)
    return BatchLayout(rows * padded, rows * mean, padded)


def padded_length(config: TrainingConfig, plan: Plan, summary: DatasetSummary) -> float:
    """Return the mean length of a row with its padding, which grows with the rows of a batch."""
    if config.packing or config.pretraining.enabled:
        return float(plan.max_length)
    mean, longest = estimate_tokens(summary.mean_chars), estimate_tokens(summary.longest_chars)
    share = min(0.8, 0.175 * math.log2(config.rows_per_pass))
    if plan.group_by_length:
        share = min(0.1, share)
    if config.data.padding_free:
        share = 0.0
    # The mean of pairs counts both sides, the longest row one of them.
    return min(float(plan.max_length), mean + share * max(0.0, longest - mean))


def flops_per_s(context: RunContext) -> float | None:
    """Return the effective FLOPS of training on the device; None where they are unknown."""
    plan, machine, capability = context.plan, context.machine, context.compute_capability
    if plan.device == "cpu":
        cores = max(1.0, (machine.cores or 1) / context.ranks_here)
        factor = _bf16_factor(machine) if plan.precision == "bf16" else 1.0
        factor *= COMPILED_ON_CPU if plan.torch_compile else 1.0
        factor *= _float8_factor(plan, None)
        flops = FLOPS_OF_TWO_CORES * factor * float((cores / 2) ** 0.8)
        return flops / _dequantization(plan, _DEQUANTIZATION_ON_CPU)
    if plan.device == "mps":
        return None
    if capability is None or capability < (7, 0):
        return None
    peak = _TFLOPS.get(capability, _TFLOPS_NEWER if capability > (9, 0) else 30.0) * 1e12
    if context.gpu is not None and "GTX 16" in context.gpu.name:
        peak = _TFLOPS_GTX_16 * 1e12
    precision = 0.25 if plan.precision == "fp32" else 1.0
    compiled = COMPILED if plan.torch_compile else 1.0
    compiled *= _float8_factor(plan, capability)
    return peak * precision * compiled * _UTILIZATION / _dequantization(plan, _DEQUANTIZATION)


def _float8_factor(plan: Plan, capability: tuple[int, int] | None) -> float:
    """Return the speed of products in FP8 relative to those of the training precision."""
    if plan.fp8_recipe is None:
        return 1.0
    if capability is None or capability < FP8_FROM:
        return FP8_EMULATED
    return FP8_COMPILED[plan.fp8_recipe] if plan.torch_compile else FP8_NOT_COMPILED


def _bf16_factor(machine: Machine) -> float:
    """Return the speed of bf16 on the processor relative to fp32."""
    if machine.fast_bf16:
        return BF16_ON_CPU
    return BF16_WITHOUT_INSTRUCTIONS if machine.has_no_bf16 else BF16_CONVERTED


def _flops_per_token(
    config: TrainingConfig, plan: Plan, model: ModelInfo, layout: BatchLayout
) -> float:
    # Forward 2N, backward 2N (frozen weights have no gradient), adapter 6, recomputation 2N.
    attention = 2 * (model.layers or 0) * (model.hidden_size or 0) * layout.span
    forward = 2 * model.linear_weights + attention
    share = recomputed_layers(config, model) / (model.layers or 1)
    recomputed = forward * share
    adapter = 6 * adapter_weights(config.lora_r, model)
    weight_gradients = adapter if plan.trains == "adapter" else forward
    return 2 * forward + attention + weight_gradients + recomputed


def model_flops(config: TrainingConfig, model: ModelInfo) -> ModelFlops | None:
    """Return the operations of training as they are usually counted; None where unknown.

    6 for each weight of a matrix and each token: 2 of the forward pass, 2 of the gradients of the
    activations and 2 of those of the weights, which frozen weights do not have. Attention has 12
    for each layer, channel and token of the row (Chowdhery et al., "PaLM", 2022, appendix B).
    """
    if not model.parameters or not model.layers or not model.hidden_size:
        return None
    matrices = model.linear_weights + (model.vocab or 0) * model.hidden_size
    attention = 12.0 * model.layers * model.hidden_size
    if not config.adapter.enabled:
        return ModelFlops(6.0 * matrices, attention)
    return ModelFlops(4.0 * matrices + 6.0 * adapter_weights(config.lora_r, model), attention)


def _head_flops(plan: Plan, model: ModelInfo, layout: BatchLayout) -> float:
    """Return the FLOPs of the head: forward, recomputed forward, and backward.

    TRL computes it in chunks of trained tokens and fills the last chunk with others.
    """
    tokens = layout.tokens
    if plan.facts.chunks_loss:
        chunks = max(1, math.ceil(layout.useful * TRAINED_SHARE / plan.loss_piece))
        tokens = chunks * plan.loss_piece
    return tokens * 6 * (model.vocab or 0) * (model.hidden_size or 0) * HEAD_COST


def _cpu_overhead(
    config: TrainingConfig, plan: Plan, model: ModelInfo, layout: BatchLayout
) -> float:
    """Return the seconds of a micro-batch on the CPU beside arithmetic.

    Weights are read once per micro-batch; dropout draws a number for every input of an adapted
    layer, again when the forward pass is recomputed, and in a training from nothing for every
    attention weight.
    """
    if plan.device != "cpu":
        return 0.0
    dropped = 0.0
    if config.lora_dropout > 0 and plan.trains == "adapter":
        inputs = sum(inputs for inputs, _ in model.layer_matrices) * (model.layers or 0)
        share = recomputed_layers(config, model) / (model.layers or 1)
        dropped = layout.tokens * inputs * (1 + share)
    weights = 0.0
    if plan.pretraining is not None and config.pretraining.dropout > 0:
        weights = layout.tokens * layout.span * (model.heads or 0) * (model.layers or 0)
    seconds = dropped * SECONDS_PER_DROPPED + weights * SECONDS_PER_DROPPED_WEIGHT
    return seconds + weight_bytes(config, plan, model) * SECONDS_PER_WEIGHT_BYTE


def _dequantization(plan: Plan, factors: dict[str, float]) -> float:
    # Formats that have not been measured count as 8-bit.
    return factors.get(plan.quantization, factors["8-bit"])
