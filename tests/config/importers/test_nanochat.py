"""Command lines of nanochat."""

import pytest

from modelforge.config.importers.nanochat import OPTIONS
from tests.config.importers.examples import line_of, problems_of, read_example, settings_of

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


def test_options_of_training_from_nothing_are_named_as_coming():
    line = line_of(read_example("nanochat", "07"), "depth")
    assert line.result == "refused"
    assert "which is not there yet" in line.why


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


def test_tokens_of_an_update_are_batches():
    recipe = read_example("nanochat", "04").recipe
    assert recipe["gradient_accumulation_steps"] == 1  # 16,384 tokens are 32 rows of 512
    assert read_example("nanochat", "11").recipe["gradient_accumulation_steps"] == 32


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
