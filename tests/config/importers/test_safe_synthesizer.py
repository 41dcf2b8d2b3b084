"""Files of NeMo Safe Synthesizer."""

import pytest

from modelforge.config.importers.read import import_settings
from modelforge.config.importers.safe_synthesizer import OPTIONS
from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import make_plan
from tests.config.importers.examples import (
    line_of,
    problems_of,
    read_example,
    resolved,
    settings_of,
)


def test_every_option_of_its_training_group_is_known():
    imported = read_example("safe-synthesizer", "00-document")
    given = {line.name for line in imported.report if not line.is_default}
    of_training = {name for name in OPTIONS if not name.startswith("privacy.")}
    assert given == of_training - {
        *("data", "generation", "evaluation", "time_series", "data_source"),
        "effective_batch_size",
    }


def test_records_decide_the_length():
    recipe = read_example("safe-synthesizer", "01").recipe
    assert recipe["data"]["records_to_sample"] == 12_000
    assert "max_steps" not in recipe
    plan = plan_of(read_example("safe-synthesizer", "01"), train_rows=4000)
    assert (plan.total_steps, plan.epochs) == (1500, 3)  # of 1 row times 8
    assert read_example("safe-synthesizer", "00-document").recipe["data"] == {
        "records_to_sample": "auto"
    }
    (problem,) = settings_of_zero()
    assert problem.result == "refused"


def settings_of_zero():
    text = "training:\n  num_input_records_to_sample: 0\n  pretrained_model: m\n"
    found = import_settings(text, "file.yaml", "safe-synthesizer").imported.report
    return [line for line in found if line.name == "num_input_records_to_sample"]


def plan_of(imported, **facts):
    config = resolved(imported).config
    return make_plan(config, PlanContext("cuda", config.model_name, **facts))


@pytest.mark.parametrize(("name", "rate"), [("00-document", 5e-4), ("02", 1e-4)])
def test_the_automatic_rate_depends_on_the_model(name, rate):
    assert plan_of(read_example("safe-synthesizer", name)).learning_rate == rate


@pytest.mark.parametrize(
    ("name", "strategy", "scheme"),
    [
        ("00-document", "sft", "none"),
        ("03", "qlora", "bnb-4bit"),
        ("04", "qlora", "bnb-4bit"),
        ("05", "qlora", "bnb-8bit"),
        ("06", "qlora", "fp8"),
    ],
)
def test_quantize_model_decides_about_the_scheme(name, strategy, scheme):
    recipe = read_example("safe-synthesizer", name).recipe
    assert recipe["strategy"] == strategy
    assert recipe["quantization"]["scheme"] == scheme


def test_the_scheme_wins_over_bits_and_the_difference_is_named():
    imported = read_example("safe-synthesizer", "07")
    assert imported.recipe["quantization"]["scheme"] == "bnb-4bit"
    assert imported.recipe["adapter"]["init"] == "loftq"
    assert "it is not bnb-8bit" in line_of(imported, "quantization_bits").why


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("rope_scaling_factor: auto", ("linear", None)),
        ("rope_scaling_factor: 3", ("linear", 3.0)),
        ("rope_scaling_factor: 1", (None, None)),
    ],
)
def test_the_context_grows_by_a_factor(line, found):
    settings = settings_of(f"pretrained_model: a/b\n{line}\n", "safe-synthesizer")
    assert (settings.get("model.rope_type"), settings.get("model.rope_factor")) == found


def test_a_kernel_of_the_hub_needs_consent_here():
    imported = read_example("safe-synthesizer", "10")
    line = line_of(imported, "attn_implementation")
    assert line.result == "refused"
    assert "model.allow_hub_kernels" in line.why
    assert "attn_implementation" not in imported.recipe["model"]


def test_alpha_is_a_multiple_of_the_rank():
    recipe = read_example("safe-synthesizer", "09").recipe
    assert (recipe["lora_r"], recipe["lora_alpha"]) == (16, 8)


def test_options_inside_the_section_have_their_lines():
    imported = read_example("safe-synthesizer", "08")
    assert line_of(imported, "validation_ratio").line == 2
    assert line_of(imported, "lr_scheduler").line == 4


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ("lora_alpha_over_r: 4", "lora_alpha_over_r"),
        ("num_input_records_to_sample: many", "num_input_records_to_sample"),
        ("learning_rate: fast", "learning_rate"),
        ("weight_decay: 2", "weight_decay"),
        ("validation_ratio: -0.1", "validation_ratio"),
        ("quantization_bits: 5", "quantization_bits"),
        ("max_vram_fraction: 1.5", "max_vram_fraction"),
        ("rope_scaling_factor: 0.5", "rope_scaling_factor"),
        ("lora_target_modules: [q_proj, w_proj]", "lora_target_modules"),
        ("lr_scheduler: bumpy", "lr_scheduler"),
        ("batch_size: 1.5", "batch_size"),
        ("{peft_implementation: loftq, quantization_scheme: fp8}", "peft_implementation"),
    ],
)
def test_a_value_outside_of_its_range_is_an_error(options, option):
    text = f"training:\n  {options}\n" if options[0] != "{" else f"training: {options}\n"
    line = 1 if options[0] == "{" else 2
    problems = problems_of(text, "safe-synthesizer")
    assert [problem.where for problem in problems] == [f"file.yaml, line {line}, {option}"]


def test_without_a_section_its_options_are_read_too():
    assert settings_of("lora_alpha_over_r: 2\nlora_r: 4\nvalidation_steps: 5\n")["lora_alpha"] == 8


def test_differential_privacy_is_taken():
    text = "training:\n  batch_size: 4\nprivacy:\n  dp_enabled: {}\n  epsilon: 3\n  delta: auto\n"
    settings = settings_of(text.format("true"), "safe-synthesizer")
    assert settings["privacy.enabled"] is True
    assert settings["privacy.epsilon"] == 3
    assert "privacy.delta" not in settings
    assert "privacy.enabled" not in settings_of(text.format("false"), "safe-synthesizer")


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ("dp_enabled: maybe", "line 4, privacy.dp_enabled"),
        ("dp_enabled: true\n  epsilon: -1", "line 5, privacy.epsilon"),
        ("dp_enabled: true\n  delta: small", "line 5, privacy.delta"),
        ("per_sample_max_grad_norm: []", "line 4, privacy.per_sample_max_grad_norm"),
    ],
)
def test_a_wrong_value_of_privacy_is_named_with_its_line(lines, where):
    text = f"training:\n  batch_size: 4\nprivacy:\n  {lines}\n"
    problems = problems_of(text, "safe-synthesizer")
    assert [problem.where for problem in problems] == [f"file.yaml, {where}"]


def test_every_option_of_privacy_has_a_line_of_the_report():
    text = (
        "training:\n  batch_size: 4\nprivacy:\n  dp_enabled: false\n  epsilon: 3\n  colour: red\n"
    )
    report = import_settings(text, "file.yaml", "safe-synthesizer").imported.report
    found = {line.name: line.result for line in report if line.name.startswith("privacy")}
    assert found == {
        "privacy.dp_enabled": "no-effect",
        "privacy.epsilon": "no-effect",
        "privacy.colour": "refused",
    }
