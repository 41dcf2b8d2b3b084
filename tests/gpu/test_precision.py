"""Settings of precision and memory on the card: the same losses, and what is held."""

from __future__ import annotations

import shutil

import pytest

from tests.gpu.conftest import Runs
from tests.gpu.test_formats import BF16_FROM, FP8_FROM, need

pytestmark = pytest.mark.gpu

# Two rows of a packed batch, on a model of two layers: rounding to bf16 is all that may differ.
CLOSE = 0.02
CHECKPOINTING = {"gradient_checkpointing": True}
WITHOUT = {"gradient_checkpointing": False}


@pytest.fixture
def first_loss(tmp_path, card, models, machine, measured):
    """Return a function that trains one step by settings, and returns its loss."""
    count = 0

    def train(name, **settings):
        nonlocal count
        count += 1
        folder = tmp_path / str(count)
        folder.mkdir()
        ended = Runs(folder, card, models, machine.packages).one_step(**settings)
        measured(name, ended)
        return ended.events["step"][0]["loss"], ended

    return train


@pytest.mark.parametrize("rows", [{"packing": True}, {"data": {"padding_free": True}}], ids=str)
def test_rows_without_a_mask_have_the_loss_of_sdpa(first_loss, card, rows):
    need(card, BF16_FROM)
    losses = {}
    for attention in ("sdpa", "varlen"):
        settings = {"bf16": True, "model": {"attn_implementation": attention}, **rows}
        losses[attention], ended = first_loss(f"huggingface, sft, {attention}, packed", **settings)
        assert "attention-changed" not in {note["code"] for note in ended.events.get("note", [])}
    assert losses["varlen"] == pytest.approx(losses["sdpa"], abs=CLOSE)


@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "all"])
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_products_in_fp8_have_nearly_the_loss_of_bf16(first_loss, card, recipe, adapter):
    need(card, FP8_FROM, "torchao")
    usual = {"bf16": True, "adapter": {"enabled": adapter}}
    expected, _ = first_loss("huggingface, sft, bf16", **usual)
    fp8 = {"quantization": {"fp8_training": True, "fp8_recipe": recipe}}
    found, _ = first_loss(f"huggingface, sft, FP8 {recipe}", **usual, **fp8)
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("usual", "memory"),
    [
        (CHECKPOINTING, {"activation_offload": True}),
        (WITHOUT, {"activation_offload": True}),
        (CHECKPOINTING, {"checkpoint_every_n_layers": 2}),
    ],
)
def test_where_activations_are_kept_changes_no_loss(first_loss, usual, memory):
    expected, _ = first_loss("huggingface, sft", **usual)
    found, _ = first_loss(f"huggingface, sft, {next(iter(memory))}", memory=memory, **usual)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_run_fails_beyond_its_share_of_the_gpu(runs):
    ended = runs.one_step(memory={"max_vram_fraction": 0.0001}, use_4bit=False)
    assert ended.events["failed"][-1]["cause"] == "out-of-memory"


@pytest.mark.parametrize(
    "hardware",
    [{"torch_compile_mode": "reduce-overhead"}, {"regional_compilation": True}],
    ids=str,
)
def test_the_ways_to_compile_take_a_step(first_loss, card, hardware):
    need(card, package="triton")
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("there is no C compiler")
    packed = {"packing": True, "data": {"packing_strategy": "wrapped"}}
    settings = {"trainer": {"torch_compile": True}, "hardware": hardware, **packed}
    _, ended = first_loss(f"huggingface, sft, {next(iter(hardware))}", **settings)
    assert ended.events["plan"]
