"""All checks, in the order in which their findings are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from modelforge.errors import Finding
from modelforge.preflight.checks import (
    data,
    engine,
    growing,
    layers,
    logs,
    machine,
    model,
    pretraining,
    privacy,
    provider,
    quantization,
    ranks,
    resources,
    settings,
)
from modelforge.preflight.context import RunContext
from modelforge.preflight.suggest.fit import FitOptions

Check = Callable[[RunContext], Iterator[Finding]]
FitCheck = Callable[[RunContext, FitOptions], Iterator[Finding]]

LOADING_CHECKS: tuple[Check, ...] = (
    engine.engine_ready,
    provider.provider_ready,
    provider.provider_supports_method,
    model.model_wrong_kind,
    model.model_already_quantized,
    model.chat_template_file,
    model.rope_scaling,
    model.hub_kernel,
    layers.tokens_without_rows,
    layers.tokenizer_borrowed,
    layers.weights_not_finite,
    layers.unknown_layers,
    growing.model_cannot_grow,
    machine.device_missing,
    machine.gpu_missing,
    machine.torch_unsuited,
    machine.bf16_unsupported,
    machine.fp16_on_cpu,
    quantization.quantized_unsupported,
    quantization.fp8_unsupported,
    quantization.fp8_training_unsupported,
    quantization.nvfp4_unsupported,
    quantization.mxfp4_model,
    quantization.package_missing,
    quantization.nothing_quantized,
    privacy.privacy_impossible,
    ranks.gpus_missing,
    ranks.nodes_not_filled,
    ranks.gpus_impossible,
    ranks.sharding_impossible,
    ranks.deepspeed_missing,
    ranks.sequence_not_shared,
    ranks.rows_not_shared,
)
FIT_CHECKS: tuple[FitCheck, ...] = (resources.weights_too_large, resources.memory_short)
TRAINING_CHECKS: tuple[Check, ...] = (
    resources.disk_space,
    resources.merge_impossible,
    resources.merge_needs_memory,
    pretraining.text_too_short,
    pretraining.vocabulary_too_large,
    pretraining.batch_not_whole,
    pretraining.text_repeated,
    pretraining.head_frozen,
    growing.masked_objective,
    growing.cache_unused,
    data.wrong_kind,
    data.nothing_to_train,
    data.no_prompt_fits,
    data.trained_validation_file,
    data.split_is_possible,
    data.dataset_findings,
    settings.schedule_fits,
    settings.schedule_follows_results,
    settings.completions_leave_room,
    settings.reward_verdict,
    settings.adapter_dropout,
    settings.adapter_scale,
    settings.muon_on_adapter,
    settings.few_steps,
    settings.slow_evaluation,
    settings.learning_rate,
    settings.length_known,
    settings.checkpoint_is_early,
    settings.plan_changes,
    settings.unused_settings,
    privacy.privacy_costs,
    ranks.last_step_repeats,
    ranks.loading_memory,
    settings.tracker_missing,
    settings.tracker_online,
    logs.repository_unusable,
    logs.log_file_unusable,
    data.rows_truncated,
    quantization.quantized_slow,
    quantization.fp8_training_slow,
    machine.fp16_overflows,
    machine.paging_unsupported,
    machine.bf16_on_cpu,
    machine.gpu_memory_in_use,
    machine.profile_differs,
    machine.profile_files,
    provider.precision_changed,
    provider.attention_unused,
    provider.provider_untested,
    model.no_chat_template,
    model.remote_code_unused,
    model.generation_fields_dropped,
    resources.memory_unknown,
    engine.engine_estimates,
    resources.memory_limited,
    resources.host_memory_short,
    settings.graphs_need_one_shape,
)
_LEVELS = ("blocker", "caution", "note")


def run_checks(context: RunContext, fit: FitOptions) -> list[Finding]:
    """Return the findings of all checks: blockers, then cautions, then notes."""
    findings = [finding for check in LOADING_CHECKS for finding in check(context)]
    findings += [finding for check in FIT_CHECKS for finding in check(context, fit)]
    findings += [finding for check in TRAINING_CHECKS for finding in check(context)]
    return sorted(findings, key=lambda finding: _LEVELS.index(finding.level))
