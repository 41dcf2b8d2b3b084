"""Loading for chat: the quantization of the run that trained the adapter is used again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

# bitsandbytes and torch emit deprecation warnings of their own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def run_folder(folder: Path, model: Path, **values: Any) -> Path:
    """Return the folder of a run on the CPU with these settings."""
    config = TrainingConfig(
        task="text-generation",
        model_name="tiny",
        dataset="rows.jsonl",
        compute_specs="low_end",
        **values,
    )
    plan = make_plan(config, PlanContext("cpu", str(model), context=512, kind="decoder"))
    folder.mkdir()
    record = {"config": config.explicit_values(), "plan": plan.as_dict()}
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("quant_type", "nested"), [("fp4", True), ("nf4", False)])
def test_a_run_is_chatted_with_in_its_own_four_bits(tiny_model, tmp_path, quant_type, nested):
    from modelforge.chat.load import load_weights
    from modelforge.chat.requests import LoadRequest

    run = run_folder(
        tmp_path / "run",
        tiny_model,
        use_4bit=True,
        bnb_4bit_quant_type=quant_type,
        use_nested_quant=nested,
    )
    model = load_weights(LoadRequest(str(tiny_model), adapter="unused", run=str(run)))
    state = model.model.layers[0].mlp.down_proj.weight.quant_state
    assert (state.quant_type, state.nested) == (quant_type, nested)
    loaded = model.config.quantization_config
    assert (loaded.bnb_4bit_quant_type, loaded.bnb_4bit_use_double_quant) == (quant_type, nested)


def test_skipped_layers_stay_unquantized_in_chat(tiny_model, tmp_path):
    from modelforge.chat.load import load_weights
    from modelforge.chat.requests import LoadRequest

    run = run_folder(
        tmp_path / "run", tiny_model, use_8bit=True, quantization={"skip_first_layers": 1}
    )
    model = load_weights(LoadRequest(str(tiny_model), adapter="unused", run=str(run)))
    kinds = [type(layer.mlp.down_proj).__name__ for layer in model.model.layers]
    assert kinds == ["Linear", "Linear8bitLt"]


def test_a_run_of_another_device_is_loaded_unquantized(tiny_model, tmp_path):
    from modelforge.chat.load import load_weights
    from modelforge.chat.requests import LoadRequest

    run = run_folder(tmp_path / "run", tiny_model, use_4bit=True)
    path = run / "config.json"
    record = json.loads(path.read_text("utf-8"))
    record["plan"]["device"] = "cuda"
    path.write_text(json.dumps(record), encoding="utf-8")
    model = load_weights(LoadRequest(str(tiny_model), adapter="unused", run=str(run)))
    assert type(model.model.layers[0].mlp.down_proj).__name__ == "Linear"


@pytest.mark.parametrize(
    ("capability", "overflows", "dtype"),
    [((7, 5), False, "float16"), ((7, 5), True, "float32"), ((8, 6), True, "bfloat16")],
)
def test_a_chat_on_a_gpu_uses_what_model_and_gpu_can(
    monkeypatch, tiny_model, capability, overflows, dtype
):
    """The GPU is played, and the model stays on the CPU."""
    import torch
    from transformers import PreTrainedModel

    from modelforge.chat.load import load_weights
    from modelforge.chat.requests import LoadRequest
    from modelforge.config.plan import weights
    from modelforge.modeling.providers import huggingface

    seen = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(huggingface, "use_efficient_attention", seen.append)
    monkeypatch.setattr(PreTrainedModel, "to", lambda model, _device: model)
    monkeypatch.setattr(weights, "FP16_OVERFLOWS", {"llama"} if overflows else set())
    model = load_weights(LoadRequest(str(tiny_model), device="cuda"))
    assert seen == [capability]
    assert model.dtype == getattr(torch, dtype)
