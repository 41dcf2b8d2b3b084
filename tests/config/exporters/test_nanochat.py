"""Command lines of nanochat, written and read again."""

from __future__ import annotations

import pytest

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.nanochat import NEVER, PROGRAM
from modelforge.config.exporters.write import export_settings
from modelforge.config.importers.nanochat import OPTIONS
from modelforge.config.importers.read import import_settings
from modelforge.config.resolve import Layer, resolve

DATA = {"dataset": "text.txt", "compute_specs": "low_end"}
# Another value for each option of the command, with what it needs beside it.
CHANGES = {
    "run": "--run=birds",
    "device-type": "--device-type=cpu",
    "fp8": "--fp8",
    "fp8-recipe": "--fp8 --fp8-recipe=rowwise",
    "depth": "--depth=12",
    "aspect-ratio": "--aspect-ratio=32",
    "head-dim": "--head-dim=64",
    "max-seq-len": "--max-seq-len=512",
    "window-pattern": "--window-pattern=L",
    "num-iterations": "--num-iterations=500",
    "target-flops": "--target-flops=1e17",
    "target-param-data-ratio": "--target-param-data-ratio=20",
    "device-batch-size": "--device-batch-size=4",
    "total-batch-size": "--total-batch-size=131072",
    "embedding-lr": "--embedding-lr=0.25",
    "unembedding-lr": "--unembedding-lr=0.005",
    "weight-decay": "--weight-decay=0.1",
    "matrix-lr": "--matrix-lr=0.03",
    "scalar-lr": "--scalar-lr=0.4",
    "adam-beta1": "--adam-beta1=0.85",
    "adam-beta2": "--adam-beta2=0.97",
    "warmup-ratio": "--warmup-ratio=0.1",
    "warmdown-ratio": "--warmdown-ratio=0.3",
    "final-lr-frac": "--final-lr-frac=0.05",
    "eval-every": "--eval-every=100",
    "eval-tokens": "--eval-tokens=1048576",
    "core-metric-every": "--core-metric-every=300",
    "core-metric-max-per-task": "--core-metric-max-per-task=50",
    "sample-every": "--sample-every=70",
    "save-every": "--save-every=250",
    "model-tag": "--model-tag=d20",
}
# Options that say what a checkpoint of that program has, or print help.
NOT_WRITTEN = {"resume-from-step", "help"}


def config_of(command):
    recipe = import_settings(command, "the command").imported.recipe
    return resolve(Layer("file", recipe), Layer("you", DATA)).config


def written(config):
    return export_settings(Facts(config), "nanochat")


def test_every_option_of_the_command_is_tried():
    assert set(CHANGES) | NOT_WRITTEN == set(OPTIONS)


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_is_read_written_and_read_again(option):
    command = f"{PROGRAM} {CHANGES[option]}"
    config = config_of(command)
    text = written(config).text
    again = config_of(text)
    assert again == config
    assert written(again).text == text
    # The tag of the model follows from its depth.
    assert option == "model-tag" or config != config_of(f"{PROGRAM} --depth=20")


def test_only_its_text_is_left_out_of_a_command_of_its_own():
    lost = written(config_of(f"{PROGRAM} --depth=6 --head-dim=64")).left_out
    assert [line.setting for line in lost] == ["data.sources"]
    assert "Parquet" in lost[0].why


def test_what_it_does_not_have_is_named():
    group = {"arch": "llama", "vocab_size": 4096, "d_model": 512, "dropout": 0.1}
    values = {"pretraining": {"enabled": True, **group}, "max_grad_norm": 1.0, "optim": "muon"}
    config = resolve(Layer("recipe", {**DATA, **values})).config
    lost = {line.setting for line in written(config).left_out}
    assert lost >= {f"pretraining.{name}" for name in group} | {"max_grad_norm", "optim"}


def test_shares_of_steps_need_their_number():
    schedule = {"warmup_steps": 10, "decay_steps": 20}
    values = {"pretraining": {"enabled": True}, "schedule": schedule}
    config = resolve(Layer("recipe", {**DATA, **values})).config
    assert "warmup_ratio" in {line.setting for line in written(config).left_out}
    config = config.with_changes({"max_steps": 100})
    arguments = written(config).text.split()
    assert {"--warmup-ratio=0.1", "--warmdown-ratio=0.2", "--num-iterations=100"} <= set(arguments)


def test_core_without_an_interval_is_scored_at_the_end():
    values = {"pretraining": {"enabled": True}, "evaluation": {"core_bundle": "core"}}
    config = resolve(Layer("recipe", {**DATA, **values})).config
    assert f"--core-metric-every={NEVER}" in written(config).text.split()
    off = config.with_changes({"evaluation.core_bundle": None})
    assert "--core-metric-every=-1" in written(off).text.split()
