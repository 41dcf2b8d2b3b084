"""How quickly a run learns: useful tokens a second, from its arithmetic and the device's speed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelforge.config.plan.make import Plan
from modelforge.config.plan.training import PACKED_SHARE
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.estimate import adapter_weights, weight_bytes

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine

TEMPLATE_TOKENS = 24
# The share of tokens that stand in an answer: 0.35 to 0.5 in the bundled samples.
TRAINED_SHARE = 0.4
# The five figures below are fitted to the starter model on an EPYC with avx512_bf16: one thread,
# 22 combinations of the levers, and 145 tokens/s with two threads in fp32 (bench/training.py).
TWO_CORES = 130e9
BF16_ON_CPU = {True: 1.9, False: 0.5}
SECONDS_PER_WEIGHT_BYTE = 0.45e-9
SECONDS_PER_DROPPED = 4e-9
HEAD_COST = 1.2
_UNPACKING = {"none": 1.0, "8-bit": 1.6, "4-bit": 1.35}
_UNPACKING_ON_CPU = {"none": 1.0, "8-bit": 3.0, "4-bit": 3.0}
# Dense 16-bit multiplications a second of a middling card of each generation, in 1e12.
_CARDS = {(7, 0): 100.0, (7, 5): 30.0, (8, 0): 280.0, (8, 6): 40.0, (8, 9): 60.0, (9, 0): 790.0}
_NEWER_CARDS = 60.0
_USED_SHARE = 0.4
_SECONDS_PER_BLOCK = 0.005
# torch.compile took 14 to 19 % off a step (axolotl, docs/optimizations.qmd; limits of torchtune's
# README: 27 % more tokens a second).
COMPILED = 1.18
# Compiled code of the CPU was no quicker in our own bench.
COMPILED_ON_CPU = 1.0


@dataclass(frozen=True)
class BatchLayout:
    """The tokens of one micro-batch: all, those that are no padding, and how far each looks."""

    tokens: float
    useful: float
    span: float


@dataclass(frozen=True)
class StepEstimate:
    """One update: its tokens without padding, and how long it takes."""

    useful: float
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Useful tokens a second."""
        return self.useful / self.seconds


def estimate_tokens(chars: float) -> float:
    """Return about how many tokens a row of so many characters becomes, its template included."""
    return chars / 4 + TEMPLATE_TOKENS


def max_tokens(chars: float) -> int:
    """Return a number of tokens that a row of so many characters hardly ever exceeds."""
    return int(chars / 2) + 2 * TEMPLATE_TOKENS


def estimate_step(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelInfo, look: DatasetSummary
) -> StepEstimate | None:
    """Return about how one update goes; None when that cannot be said.

    Learning from rewards is nothing but writing answers, of a length that nobody knows before.
    """
    rate = flops_per_s(config, plan, machine)
    if plan.method == "rlhf" or rate is None or not facts.parameters or not facts.layers:
        return None
    laid = batch_layout(config, plan, look)
    # The reference model reads everything too: half as much again as forward and backward.
    more = 1.5 if plan.method in ("dpo", "kto") else 1.0
    work = laid.tokens * _flops_per_token(config, plan, facts, laid) + _head(plan, facts, laid)
    seconds = more * work / rate + _beside(config, plan, facts, laid)
    if plan.device == "cuda":
        # However little there is to work out, every kernel of a block must be launched.
        again = 1.0 if config.gradient_checkpointing else 0.75
        seconds = max(seconds, facts.layers * _SECONDS_PER_BLOCK * again)
    batches = plan.gradient_accumulation_steps
    return StepEstimate(batches * laid.useful, batches * seconds)


def batch_layout(config: TrainingConfig, plan: Plan, look: DatasetSummary) -> BatchLayout:
    """Return the tokens of one micro-batch of such rows.

    Rows that lie end to end are told apart by a mask of all against all, so each token costs as
    much attention as if it looked at the whole micro-batch.
    """
    rows, longest = config.per_device_train_batch_size, float(plan.max_length)
    if config.packing:
        tokens = rows * longest
        return BatchLayout(tokens, tokens * PACKED_SHARE, 2 * tokens)
    mean = min(longest, estimate_tokens(look.mean_chars))
    if config.data.padding_free:
        return BatchLayout(rows * mean, rows * mean, 2 * rows * mean)
    padded = padded_length(config, plan, look)
    return BatchLayout(rows * padded, rows * mean, padded)


def padded_length(config: TrainingConfig, plan: Plan, look: DatasetSummary) -> float:
    """Return about how long a row is with its padding; the more rows, the longer the longest."""
    if config.packing:
        return float(plan.max_length)
    mean, longest = estimate_tokens(look.mean_chars), estimate_tokens(look.longest_chars)
    share = min(0.8, 0.175 * math.log2(config.per_device_train_batch_size))
    if plan.group_by_length:
        share = min(0.1, share)
    if config.data.padding_free:
        share = 0.0
    return min(float(plan.max_length), mean + share * (longest - mean))


def flops_per_s(config: TrainingConfig, plan: Plan, machine: Machine) -> float | None:
    """Return the arithmetic that training gets out of the device; None when nobody knows."""
    if plan.device == "cpu":
        cores = max(1, machine.cores or 1)
        fast = BF16_ON_CPU[machine.fast_bf16] if plan.precision == "bf16" else 1.0
        fast *= COMPILED_ON_CPU if plan.torch_compile else 1.0
        return TWO_CORES * fast * float((cores / 2) ** 0.8) / _unpacking(plan, _UNPACKING_ON_CPU)
    if plan.device == "mps":
        return None
    index = config.hardware.gpu_index
    gpu = next((gpu for gpu in machine.gpus if gpu.index == index), None)
    capability = gpu.compute_capability if gpu else None
    if capability is None or capability < (7, 0):
        return None
    peak = _CARDS.get(capability, _NEWER_CARDS if capability > (9, 0) else 30.0) * 1e12
    half = 0.25 if plan.precision == "fp32" else 1.0
    fast = COMPILED if plan.torch_compile else 1.0
    return peak * half * fast * _USED_SHARE / _unpacking(plan, _UNPACKING)


def _flops_per_token(
    config: TrainingConfig, plan: Plan, facts: ModelInfo, laid: BatchLayout
) -> float:
    # Forward 2N, backward 2N (frozen weights have no gradient), adapter 6, recomputing 2N.
    attention = 2 * (facts.layers or 0) * (facts.hidden_size or 0) * laid.span
    forward = 2 * facts.linear_weights + attention
    again = forward if config.gradient_checkpointing else 0.0
    adapter = 6 * adapter_weights(config.lora_r, facts)
    learned = adapter if plan.trains == "adapter" else forward
    return 2 * forward + attention + learned + again


def _head(plan: Plan, facts: ModelInfo, laid: BatchLayout) -> float:
    """Return the work of the head: forward, once more, and backward, a piece of tokens at a time.

    TRL works only on tokens that are trained, and fills the last piece up with others.
    """
    rows = laid.tokens
    if plan.method == "sft":
        pieces = max(1, math.ceil(laid.useful * TRAINED_SHARE / plan.loss_piece))
        rows = pieces * plan.loss_piece
    return rows * 6 * (facts.vocab or 0) * (facts.hidden_size or 0) * HEAD_COST


def _beside(config: TrainingConfig, plan: Plan, facts: ModelInfo, laid: BatchLayout) -> float:
    """Return the seconds of a micro-batch on the CPU that are no arithmetic.

    Weights are brought in once for each micro-batch, and dropout draws a number for every input
    of an adapted layer, again when the forward is done again.
    """
    if plan.device != "cpu":
        return 0.0
    dropped = 0.0
    if config.lora_dropout > 0 and plan.trains == "adapter":
        inputs = sum(each for each, _ in facts.layer_matrices) * (facts.layers or 0)
        dropped = laid.tokens * inputs * (2 if config.gradient_checkpointing else 1)
    brought = weight_bytes(config, plan, facts)
    return dropped * SECONDS_PER_DROPPED + brought * SECONDS_PER_WEIGHT_BYTE


def _unpacking(plan: Plan, times: dict[str, float]) -> float:
    # Schemes that nobody has measured here are taken to cost what 8 bits do.
    return times.get(plan.quantization, times["8-bit"])


if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine


def estimate_seconds(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelInfo, look: DatasetSummary
) -> float | None:
    """Return about how long the run takes, loading included; None when that cannot be said."""
    update = estimate_step(config, plan, machine, facts, look)
    if update is None or plan.total_steps is None:
        return None
    checks = _checks_s(config, plan, machine, facts, look)
    return plan.total_steps * update.seconds + checks + _loading(plan, facts)


def eval_time_ratio(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelInfo, look: DatasetSummary
) -> float:
    """Return how long all checks on held-out rows take as a multiple of the training."""
    if plan.device == "mps":
        plan = replace(plan, device="cpu")  # its speed is unknown, but a share hardly depends on it
    update = estimate_step(config, plan, machine, facts, look)
    if update is None or not plan.total_steps:
        return 0.0
    training = plan.total_steps * update.seconds
    return _checks_s(config, plan, machine, facts, look) / training


def _checks_s(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelInfo, look: DatasetSummary
) -> float:
    rate = flops_per_s(config, plan, machine)
    if not plan.eval_steps or not plan.total_steps or rate is None:
        return 0.0
    times = -(-plan.total_steps // plan.eval_steps)
    each = 2 * ((facts.parameters or 0) + adapter_weights(config.lora_r, facts))
    length = padded_length(config, plan, look)
    return times * look.rows * config.eval_split * length * each / rate


def _loading(plan: Plan, facts: ModelInfo) -> float:
    return (12.0 if plan.device == "cuda" else 8.0) + facts.weights_gib * 2
