"""Architectures without a map go through the converter of a llama.cpp checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from modelforge.errors import RunError
from modelforge.export.gguf.convert import SCRIPT, VARIABLE, write

pytestmark = pytest.mark.torch

CONVERTER = """
import json, sys
target = sys.argv[sys.argv.index("--outfile") + 1]
open(target, "w").write(json.dumps(sys.argv[1:]))
"""


@pytest.fixture
def unknown(tokenizer, tmp_path):
    """The folder of a model whose type has no entry in ARCHITECTURES."""
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def checkout(folder: Path, script: str) -> Path:
    folder.mkdir()
    (folder / SCRIPT).write_text(script, encoding="utf-8")
    return folder


def convert(folder, target, file_type="f16"):
    write(folder, target, file_type, "a; model", lambda _share: None)


def test_the_named_converter_gets_the_folder_and_the_type(unknown, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(checkout(tmp_path / "llama.cpp", CONVERTER)))
    convert(unknown, tmp_path / "model.gguf", "q8_0")
    arguments = json.loads((tmp_path / "model.gguf").read_text("utf-8"))
    expected = ["--outfile", str(tmp_path / "model.gguf"), "--outtype", "q8_0"]
    assert arguments == [str(unknown), *expected, "--model-name", "a; model"]


def test_without_a_converter_the_known_types_are_listed(unknown, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(RunError, match=r"gpt_neox cannot be written.*Known:.*llama.*qwen3"):
        convert(unknown, tmp_path / "model.gguf")


def test_a_type_that_the_converter_lacks_is_refused(unknown, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(checkout(tmp_path / "llama.cpp", CONVERTER)))
    with pytest.raises(RunError, match=r"cannot write q4_k_m\. Choose f16, bf16, q8_0"):
        convert(unknown, tmp_path / "model.gguf", "q4_k_m")


def test_the_last_line_of_a_failed_converter_is_shown(unknown, tmp_path, monkeypatch):
    failing = "import sys; sys.exit('Model GPTNeoX is not supported')"
    monkeypatch.setenv(VARIABLE, str(checkout(tmp_path / "llama.cpp", failing)))
    with pytest.raises(RunError, match="Model GPTNeoX is not supported"):
        convert(unknown, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_a_folder_without_the_script_is_named(unknown, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(RunError, match=f"{VARIABLE}.*has no {SCRIPT}"):
        convert(unknown, tmp_path / "model.gguf")


@pytest.mark.slow
def test_the_official_converter_writes_a_file_that_llama_cpp_computes(
    tokenizer, model_of, tmp_path, monkeypatch
):
    """Run with MODELFORGE_LLAMA_CPP naming a checkout of llama.cpp."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no checkout of llama.cpp")
    from modelforge.export.gguf import convert as module

    monkeypatch.setattr(module, "ARCHITECTURES", {})
    _model, folder = model_of("llama")
    convert(folder, tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").stat().st_size > 1 << 20
