"""Blocks of weights that share a scale: their size in FP8, and four over six in NVFP4."""

from __future__ import annotations

from typing import Any

import pytest

from modelforge.modeling.errors import WorkerError
from tests.modeling.providers.test_quantization import planned

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def square_model(tmp_path_factory):
    """A Llama whose layers have sides of 256 and 512; its weights are not read."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("square")
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    config.save_pretrained(folder)
    return folder


def configured(model: Any, **settings: Any) -> Any:
    """Return the quantization config of a run on a GPU."""
    from modelforge.modeling.providers.huggingface import AUTO_CLASSES, hub_arguments
    from modelforge.modeling.providers.quantization import model_facts, quantization_config

    config, plan = planned(str(model), "cuda", quantization=settings)
    auto = AUTO_CLASSES["causal"]
    facts = model_facts(plan, config, "causal", auto, hub_arguments(plan))
    return quantization_config(plan, config, facts)


@pytest.mark.parametrize(
    ("size", "expected"), [("auto", 128), ("64", 64), ("16", 16), ("256", 256)]
)
def test_weights_share_a_scale_in_blocks_of_the_configured_size(square_model, size, expected):
    found = configured(square_model, scheme="fp8", fp8_block_size=size)
    assert tuple(found.weight_block_size) == (expected, expected)


def test_a_block_that_does_not_divide_a_layer_is_refused(tiny_model):
    """The layers of the tiny model have sides of 16, 32 and 64."""
    assert configured(tiny_model, scheme="fp8").weight_block_size == (16, 16)
    with pytest.raises(WorkerError, match="64 by 64") as refused:
        configured(tiny_model, scheme="fp8", fp8_block_size="64")
    assert refused.value.cause == "fp8-shape"


def test_four_over_six_is_a_scheme_of_its_package(square_model, monkeypatch):
    from transformers import FourOverSixConfig, TorchAoConfig

    from modelforge.modeling.providers import quantization

    assert isinstance(configured(square_model, scheme="nvfp4"), TorchAoConfig)
    with pytest.raises(WorkerError, match="pip install fouroversix"):
        configured(square_model, scheme="nvfp4", four_over_six=True)
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda _name: True)
    found = configured(square_model, scheme="nvfp4", four_over_six=True, skip_first_layers=1)
    assert isinstance(found, FourOverSixConfig)
    assert (found.scale_rule, found.dtype) == ("mse", "nvfp4")
    assert "model.layers.0" in found.modules_to_not_convert
    # Without them the quantizer of Transformers does not train.
    assert found.keep_master_weights
