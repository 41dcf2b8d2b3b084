"""Model folders of an attacker: wrong types, deep nesting, pipes, devices, pickles, own code."""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import time

import pytest

from modelforge.data.chat_templates import template_text
from modelforge.errors import DataError, ForgeError
from modelforge.models.resolve import resolve_model
from modelforge.paths import Home
from tests.models.folders import SMALL_LLAMA, write_model, write_weights

SHAPE = {
    **SMALL_LLAMA,
    "quantization_config": {"quant_method": "x"},
    "id2label": {"0": "a"},
    "text_config": {"hidden_size": 64},
    "auto_map": {"AutoModel": "evil.py--Evil"},
}
DEEP = "[" * 90_000
WRONG = [
    None, True, 0, -1, 2**70, 1e308, "", "x", "9" * 5000, [], [None], {}, {"x": {}}, [[]], [{}],
]  # fmt: skip
TEXTS = [DEEP, '{"a":' * 90_000, "[]", "null", "{", "\xff", "1e999", "", "9" * 5000]
FILES = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja", "added_tokens.json", "merges.txt",
    "vocab.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.model",
    "preprocessor_config.json", "anything.json",
]  # fmt: skip
MAX_SECONDS = 10.0


@pytest.fixture
def folder(tmp_path):
    """A small model."""
    folder = write_model(tmp_path / "model", SHAPE)
    (folder / "generation_config.json").write_text("{}", "utf-8")
    return folder


def _resolve(folder):
    """Return whether the model was accepted; a refusal has a cause, and takes little time."""
    began = time.monotonic()
    error = None
    try:
        resolve_model(str(folder), Home(folder.parent / "home"))
    except ForgeError as caught:
        error = caught
    assert time.monotonic() - began < MAX_SECONDS
    assert error is None or all(problem.what for problem in error.problems)
    return error is None


def test_the_small_model_is_accepted(folder):
    assert _resolve(folder)


@pytest.mark.parametrize("name", SHAPE)
def test_no_value_of_a_config_is_an_unexpected_error(folder, name):
    for value in WRONG:
        (folder / "config.json").write_text(json.dumps({**SHAPE, name: value}), "utf-8")
        _resolve(folder)


def test_no_combination_of_values_is_an_unexpected_error(folder):
    draw = random.Random(14)
    for _ in range(300):
        config = {name: draw.choice([value, *WRONG]) for name, value in SHAPE.items()}
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        _resolve(folder)


@pytest.mark.parametrize("name", [file for file in FILES if file.endswith("json")])
@pytest.mark.parametrize("text", TEXTS)
def test_no_text_of_a_file_is_an_unexpected_error(folder, name, text):
    (folder / name).write_text(text, "latin-1")
    _resolve(folder)


def test_no_header_is_an_unexpected_error(folder):
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers = [
        DEEP.encode(), b'{"a":' * 50_000, b"", b"{}", b"null", b"\xff\xff", {"a": None}, {"a": []},
        {"a": {}}, {"__metadata__": 5}, {"a": tensor, "b": {**tensor, "shape": "x"}},
    ]  # fmt: skip
    for key in tensor:
        headers += [{"a": {**tensor, key: value}} for value in WRONG]
    headers += [{"a": {**tensor, "data_offsets": pair}} for pair in ([8, 0], [-8, 8], [0, 2**62])]
    for header in headers:
        write_weights(folder, header, bytes(8))
        _resolve(folder)
    for length in (0, 2**63, 2**64 - 1):
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
        assert not _resolve(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_refused(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert not _resolve(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="these are paths of Linux")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["/dev/zero", "/dev/stdin", "/proc/kmsg", "/proc/self/mem"])
def test_a_link_to_a_device_is_refused(folder, name, where):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(where)
    assert not _resolve(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_template_that_is_a_pipe_or_a_device_is_refused(tmp_path):
    pipe, device = tmp_path / "pipe.jinja", tmp_path / "device.jinja"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        with pytest.raises(DataError, match="it is not a regular file"):
            template_text(str(path))


def test_templates_in_their_own_folder_are_checked(folder):
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool.jinja").write_bytes(b"x" * (2**20 + 1))
    assert not _resolve(folder)


def test_a_file_beside_the_weights_has_a_limit(folder):
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(101 * 2**20)
    assert not _resolve(folder)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl"])
def test_pickled_weights_are_refused(folder, suffix):
    (folder / "model.safetensors").rename(folder / f"pytorch_model{suffix}")
    assert not _resolve(folder)


NAMES = [
    "", "..", "../x", "/etc", "~root", "a/b/c", "a--b", "http://x", "x\0y", "x" * 5000, "-rf", ".",
    "%00", "../../../proc/self", "C:\\x", "\\\\host\\x", "a/..", "\ud800", "$(x)", "a b", "/proc",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_an_unexpected_error(tmp_path, name):
    with pytest.raises(ForgeError):
        resolve_model(name, Home(tmp_path))
