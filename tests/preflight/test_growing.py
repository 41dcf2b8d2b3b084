"""Memory, time and findings of a growing model."""

from __future__ import annotations

from dataclasses import replace

from modelforge.preflight import preflight
from modelforge.preflight.disk import disk_needed_gib
from modelforge.preflight.suggest.fit import search_fit
from tests.preflight.contexts import (
    LAPTOP,
    LLAMA_8B,
    STARTER,
    WORKSTATION,
    findings_of,
    make_context,
)


def growing(machine=LAPTOP, info=STARTER, **group):
    return make_context(machine, info).with_settings(
        {"adapter.enabled": False, "progressive.enabled": True, "progressive.steps_per_stage": 10}
        | {f"progressive.{name}": value for name, value in group.items()}
    )


def codes(context):
    return [finding.code for finding in findings_of(context)]


def test_the_report_has_the_memory_and_the_time_of_each_stage():
    report = preflight(growing(stages=3, joint_tuning_steps=5))
    stages = report.stages
    assert [stage.layers for stage in stages] == [31, 32, 33, 33]
    assert all(stage.seconds > 0 and stage.memory_gib > 0 for stage in stages)
    assert report.memory_total_gib == max(stage.memory_gib for stage in stages)
    assert stages[-1].memory_gib > stages[0].memory_gib + 1  # optimizer states of all weights
    assert stages[-1].seconds > stages[0].seconds
    assert report.updates == 35


def test_each_stage_has_the_parts_of_its_memory_and_all_at_once_take_more():
    report = preflight(growing(stages=3, layers_per_stage=2))
    for stage in report.stages:
        assert sum(part.gib for part in stage.memory) == stage.memory_gib
    assert report.at_once_gib > report.memory_total_gib
    whole = preflight(growing(stages=1, layers_per_stage=6))
    assert report.at_once_gib == whole.memory_total_gib
    assert whole.at_once_gib is None  # nothing to compare
    assert preflight(make_context(LAPTOP, STARTER)).at_once_gib is None


def test_the_time_of_the_optimizer_counts_where_all_weights_train():
    stages = preflight(growing(stages=1, joint_tuning_steps=10)).stages
    times = stages[1].seconds / stages[0].seconds
    flops = stages[1].flops_per_token / stages[0].flops_per_token
    assert flops < times < 2 * flops


def test_the_speed_of_earlier_runs_counts_for_each_stage():
    context = growing(joint_tuning_steps=5)
    plain, slow = preflight(context), preflight(replace(context, step_time_factor=2.0))
    seconds = [stage.seconds for stage in plain.stages]
    assert [stage.seconds for stage in slow.stages] == [2 * each for each in seconds]
    # What a run measures last is compared with the last stage.
    assert plain.step_seconds == slow.step_seconds == seconds[-1] / 5


def test_a_frozen_trunk_saves_the_activations_of_its_layers():
    def activations(recomputes, **group):
        context = growing(stages=1, **group).with_settings({"gradient_checkpointing": recomputes})
        return next(part.gib for part in context.formula_parts if part.name == "activations")

    assert activations(False) * 10 < activations(False, direction="prepend")
    # Recomputed layers save their input alone, and one of them is there as a whole.
    assert activations(True) < activations(True, direction="prepend") < 2 * activations(True)


def test_a_quantized_trunk_takes_less_memory():
    plain = growing(WORKSTATION, LLAMA_8B, stages=1).formula_gib
    quantized = growing(WORKSTATION, LLAMA_8B, stages=1, trunk_quantization="bnb-4bit").formula_gib
    assert quantized < plain - 7


def test_a_model_whose_layers_are_not_known_is_refused_before_the_start():
    other = replace(STARTER, model_type="gpt2")
    context = growing(info=other, direction="prepend")
    found = [f for f in findings_of(context) if f.code == "model-cannot-grow"]
    assert [finding.where for finding in found] == ["progressive.direction", "model_name"]
    assert {finding.level for finding in found} == {"blocker"}
    assert "model-cannot-grow" not in codes(growing())
    assert "model-cannot-grow" in codes(growing(info=replace(STARTER, experts=8)))


def test_the_masked_objective_is_called_experimental():
    assert "masked-experimental" in codes(growing(objective="mlm"))
    assert "masked-experimental" not in codes(growing())


def test_disk_space_counts_the_models_of_stages_and_the_cache():
    def needed(**group):
        context = growing(**group)
        return disk_needed_gib(context.config, context.plan, context.model)

    last = needed(save_each_stage=False, stages=4)
    assert needed(stages=4) > last + 0.9
    assert needed(cache_activations=True, cache_limit_gib=7) > needed() + 6.9


def test_remedies_for_too_little_memory_can_be_taken():
    small = replace(LAPTOP, ram_total_gib=2.0, ram_free_gib=1.6)
    context = growing(small, stages=1, joint_tuning_steps=4)
    names = [set(way.settings) for way in search_fit(context).suggestions]
    assert any("progressive.joint_tuning_steps" in each for each in names)
    assert not any(each & {"adapter.enabled", "use_4bit"} for each in names)


def test_a_cache_that_is_read_once_is_named():
    context = growing(cache_activations=True)
    plan = replace(context.plan, growing=replace(context.plan.growing, epochs=1.0))
    assert "cache-read-once" in codes(replace(context, plan=plan))
    assert "cache-read-once" not in codes(growing(cache_activations=True, epochs_per_stage=2))
