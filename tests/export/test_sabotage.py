"""Six ways in which exports go wrong elsewhere: each is found, with its cause."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from modelforge.export.gguf import tokenizer as gguf_tokenizer
from modelforge.export.gguf.write import write_gguf
from modelforge.export.self_test import KL_BOUNDS, compare_gguf, compare_merged
from tests.export.trained import make_base, make_trained

pytestmark = pytest.mark.torch

KINDS = ("merged", "f16", "q4_k_m")
OTHER_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|im_end|>\n{% endfor %}assistant: "
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    return make_trained(tmp_path_factory.mktemp("trained"), tokenizer)


def silent(_share):
    """Ignore the progress."""


def result_of(folder, kind, trained):
    """Return the self-test of a merged folder, or of a GGUF file made from it."""
    if kind == "merged":
        return compare_merged(folder, trained.answers, "cpu", silent)
    write_gguf(folder, folder / "model.gguf", kind, "a model")
    return compare_gguf(folder / "model.gguf", kind, trained.answers, silent)


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_export_passes(kind, trained, tmp_path):
    result = result_of(trained.export(tmp_path / "export"), kind, trained)
    assert result.passed, result.details
    assert result.prompts == 20
    if kind == "merged":
        assert result.same_text == 20
        assert result.max_logit_difference < 1e-3
    else:
        assert 0 <= result.kl < KL_BOUNDS[kind]
        assert result.perplexity == pytest.approx(result.trained_perplexity, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_another_template(kind, trained, tmp_path):
    folder = trained.export(tmp_path / "export")
    other = copy.deepcopy(trained.tokenizer)
    other.chat_template = OTHER_TEMPLATE
    other.save_pretrained(folder)
    result = result_of(folder, kind, trained)
    assert result.cause == "template"
    assert "user: What is your name?" in result.details[0]


@pytest.mark.parametrize("kind", KINDS)
def test_another_end_token(kind, trained, tmp_path):
    folder = trained.export(tmp_path / "export")
    other = copy.deepcopy(trained.tokenizer)
    other.eos_token = "<repo_name>"
    other.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["eos_token_id"] = other.eos_token_id
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    result = result_of(folder, kind, trained)
    assert result.cause == "end token"
    assert "<|im_end|>" in result.details[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_into_4_bits(kind, trained, tmp_path):
    functional = pytest.importorskip("bitsandbytes.functional")
    base = tmp_path / "base"
    shutil.copytree(trained.base, base)
    weights = load_file(base / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("_proj.weight"):
            packed, state = functional.quantize_4bit(weight, quant_type="nf4")
            weights[name] = functional.dequantize_4bit(packed, state)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    result = result_of(trained.export(tmp_path / "export", base), kind, trained)
    assert result.cause == "merge into 4-bit"


@pytest.mark.parametrize("kind", KINDS)
def test_another_base(kind, trained, tmp_path):
    make_base(tmp_path / "base", len(trained.tokenizer), seed=5)
    result = result_of(trained.export(tmp_path / "export", tmp_path / "base"), kind, trained)
    assert result.cause == "wrong base"
    if kind != "merged":
        assert result.kl > 3 * KL_BOUNDS[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.9])
def test_a_truncated_file(share, kind, trained, tmp_path):
    folder = trained.export(tmp_path / "export")
    path = folder / "model.safetensors"
    if kind != "merged":
        write_gguf(folder, folder / "model.gguf", kind, "a model")
        path = folder / "model.gguf"
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    if kind == "merged":
        result = compare_merged(folder, trained.answers, "cpu", silent)
    else:
        result = compare_gguf(path, kind, trained.answers, silent)
    assert result.cause == "truncated file"
    assert result.details


@pytest.mark.parametrize("kind", KINDS)
def test_an_added_token_with_the_embedding_of_the_base(kind, trained, tmp_path):
    """The prompts do not contain it."""
    folder = trained.export(tmp_path / "export")
    weights = load_file(folder / "model.safetensors")
    rows = weights["model.embed_tokens.weight"]
    rows[-1] = rows[:-1].mean(dim=0)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    result = result_of(folder, kind, trained)
    assert result.cause == "vocabulary"
    assert "Embeddings of added tokens" in result.details[0]


def test_an_added_token_without_a_row(trained, tmp_path):
    folder = trained.export(tmp_path / "export")
    weights = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert compare_merged(folder, trained.answers, "cpu", silent).cause == "vocabulary"


def test_more_tokens_than_rows_in_a_file(trained, tmp_path, monkeypatch):
    folder = trained.export(tmp_path / "export")
    read = gguf_tokenizer.read_vocabulary
    monkeypatch.setattr(
        gguf_tokenizer, "read_vocabulary", lambda tokenizer, rows: read(tokenizer, rows + 1)
    )
    assert result_of(folder, "f16", trained).cause == "vocabulary"


def test_weights_that_are_not_numbers_fail(trained, tmp_path):
    folder = trained.export(tmp_path / "export")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for kind in ("merged", "f16"):
        assert not result_of(folder, kind, trained).passed
