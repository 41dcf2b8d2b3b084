"""Files and command lines of TRL."""

from dataclasses import fields

import pytest

from modelforge.config.importers.trl import OPTIONS
from tests.config.importers.examples import line_of, problems_of, read_example, settings_of

MODEL = "model_name_or_path: acme/pine\ndataset_name: acme/letters\n"


@pytest.mark.torch
def test_every_option_of_its_classes_is_known():
    from transformers import TrainingArguments
    from trl import DPOConfig, KTOConfig, ModelConfig, ScriptArguments, SFTConfig
    from trl.scripts.utils import DatasetMixtureConfig

    classes = (TrainingArguments, SFTConfig, DPOConfig, KTOConfig, ModelConfig, ScriptArguments)
    for one in (*classes, DatasetMixtureConfig):
        names = {field.name for field in fields(one) if field.init}
        assert not names - set(OPTIONS), one.__name__


def test_what_the_file_leaves_out_has_the_defaults_of_trl():
    settings = settings_of(MODEL)
    assert settings["num_train_epochs"] == 3
    assert settings["per_device_train_batch_size"] == 8
    assert settings["learning_rate"] == 2e-5
    assert settings["warmup_ratio"] == 0.0
    assert settings["group_by_length"] is False
    assert settings["eval_split"] == 0.0
    assert settings["adapter.enabled"] is False
    assert settings["quantization.scheme"] == "none"


def test_rows_stay_in_their_order_if_the_file_says_so():
    assert settings_of(MODEL + "train_sampling_strategy: sequential\n")["data.shuffle"] is False
    kto = MODEL + "train_sampling_strategy: sequential\ndesirable_weight: 1.0\n"
    assert "data.shuffle" not in settings_of(kto)


@pytest.mark.parametrize(
    ("name", "strategy", "loss"),
    [
        ("01-sft-lora", "sft", None),
        ("03-sft-qlora", "qlora", None),
        ("04-dpo", "dpo", "sigmoid"),
        ("06-kto", "dpo", "kto"),
        ("12-command", "dpo", None),
        ("13-script", "sft", None),
    ],
)
def test_the_method_follows_from_the_command_or_the_options(name, strategy, loss):
    recipe = read_example("trl", name).recipe
    assert recipe["strategy"] == strategy
    assert recipe.get("trainer", {}).get("preference_loss") == loss


def test_a_command_line_has_values_switches_and_lists():
    imported = read_example("trl", "12-command")
    assert imported.recipe["max_steps"] == 300
    assert imported.recipe["gradient_checkpointing"] is True
    assert line_of(imported, "learning_rate").line is None
    modules = read_example("trl", "13-script").recipe["adapter"]["target_modules"]
    assert modules == "q_proj, v_proj"


def test_without_names_peft_adapts_query_and_value():
    recipe = read_example("trl", "01-sft-lora").recipe
    assert recipe["adapter"]["target_modules"] == "q_proj, v_proj"


def test_a_mixture_has_a_line_for_each_option_of_an_entry():
    imported = read_example("trl", "07-mixture")
    assert imported.recipe["data"]["sources"] == [
        {"path": "acme/letters", "subset": "en", "split": "train[:90%]"},
        {"path": "acme/tales"},
    ]
    assert line_of(imported, "datasets[1].data_dir").result == "refused"
    assert imported.recipe["eval_split"] == 0.05


def test_evaluation_rows_are_a_split():
    sources = read_example("trl", "08-masks").recipe["data"]
    assert sources["sources"] == [{"path": "acme/letters", "subset": "short", "split": "train_sft"}]
    assert sources["validation_sources"][0]["split"] == "test_sft"


@pytest.mark.parametrize(
    ("value", "setting", "result"),
    [
        ("warmup_steps: 0.1", "warmup_ratio", 0.1),
        ("warmup_steps: 20", "schedule.warmup_steps", 20),
        ("num_train_epochs: 3.0", "num_train_epochs", 3),
        ("num_train_epochs: 1.5", "num_train_epochs", None),
        ("learning_rate: 2.0e-4", "learning_rate", 2e-4),
        ('learning_rate: "2.0e-4"', "learning_rate", 2e-4),
        ("optim: adamw_bnb_8bit", "optim", "adamw_8bit"),
        ("save_strategy: no", "trainer.save_steps", -1),
        ("report_to: [wandb, tensorboard]", "logging.report_to", "wandb, tensorboard"),
        ("report_to: none", "logging.report_to", ""),
        ("completion_only_loss: false", "data.loss_on", "all"),
        ("use_cpu: true", "hardware.device", "cpu"),
        ("dtype: bfloat16", "model.dtype", "bfloat16"),
        ("dtype: float16", "model.dtype", None),
        ("dtype: bfloat16\nuse_peft: true", "model.dtype", None),
        ("dtype: float32\nbf16: true\nuse_peft: true", "model.dtype", "float32"),
    ],
)
def test_values_are_converted(value, setting, result):
    assert settings_of(f"{MODEL}{value}\n").get(setting) == result


@pytest.mark.parametrize(
    ("lines", "option"),
    [
        ("load_in_4bit: true\nload_in_8bit: true\n", "load_in_8bit"),
        ("fp16: true\nbf16: true\n", "fp16"),
        ("datasets: [{name: x}]\n", "datasets[0]"),
        ("eval_steps: often\n", "eval_steps"),
        ("lora_r: -1\n", "lora_r"),
        ("packing: maybe\n", "packing"),
    ],
)
def test_a_contradiction_or_a_wrong_value_is_an_error(lines, option):
    wheres = [problem.where for problem in problems_of(MODEL + lines)]
    assert [where.rpartition(", ")[2] for where in wheres] == [option]
    assert all(", line " in where for where in wheres)


@pytest.mark.parametrize(
    ("name", "argument", "setting", "value"),
    [
        ("cosine_with_restarts", "num_cycles: 3", "schedule.cycles", 3),
        ("polynomial", "power: 2.0", "schedule.power", 2.0),
        ("polynomial", "lr_end: 2.0e-6, power: 2.0", "schedule.final_lr_fraction", 0.1),
    ],
)
def test_arguments_of_one_schedule_are_settings(name, argument, setting, value):
    text = f"{MODEL}learning_rate: 2.0e-5\nlr_scheduler_type: {name}\n"
    settings = settings_of(f"{text}lr_scheduler_kwargs: {{{argument}}}\n")
    assert settings[setting] == pytest.approx(value)


def test_arguments_of_another_schedule_are_refused():
    text = f"{MODEL}lr_scheduler_type: inverse_sqrt\nlr_scheduler_kwargs: {{num_cycles: 3}}\n"
    assert "schedule.cycles" not in settings_of(text)


def test_processes_are_gpus_that_share_the_batches_of_a_step():
    found = settings_of(MODEL + "num_processes: 2\ngradient_accumulation_steps: 3\n")
    assert (found["hardware.gpus"], found["gradient_accumulation_steps"]) == (2, 6)
    alone = settings_of(MODEL + "gradient_accumulation_steps: 3\n")
    assert alone["gradient_accumulation_steps"] == 3
    assert "hardware.gpus" not in alone
