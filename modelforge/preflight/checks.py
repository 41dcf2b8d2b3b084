"""Every check that preflight makes, in the order in which it speaks."""

from __future__ import annotations

from modelforge.errors import Finding
from modelforge.preflight import (
    on_data,
    on_kind,
    on_machine,
    on_model,
    on_provider,
    on_room,
    on_settings,
    on_trackers,
    on_weights,
)
from modelforge.preflight.case import Case, Check

CHECKS: tuple[Check, ...] = (
    on_provider.provider_ready,
    on_provider.provider_suits,
    on_model.model_wrong_kind,
    on_model.model_already_quantized,
    on_machine.device_missing,
    on_machine.gpu_missing,
    on_machine.bf16_card,
    on_machine.fp16_on_cpu,
    on_weights.quantized_card,
    on_weights.fp8_card,
    on_weights.nvfp4_card,
    on_weights.mxfp4_model,
    on_weights.package_missing,
    on_weights.nothing_quantized,
    on_room.memory_base,
    on_room.memory_short,
    on_room.disk,
    on_kind.wrong_kind,
    on_kind.nothing_to_learn,
    on_kind.same_in_validation,
    on_data.split_is_possible,
    on_data.data_findings,
    on_settings.schedule_fits,
    on_settings.few_updates,
    on_settings.checks_take_long,
    on_settings.learning_rate,
    on_settings.plan_changes,
    on_settings.unused,
    on_trackers.tracker_missing,
    on_trackers.leaves_the_computer,
    on_data.rows_cut,
    on_weights.quantized_slow,
    on_machine.bf16_on_cpu,
    on_machine.vram_held,
    on_machine.profile_differs,
    on_provider.attention_unused,
    on_provider.provider_untested,
    on_model.no_chat_template,
    on_model.remote_code_off,
    on_room.memory_unknown,
)
_ORDER = ("blocker", "caution", "note")


def findings(case: Case) -> list[Finding]:
    """Return what every check says: blockers first, then cautions, then notes."""
    said = [finding for check in CHECKS for finding in check(case)]
    return sorted(said, key=lambda finding: _ORDER.index(finding.level))
