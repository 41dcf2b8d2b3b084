"""Duration of a run: steps, evaluations, sample prompts, CORE, loading and merging."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelforge.config.plan.pretraining import text_tokens
from modelforge.config.plan.training import sample_rounds
from modelforge.config.sampling import BEGINNINGS
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.training import own_prompts
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.estimate import adapter_weights, weight_bytes
from modelforge.preflight.merging import merge_seconds
from modelforge.preflight.speed import estimate_step, flops_per_s, padded_length
from modelforge.preflight.stages import stage_seconds

if TYPE_CHECKING:
    from modelforge.preflight.context import RunContext

# How many times as long as estimated a run on a CPU may take before one has been measured there:
# 2.0 to 2.7 times on two shared cores (31 tokens/s where 83 were estimated).
LONGEST_FACTOR = 3.0
# A generated token: kernel launches of a block, and reading weights from memory at 10 GB/s.
_DECODE_SECONDS_PER_BLOCK, _SECONDS_PER_BYTE_READ = 0.0008, 1e-10
# A block took 0.7 s forward (accelerate, benchmarks/torch.compile: 10.7 s for 16), and backward
# takes as long again. One block and the head are compiled where its code is used for all.
COMPILE_SECONDS_PER_LAYER = 1.4
REGIONS = 2


def estimate_seconds(context: RunContext) -> float | None:
    """Return about how long the run takes, loading included; None where it is unknown.

    Steps and evaluations are corrected by the last runs on the device.
    """
    step, total, model = estimate_step(context), context.plan.total_steps, context.model
    if step is None or total is None or model is None:
        return None
    loading = (12.0 if context.plan.device == "cuda" else 8.0) + model.weights_gib * 2
    if context.plan.torch_compile and context.plan.device == "cuda":
        loading += compile_seconds(context.config, model)
    stages = stage_seconds(context)
    training = sum(stages) if stages else total * step.seconds
    work = training + _evaluation_seconds(context)
    work += sample_seconds(context) + core_seconds(context)
    merging = merge_seconds(context.config, context.plan, model)
    return work * (context.step_time_factor or 1.0) + loading + merging


def compile_seconds(config: TrainingConfig, model: ModelInfo) -> float:
    """Return about how long torch.compile takes at the start of a run on a GPU."""
    layers = model.layers or 0
    if config.hardware.regional_compilation:
        layers = min(layers, REGIONS)
    return COMPILE_SECONDS_PER_LAYER * layers


def longest_seconds(context: RunContext) -> float | None:
    """Return how long the run may take on a CPU whose speed is unknown; None for other devices.

    An estimate assumes the CPU of the benchmark, without other work.
    """
    if context.plan.device != "cpu" or context.step_time_factor is not None:
        return None
    seconds = estimate_seconds(context)
    return None if seconds is None else LONGEST_FACTOR * seconds


def eval_time_ratio(context: RunContext) -> float:
    """Return the time of all evaluations as a multiple of the training time."""
    if context.plan.device == "mps":
        # The speed is unknown, but the ratio hardly depends on it.
        context = replace(context, plan=replace(context.plan, device="cpu"))
    step, total = estimate_step(context), context.plan.total_steps
    if step is None or not total:
        return 0.0
    return _evaluation_seconds(context) / (total * step.seconds)


def sample_seconds(context: RunContext) -> float:
    """Return the time of answering the sample prompts in the whole run; 0 where it is unknown.

    Every answer counts with its greatest length. A token of all answers reads each weight once and
    launches the kernels of every block.
    """
    config, plan, model = context.config, context.plan, context.model
    flops, total = flops_per_s(context), plan.total_steps
    rounds = sample_rounds(config, plan.method, total, plan.eval_steps)
    if model is None or flops is None or not rounds:
        return 0.0
    usual = len(BEGINNINGS) if plan.pretraining else config.evaluation.samples
    prompts = len(own_prompts(config.evaluation)) or usual
    per_token = prompts * 2 * (model.parameters or 0) / flops
    per_token += (model.layers or 0) * _DECODE_SECONDS_PER_BLOCK
    if plan.device == "cpu":
        per_token += weight_bytes(config, plan, model) * _SECONDS_PER_BYTE_READ
    return rounds * config.evaluation.sample_tokens * per_token


def core_seconds(context: RunContext) -> float:
    """Return the time of scoring the model on CORE in the whole run; 0 where it is unknown."""
    config, plan, model = context.config, context.plan, context.model
    planned, flops, total = plan.pretraining, flops_per_s(context), plan.total_steps
    if planned is None or model is None or flops is None or not total:
        return 0.0
    every = config.evaluation.core_every
    rounds = -(-total // every) if every > 0 else 1
    per_row = (model.layers or 0) * _DECODE_SECONDS_PER_BLOCK
    per_token = 2 * model.forward_weights / flops
    seconds = 0.0
    for task in context.core:
        tokens = text_tokens(task.sequence_characters, planned.shape.vocab_size)
        tokens = min(tokens, planned.shape.context)
        seconds += task.rows * (per_row + task.sequences * tokens * per_token)
    return rounds * seconds


def _evaluation_seconds(context: RunContext) -> float:
    config, plan, model, summary = context.config, context.plan, context.model, context.summary
    flops = flops_per_s(context)
    if model is None or summary is None or flops is None:
        return 0.0
    if not plan.eval_steps or not plan.total_steps:
        return 0.0
    evaluations = -(-plan.total_steps // plan.eval_steps)
    per_token = 2 * ((model.parameters or 0) + adapter_weights(config.lora_r, model))
    length = padded_length(config, plan, summary)
    return evaluations * context.eval_rows * length * per_token / flops
