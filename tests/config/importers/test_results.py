"""What follows the results of evaluations, fp32, and checkpoints, in files of other systems."""

from __future__ import annotations

import pytest

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.write import export_settings
from modelforge.config.importers.read import import_settings
from modelforge.config.resolve import Layer, resolve
from tests.config.exporters.recipes import config_of
from tests.config.exporters.test_round_trip import imported_again
from tests.config.importers.examples import settings_of

TRL = "model_name_or_path: m\ndataset_name: d.jsonl\n"
PLATEAU = {
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "learning_rate": 1e-3,
    "schedule.patience": 4,
    "schedule.final_lr_fraction": 0.05,
    "warmup_ratio": 0,
}


def line(text, name, system="trl"):
    report = import_settings(text, "file.yaml", system).imported.report
    return next(each for each in report if each.name == name and not each.is_default)


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("bf16: false\nfp16: false\n", "fp32"),
        # The default of bf16 there is on, unless fp16 is.
        ("bf16: false\n", "fp32"),
        ("bf16: false\nfp16: true\n", "auto"),
        ("fp16: false\n", "auto"),
        ("", "auto"),
    ],
)
def test_explicit_fp32_is_kept(text, precision):
    recipe = settings_of(TRL + text, "trl")
    config = resolve(Layer("import", recipe | {"compute_specs": "low_end"})).config
    assert config.hardware.precision == precision
    assert config.fp16 == ("fp16: true" in text)


def test_fp32_is_written_and_read_again():
    config = config_of({"bf16": False, "hardware.precision": "fp32"})
    for system in ("trl", "llama-factory"):
        again = imported_again(export_settings(Facts(config), system).text, system)
        assert again.hardware.precision == "fp32"


@pytest.mark.parametrize("system", ["llama-factory", "axolotl"])
def test_early_stopping_is_switched_on_by_its_patience(system):
    stopping = {"evaluation.early_stopping": True, "evaluation.early_stopping_patience": 7}
    again = imported_again(export_settings(Facts(config_of(stopping)), system).text, system)
    assert again.evaluation.early_stopping
    assert again.evaluation.early_stopping_patience == 7
    without = imported_again(export_settings(Facts(config_of()), system).text, system)
    assert not without.evaluation.early_stopping


@pytest.mark.parametrize("system", ["trl", "axolotl", "llama-factory"])
@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "greedy"])
def test_arguments_of_schedules_by_results_are_read_again(system, name):
    config = config_of(PLATEAU | {"lr_scheduler_type": name})
    again = imported_again(export_settings(Facts(config), system).text, system)
    assert again.lr_scheduler_type == name
    assert again.schedule.patience == 4
    assert again.schedule.final_lr_fraction == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("argument", "result"),
    [
        ("{patience: 2, factor: 0.1, mode: min}", "converted"),
        ("{patience: 2, factor: 0.5}", "refused"),
        ("{cooldown: 3}", "refused"),
        ("{max_lr: 0.5}", "refused"),
    ],
)
def test_values_that_are_fixed_here_are_refused(argument, result):
    text = f"{TRL}learning_rate: 0.001\nlr_scheduler_type: reduce_lr_on_plateau\n"
    read = line(f"{text}lr_scheduler_kwargs: {argument}\n", "lr_scheduler_kwargs")
    assert read.result == result


def test_a_part_of_an_epoch_is_kept():
    config = config_of({"trainer.fractional_epochs": 1.5})
    for system in ("trl", "axolotl", "llama-factory"):
        again = imported_again(export_settings(Facts(config), system).text, system)
        assert again.trainer.fractional_epochs == 1.5
    assert line(f"{TRL}num_train_epochs: 0\n", "num_train_epochs").result == "refused"


@pytest.mark.parametrize(
    ("system", "text", "value"),
    [
        ("trl", f"{TRL}resume_from_checkpoint: true\n", "newest"),
        ("surogate", "model: m\nresume_from_checkpoint: true\n", "newest"),
        ("surogate", "model: m\nresume_from_checkpoint: false\n", None),
        ("axolotl", "base_model: m\nauto_resume_from_checkpoints: true\n", "newest"),
        ("nanochat", "--resume-from-step 400", "400"),
        ("nanochat", "--resume-from-step -1", None),
    ],
)
def test_checkpoints_are_those_of_the_newest_run_like_it(system, text, value):
    found = settings_of(text, system)
    assert found.get("trainer.resume_from_checkpoint") == value


def test_a_checkpoint_of_another_system_is_refused():
    read = line(f"{TRL}resume_from_checkpoint: out/checkpoint-50\n", "resume_from_checkpoint")
    assert read.result == "refused"
    assert "RUN:STEP" in read.why
