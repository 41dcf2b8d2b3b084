"""Files of H2O LLM Studio."""

import pytest

from modelforge.config.importers.read import import_settings
from tests.config.importers.examples import line_of, problems_of, read_example, settings_of


def test_an_experiment_on_questions():
    recipe = read_example("h2o", "01-causal").recipe
    assert recipe["strategy"] == "qlora"
    assert recipe["quantization"]["scheme"] == "bnb-4bit"
    assert recipe["data"]["sources"] == [
        {"path": "questions.csv", "instruction_field": "question", "output_field": "reply"}
    ]
    assert recipe["hardware"]["gpu_index"] == 0
    assert recipe["warmup_ratio"] == 0.1
    assert recipe["adapter"]["target_modules"] == "all-linear"


def test_an_experiment_on_preferences():
    imported = read_example("h2o", "02-dpo")
    assert imported.recipe["strategy"] == "dpo"
    assert imported.recipe["data"]["sources"] == [
        {
            "path": "questions.csv",
            "prompt_field": "question",
            "chosen_field": "reply",
            "rejected_field": "worse",
        }
    ]
    assert line_of(imported, "dataset.mask_prompt_labels").result == "no-effect"


def test_weights_and_evaluation_rows():
    recipe = read_example("h2o", "03-bfloat16-full").recipe
    assert recipe["quantization"]["scheme"] == "none"
    assert recipe["hardware"]["precision"] == "bf16"
    assert recipe["optim"] == "adamw_8bit"
    assert recipe["evaluation"]["keep_best"] is True
    assert recipe["data"]["validation_sources"][0]["path"] == "more.csv"


def test_what_the_file_leaves_out_has_the_defaults_of_h2o():
    settings = settings_of("llm_backbone: acme/pine\ntraining: {epochs: 2}\n")
    assert settings["lora_r"] == 4
    assert settings["optim"] == "adamw_torch"
    assert settings["lr_scheduler_type"] == "cosine"
    assert settings["max_grad_norm"] == 0.0


def test_other_tasks_are_named():
    text = "llm_backbone: acme/pine\nproblem_type: text_causal_regression_modeling\n"
    assert settings_of(text)["task"] == "text-generation"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            "architecture:\n  backbone_dtype: int4\ntraining:\n  lora: false\n",
            "line 2, architecture.backbone_dtype",
        ),
        ("architecture:\n  backbone_dtype: int2\n", "line 2, architecture.backbone_dtype"),
        ("training:\n  epochs: many\n", "line 2, training.epochs"),
        ("environment:\n  gpus: 0\n", "line 2, environment.gpus"),
    ],
)
def test_a_contradiction_or_a_wrong_value_is_an_error(text, where):
    problems = problems_of(text, "h2o")
    assert [problem.where for problem in problems] == [f"file.yaml, {where}"]


def test_conversations_by_parent_ids_are_read_as_such():
    (source,) = read_example("h2o", "06-chains").recipe["data"]["sources"]

    assert (source["parent_field"], source["id_field"]) == ("before", "number")
    assert source["instruction_field"] == "question"


def test_rows_without_parent_ids_stay_single():
    (source,) = read_example("h2o", "01-causal").recipe["data"]["sources"]

    assert "parent_field" not in source


def test_layers_with_a_rate_of_their_own_are_groups_of_weights():
    text = "llm_backbone: acme/pine\ntraining:\n  differential_learning_rate: 2.0e-6\n"
    layers = "  differential_learning_rate_layers: [embed]\n"
    found = settings_of(text + layers)
    assert found["optimizer.embedding_lr"] == found["optimizer.unembedding_lr"] == 2e-6
    assert "optimizer.matrix_lr" not in found
    assert not any(name.startswith("optimizer.") for name in settings_of(text))
    full = f"architecture:\n  backbone_dtype: bfloat16\n{text}  lora: false\n"
    whole = settings_of(full + layers.replace("embed", "backbone"))
    assert whole["optimizer.matrix_lr"] == whole["optimizer.scalar_lr"] == 2e-6
    assert "optimizer.adapter_lr" not in whole


@pytest.mark.parametrize(
    ("gpus", "settings"),
    [
        ("['2']", (2, None, 3)),
        # Batches are counted for each GPU there, and for all of them here.
        ("['1', '2']", (1, 2, 6)),
    ],
)
def test_several_gpus_are_the_first_one_and_their_number(gpus, settings):
    text = "llm_backbone: acme/pine\ntraining: {grad_accumulation: 3}\n"
    found = settings_of(f"{text}environment: {{gpus: {gpus}}}\n")
    names = ("hardware.gpu_index", "hardware.gpus", "gradient_accumulation_steps")
    assert tuple(found.get(name) for name in names) == settings


def test_gpus_with_gaps_are_refused():
    text = "llm_backbone: acme/pine\nenvironment: {gpus: ['0', '2']}\n"
    assert line_of(import_settings(text, "x").imported, "environment.gpus").result == "refused"
