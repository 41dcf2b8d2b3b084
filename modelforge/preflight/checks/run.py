"""Every check that preflight makes, in the order in which it speaks."""

from __future__ import annotations

from modelforge.errors import Finding
from modelforge.preflight.checks import (
    data,
    machine,
    model,
    provider,
    quantization,
    resources,
    settings,
)
from modelforge.preflight.context import Check, RunContext

CHECKS: tuple[Check, ...] = (
    provider.provider_ready,
    provider.provider_suits,
    model.model_wrong_kind,
    model.model_already_quantized,
    machine.device_missing,
    machine.gpu_missing,
    machine.bf16_card,
    machine.fp16_on_cpu,
    quantization.quantized_card,
    quantization.fp8_card,
    quantization.nvfp4_card,
    quantization.mxfp4_model,
    quantization.package_missing,
    quantization.nothing_quantized,
    resources.memory_base,
    resources.memory_short,
    resources.disk,
    data.wrong_kind,
    data.nothing_to_learn,
    data.same_in_validation,
    data.split_is_possible,
    data.data_findings,
    settings.schedule_fits,
    settings.few_updates,
    settings.checks_take_long,
    settings.learning_rate,
    settings.plan_changes,
    settings.unused,
    settings.tracker_missing,
    settings.leaves_the_computer,
    data.rows_cut,
    quantization.quantized_slow,
    machine.bf16_on_cpu,
    machine.vram_held,
    machine.profile_differs,
    provider.attention_unused,
    provider.provider_untested,
    model.no_chat_template,
    model.remote_code_off,
    resources.memory_unknown,
)
_ORDER = ("blocker", "caution", "note")


def findings(case: RunContext) -> list[Finding]:
    """Return what every check says: blockers first, then cautions, then notes."""
    said = [finding for check in CHECKS for finding in check(case)]
    return sorted(said, key=lambda finding: _ORDER.index(finding.level))
