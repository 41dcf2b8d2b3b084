"""Models that cannot be learned from are refused when they are loaded, before the first step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_nan_in_the_middle_of_a_weight_is_refused_with_its_name(
    bench, tiny_model: Path, tmp_path: Path
):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][16, 32] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    events = bench.work(bench.prepare(model_path=str(folder)))
    failed = events[-1].data
    assert failed["cause"] == "weights-not-finite"
    assert "model.layers.1.mlp.down_proj.weight" in failed["what"]
    assert "learning rate" not in failed["remedy"]
    assert not any(event.kind == "plan" for event in events)


def test_more_tokens_than_rows_are_refused(bench, tiny_model: Path, tmp_path: Path):
    from transformers import AutoTokenizer

    folder = tmp_path / "short"
    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>", "<tool>"])
    tokenizer.save_pretrained(folder)
    failed = bench.work(bench.prepare(model_path=str(folder)))[-1].data
    assert failed["cause"] == "tokens-without-rows"
    assert "49,155 tokens" in failed["what"]
