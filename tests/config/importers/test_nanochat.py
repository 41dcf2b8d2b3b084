"""Command lines of nanochat."""

import pytest

from modelforge.config.importers.nanochat import OPTIONS
from modelforge.config.resolve import Layer, resolve
from tests.config.importers.examples import line_of, problems_of, read_example, settings_of

DATA = {"dataset": "text.txt", "compute_specs": "low_end"}
BASE = "python -m scripts.base_train"


def test_every_option_of_its_command_is_known():
    imported = read_example("nanochat", "00-document")
    given = {line.name for line in imported.report if not line.is_default}
    assert given == set(OPTIONS) - {"help"}
    assert len(given) == 32


def test_its_schedule_and_its_defaults():
    settings = settings_of(f"{BASE} --depth=12")
    assert settings["lr_scheduler_type"] == "warmup_stable_decay"
    assert settings["schedule.decay_ratio"] == 0.5
    assert settings["max_seq_length"] == 2048
    assert settings["max_grad_norm"] == 0.0
    assert settings["logging.report_to"] == ""
    assert settings["trainer.save_steps"] == -1


def test_the_program_behind_a_launcher_has_the_options():
    imported = read_example("nanochat", "02")
    assert line_of(imported, "depth").value == 24
    assert imported.recipe["logging"]["run_name"] == "d24"
    assert line_of(read_example("nanochat", "05"), "fp8-recipe").value == "rowwise"


def test_older_names_have_underscores():
    recipe = read_example("nanochat", "12-options").recipe
    assert recipe["per_device_train_batch_size"] == 16
    assert recipe["max_steps"] == 300


def test_the_depth_and_what_follows_from_it_are_settings():
    recipe = read_example("nanochat", "07").recipe
    assert recipe["pretraining"] == {
        "enabled": True,
        "arch": "qwen3",
        "depth": 16,
        "aspect_ratio": 64,
        "head_dim": 128,
        "vocab_size": 32_768,
        "window_pattern": "SSSL",
        "target_flops": -1.0,
        "target_param_data_ratio": 10.5,
        "total_batch_tokens": -1,
    }
    assert "model_name" not in recipe


def test_the_architecture_is_its_own_without_windows():
    settings = settings_of(f"{BASE} --window-pattern=l")
    assert settings["pretraining.arch"] == "nanochat"
    assert settings["pretraining.window_pattern"] == "L"


def test_scores_and_samples_have_their_intervals():
    settings = settings_of(f"{BASE} --core-metric-every=300 --sample-every=7")
    assert settings["evaluation.core_every"] == 300
    assert settings["evaluation.core_max_per_task"] == 500
    assert settings["evaluation.sample_every"] == 7
    off = settings_of(f"{BASE} --core-metric-every=-1 --sample-every=-1")
    assert "evaluation.core_every" not in off
    assert off["evaluation.samples"] == 0
    line = line_of(read_example("nanochat", "02"), "core-metric-max-per-task")
    assert line.result == "converted"


def test_its_settings_are_those_of_a_run_from_nothing():
    imported = read_example("nanochat", "04").recipe
    config = resolve(Layer("file", imported), Layer("you", DATA)).config
    assert config.model_name == "d6"
    assert config.pretraining.total_batch_tokens == 16_384
    assert config.max_steps == 5000


def test_its_optimizer_has_a_rate_for_each_group_of_weights():
    recipe = read_example("nanochat", "07").recipe
    assert recipe["optim"] == "normuon"
    assert recipe["optimizer"] == {
        "matrix_lr": 0.03,
        "embedding_lr": 0.25,
        "unembedding_lr": 0.005,
        "scalar_lr": 0.4,
        "beta1": 0.85,
        "beta2": 0.97,
        "epsilon": 1e-10,
        "muon_scale": "original",
    }


def test_tokens_of_an_update_are_a_setting():
    recipe = read_example("nanochat", "11").recipe
    assert recipe["pretraining"]["total_batch_tokens"] == 524_288


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ("--target-param-data-ratio=-1", "num-iterations"),
        ("--total-batch-size=1000", "total-batch-size"),
        ("--window-pattern=SX", "window-pattern"),
        ("--depth=0", "depth"),
        ("--depth=deep", "depth"),
        ("--fp8-recipe=columnwise", "fp8-recipe"),
        ("--device-type=tpu", "device-type"),
        ("--warmup-ratio=2", "warmup-ratio"),
        ("--run", "run"),
        ("--run first second", "run"),
    ],
)
def test_a_contradiction_is_an_error_with_its_option(options, option):
    problems = problems_of(f"{BASE} {options}")
    assert [problem.where for problem in problems] == [f"file.yaml, {option}"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("--depth=4 --depth=5", "--depth is given twice."),
        ("--depth '4", "The command line cannot be read: No closing quotation."),
        ("--depth=4 -x", "'-x' is not an option."),
    ],
)
def test_a_command_line_that_cannot_be_read(options, what):
    assert [problem.what for problem in problems_of(f"{BASE} {options}")] == [what]
