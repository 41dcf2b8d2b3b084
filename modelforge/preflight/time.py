"""About how long a run takes, worked out from its arithmetic and the speed of the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.models.shape import ModelFacts
from modelforge.preflight.memory import adapter_weights

if TYPE_CHECKING:
    from modelforge.data.look import FirstLook
    from modelforge.machine import Machine

TEMPLATE_TOKENS = 24
# Measured: the starter model, batch 4 x 128 tokens, 60 updates in 180 s on two cores, fp32.
TWO_CORES = 97e9
_UNPACKING = {"none": 1.0, "8-bit": 1.6, "4-bit": 1.35}
_UNPACKING_ON_CPU = {"none": 1.0, "8-bit": 3.0, "4-bit": 3.0}
# Dense 16-bit multiplications a second of a middling card of each generation, in 1e12.
_CARDS = {(7, 0): 100.0, (7, 5): 30.0, (8, 0): 280.0, (8, 6): 40.0, (8, 9): 60.0, (9, 0): 790.0}
_NEWER_CARDS = 60.0
_USED_SHARE = 0.4
_SECONDS_PER_BLOCK = 0.005


def tokens_in(chars: float) -> float:
    """Return about how many tokens a row of so many characters becomes, its template included."""
    return chars / 4 + TEMPLATE_TOKENS


def most_tokens_in(chars: float) -> int:
    """Return a number of tokens that a row of so many characters hardly ever exceeds."""
    return int(chars / 2) + 2 * TEMPLATE_TOKENS


def estimate_seconds(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelFacts, look: FirstLook
) -> float | None:
    """Return about how long the run takes, loading included; None when that cannot be said.

    Learning from rewards is nothing but writing answers, of a length that nobody knows before.
    """
    speed = _speed(config, plan, machine)
    if (
        plan.method == "rlhf"
        or speed is None
        or not facts.parameters
        or not facts.layers
        or plan.total_steps is None
    ):
        return None
    length = _padded_length(config, plan, look)
    seconds = _training(config, plan, facts, length) / speed
    if plan.device == "cuda":
        batches = plan.total_steps * config.gradient_accumulation_steps
        seconds = max(seconds, batches * facts.layers * _SECONDS_PER_BLOCK)
    return seconds + _checks(config, plan, facts, look, length) / speed + _loading(plan, facts)


def checks_by_training(
    config: TrainingConfig, plan: Plan, facts: ModelFacts, look: FirstLook
) -> float:
    """Return the work of all checks on held-out rows as a multiple of the work of training."""
    length = _padded_length(config, plan, look)
    training = _training(config, plan, facts, length)
    return _checks(config, plan, facts, look, length) / training if training else 0.0


def _training(config: TrainingConfig, plan: Plan, facts: ModelFacts, length: float) -> float:
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    # The reference model reads everything too: half as much again as forward and backward.
    more = 1.5 if plan.method in ("dpo", "kto") else 1.0
    return (plan.total_steps or 0) * rows * length * more * _flops_per_token(config, facts, length)


def _padded_length(config: TrainingConfig, plan: Plan, look: FirstLook) -> float:
    if config.packing:
        return float(plan.max_length)
    mean, longest = tokens_in(look.mean_chars), tokens_in(look.longest_chars)
    share = 0.0
    if config.per_device_train_batch_size > 1:
        share = 0.1 if config.group_by_length else 0.35
    return min(float(plan.max_length), mean + share * (longest - mean))


def _flops_per_token(config: TrainingConfig, facts: ModelFacts, length: float) -> float:
    # Forward 2N, backward 2N (frozen weights have no gradient), adapter 6, recomputing 2N.
    head = (facts.vocab or 0) * (facts.hidden_size or 0)
    adapter = adapter_weights(config.lora_r, facts)
    attention = 4 * (facts.layers or 0) * (facts.hidden_size or 0) * length
    forward = 2 * facts.linear_weights + attention / 2
    again = forward if config.gradient_checkpointing else 0.0
    learned = 6 * adapter if config.adapter.enabled else forward + 2 * head
    return 2 * forward + 4 * head + learned + again


def _checks(
    config: TrainingConfig, plan: Plan, facts: ModelFacts, look: FirstLook, length: float
) -> float:
    if not plan.eval_steps or not plan.total_steps:
        return 0.0
    times = -(-plan.total_steps // plan.eval_steps)
    each = 2 * ((facts.parameters or 0) + adapter_weights(config.lora_r, facts))
    return times * look.rows * config.eval_split * length * each


def _speed(config: TrainingConfig, plan: Plan, machine: Machine) -> float | None:
    if plan.device == "cpu":
        cores = max(1, machine.cores or 1)
        return TWO_CORES * float((cores / 2) ** 0.8) / _unpacking(plan, _UNPACKING_ON_CPU)
    if plan.device == "mps":
        return None
    index = config.hardware.gpu_index
    gpu = next((gpu for gpu in machine.gpus if gpu.index == index), None)
    capability = gpu.compute_capability if gpu else None
    if capability is None or capability < (7, 0):
        return None
    peak = _CARDS.get(capability, _NEWER_CARDS if capability > (9, 0) else 30.0) * 1e12
    half = 0.25 if plan.precision == "fp32" else 1.0
    return peak * half * _USED_SHARE / _unpacking(plan, _UNPACKING)


def _unpacking(plan: Plan, times: dict[str, float]) -> float:
    # Schemes that nobody has measured here are taken to cost what 8 bits do.
    return times.get(plan.quantization, times["8-bit"])


def _loading(plan: Plan, facts: ModelFacts) -> float:
    return (12.0 if plan.device == "cuda" else 8.0) + facts.weights_gib * 2
