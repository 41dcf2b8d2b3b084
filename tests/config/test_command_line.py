"""The shown command starts the run it is shown for."""

import shlex
import subprocess
from pathlib import Path

import pytest

from modelforge.cli.main import _layers, _parser
from modelforge.cli.pretrain import text_settings
from modelforge.config.command_line import quote, train_command
from modelforge.config.profiles import profile_settings
from modelforge.config.resolve import Layer, resolve

ODD = 'It\'s "odd": $HOME `id` !x\\ ;&|<>*?~ #ß\n{instruction} {output}\n'
SOURCES = [
    {"path": "a b.jsonl", "system_prompt_type": "fixed", "system_prompt": ODD},
    {"path": "sample:captain", "message_property_mappings": {"role": "from"}},
]
SETTINGS = {
    "model_name": "folder with spaces/and 'quotes'",
    "dataset": "sample:captain",
    "max_seq_length": None,
    "learning_rate": 3.7e-05,
    "model.system_prompt": ODD,
    "data.sources": SOURCES,
    "packing": True,
}


def config_of(*layers):
    return resolve(*layers).config.explicit_values()


@pytest.fixture
def config():
    return config_of(Layer("profile", profile_settings("mid_range")), Layer("form", SETTINGS))


def read_back(words):
    return config_of(*_layers(_parser().parse_args(words)))


def test_the_command_gives_every_setting_of_the_run(config, tmp_path):
    words = shlex.split(train_command(config, tmp_path))
    assert words[:4] == ["modelforge", "train", "--home", str(tmp_path)]
    assert read_back(words[1:]) == config


def test_a_shell_hands_the_command_on_word_by_word(config, tmp_path):
    line = train_command(config, tmp_path)
    shell = ["sh", "-c", line.replace("modelforge train", "printf '%s\\0'", 1)]
    done = subprocess.run(shell, capture_output=True, check=True, cwd=tmp_path)
    words = done.stdout.decode().split("\0")[:-1]
    assert read_back(["train", *words]) == config


def test_a_training_from_nothing_is_the_command_pretrain(tmp_path):
    stated = {"pretraining.enabled": True, "dataset": "my text.txt", "compute_specs": "low_end"}
    stated |= {"pretraining.depth": 3, "schedule.decay_steps": 7}
    config = config_of(Layer("form", stated))
    words = shlex.split(train_command(config, tmp_path))
    assert words[:5] == ["modelforge", "pretrain", "--home", str(tmp_path), "my text.txt"]
    # The defaults of the command are left out.
    assert not any("learning_rate" in word for word in words)
    options = _parser().parse_args(words[1:])
    options.set = [*text_settings(options.file), *options.set]
    options.recipe = None
    assert config_of(*_layers(options)) == config


def test_the_default_home_is_not_named(monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", "/somewhere")
    line = train_command({"lora_r": 8}, Path("/somewhere").resolve())
    assert line == "modelforge train --set lora_r=8"


def test_windows_has_its_own_quotes():
    words = ["modelforge", "train", "--set", "dataset=C:\\my data\\rows.jsonl", "--set", 'a="b"']
    line = quote(words, windows=True)
    assert line == 'modelforge train --set "dataset=C:\\my data\\rows.jsonl" --set a=\\"b\\"'
