"""Every quantization scheme trains, is saved, and opens again without ModelForge."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, get_args

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.errors import WorkerError

# torch and its libraries emit deprecation warnings of their own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

REQUIRED = {
    "task": "text-generation",
    "model_name": "tiny",
    "dataset": "rows.jsonl",
    "compute_specs": "low_end",
}
needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed"
)


def planned(model: str, device: Any = "cpu", **settings: Any) -> tuple[TrainingConfig, Any]:
    config = TrainingConfig(**REQUIRED, **settings)
    return config, make_plan(config, PlanContext(device, model, context=512))


def opened(model: Path, head: Any = "causal", **settings: Any) -> Any:
    """Return the model as a run loads it."""
    from modelforge.modeling.providers.huggingface import load

    config, plan = planned(str(model), **settings)
    return load(plan, config, lambda _done, _total: None, head=head).model


def logits(model: Path, adapter: Path | None) -> Any:
    """Return what the saved run says to a few tokens, with plain peft and transformers."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    whole = plain if adapter is None else PeftModel.from_pretrained(plain, adapter)
    with torch.no_grad():
        return whole.eval()(input_ids=torch.tensor([[1, 5, 9, 2]])).logits


FOUR = {"use_4bit": True, "strategy": "qlora"}
WAYS: list[dict[str, Any]] = [
    FOUR,
    FOUR | {"bnb_4bit_quant_type": "fp4"},
    FOUR | {"use_nested_quant": True},
    FOUR | {"bnb_4bit_compute_dtype": "float16"},
    FOUR | {"bnb_4bit_compute_dtype": "bfloat16"},
    FOUR | {"bnb_4bit_compute_dtype": "float32", "bf16": True},
    FOUR | {"adapter": {"dtype": "bfloat16"}},
    {"use_8bit": True, "strategy": "qlora"},
    {"use_8bit": True, "quantization": {"skip_first_layers": 1}},
]
BY_TORCHAO: list[dict[str, Any]] = [
    {"quantization": {"scheme": "int8-weight-only"}},
    {"quantization": {"scheme": "fp8-weight-only"}},
    {"quantization": {"scheme": "fp8-weight-only"}, "bf16": True},
    {"quantization": {"scheme": "nvfp4", "allow_slow": True}},
    {"quantization": {"scheme": "nvfp4", "skip_last_layers": 1}, "gradient_checkpointing": True},
]


@pytest.mark.parametrize(
    "settings", [*WAYS, *(pytest.param(way, marks=needs_torchao) for way in BY_TORCHAO)], ids=str
)
def test_a_run_of_two_steps_is_saved_and_opens_again(bench, tiny_model, settings):
    import torch

    run = bench.prepare(max_steps=2, eval_split=0.25, **settings)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    steps = [event.data for event in events if event.kind == "step"]
    assert len(steps) == 2
    assert all(step["grad_norm"] > 0 for step in steps)
    assert run.has_adapter
    trained, before = logits(tiny_model, run.output), logits(tiny_model, None)
    assert torch.isfinite(trained).all()
    assert not torch.allclose(trained, before)


@needs_torchao
@pytest.mark.parametrize("scheme", ["int8-weight-only", "fp8-weight-only", "nvfp4", "bnb-4bit"])
def test_gradients_pass_through_quantized_weights(tiny_model, scheme):
    import torch
    from peft import LoraConfig, get_peft_model

    def first_gradient(model: Any) -> Any:
        torch.manual_seed(0)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"]))
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.data = torch.full_like(parameter, 0.01)
        rows = torch.tensor([[1, 5, 9, 2, 7, 8]])
        adapted(input_ids=rows, labels=rows).loss.backward()
        layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
        return layer.lora_A["default"].weight.grad.flatten()

    exact = first_gradient(opened(tiny_model, use_4bit=False))
    stored = first_gradient(opened(tiny_model, quantization={"scheme": scheme}))
    assert torch.cosine_similarity(exact, stored, dim=0) > 0.9


@pytest.mark.parametrize(
    "scheme",
    ["bnb-4bit", "bnb-8bit", pytest.param("int8-weight-only", marks=needs_torchao)],
)
def test_first_and_last_layers_can_stay_in_full_precision(tiny_model, scheme):
    import torch

    def kinds(**skip: int) -> list[bool]:
        model = opened(tiny_model, quantization={"scheme": scheme, **skip})
        weights = [block.mlp.up_proj.weight for block in model.model.layers]
        assert type(model.lm_head.weight) is torch.nn.Parameter
        assert model.lm_head.weight.dtype == torch.float32
        return [type(one.data) is torch.Tensor and one.dtype == torch.float32 for one in weights]

    assert kinds() == [False, False]
    assert kinds(skip_first_layers=1) == [True, False]
    assert kinds(skip_last_layers=1) == [False, True]
    with pytest.raises(WorkerError, match="the model has 2") as refused:
        kinds(skip_first_layers=1, skip_last_layers=1)
    assert refused.value.cause == "nothing-quantized"


def test_new_heads_are_not_quantized(tiny_model, tiny_encoder):
    import torch

    judge = opened(tiny_model, head="reward", use_4bit=True)
    assert judge.score.weight.dtype == torch.float32
    assert judge.score.out_features == 1
    reader = opened(tiny_encoder, head="span", use_4bit=True)
    assert reader.qa_outputs.weight.dtype == torch.float32
    assert type(reader.base_model.encoder.layer[0].output.dense).__name__ == "Linear4bit"


@pytest.fixture(scope="module")
def tiny_encoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with the tiny model's tokenizer."""
    import shutil

    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("reader")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, folder / name)
    config = BertConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def test_a_missing_package_is_refused_with_its_remedy(tiny_model, monkeypatch):
    from modelforge.modeling.providers import quantization

    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WorkerError, match="torchao") as refused:
        opened(tiny_model, quantization={"scheme": "nvfp4"})
    assert refused.value.cause == "package-missing"
    assert "--with quantization" in str(refused.value)


def test_fp8_is_refused_where_transformers_would_load_16_bits(tiny_model):
    from modelforge.modeling.providers.quantization import require_fp8_gpu

    with pytest.raises(WorkerError, match=r"8\.9") as refused:
        opened(tiny_model, quantization={"scheme": "fp8"})
    assert refused.value.cause == "fp8-card"
    _, plan = planned(str(tiny_model), "cuda", quantization={"scheme": "fp8"})
    with pytest.raises(WorkerError, match=r"8\.6"):
        require_fp8_gpu(plan, (8, 6))
    require_fp8_gpu(plan, (8, 9))


def test_fp8_layers_pass_gradients(tiny_model, monkeypatch):
    """Load as on a GPU of capability 8.9, without Transformers' check of the GPU."""
    import torch
    from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

    from modelforge.modeling.providers import quantization

    monkeypatch.setattr(quantization, "require_fp8_gpu", lambda _plan, _capability: None)
    monkeypatch.setattr(
        FineGrainedFP8HfQuantizer, "validate_environment", lambda *_args, **_kwargs: None
    )
    exact = opened(tiny_model, use_4bit=False)
    model = opened(tiny_model, quantization={"scheme": "fp8", "skip_last_layers": 1})
    layer = model.model.layers[0].mlp.up_proj
    assert layer.weight.dtype == torch.float8_e4m3fn
    assert layer.block_size == (16, 16)  # the largest that divides a width of 16
    assert model.model.layers[1].mlp.up_proj.weight.dtype == torch.float32
    assert model.hf_quantizer.is_trainable
    plain = quantization.dequantize_fp8(layer.weight, layer.weight_scale_inv, torch.float32)
    was = exact.model.layers[0].mlp.up_proj.weight
    assert torch.cosine_similarity(plain.flatten(), was.flatten(), dim=0) > 0.99
    rows = torch.tensor([[1, 5, 9, 2]])
    model.get_input_embeddings().weight.requires_grad_(True)
    model(input_ids=rows, labels=rows).loss.backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_gpu_schemes_are_accepted_by_their_libraries():
    from transformers import FineGrainedFP8Config, Mxfp4Config

    from modelforge.modeling.providers.quantization import ModelFacts, quantization_config

    config, plan = planned("m", "cuda", quantization={"scheme": "fp8"})
    fp8 = quantization_config(plan, config, ModelFacts(["lm_head", "model.layers.0"]))
    assert isinstance(fp8, FineGrainedFP8Config)
    assert tuple(fp8.weight_block_size) == (128, 128)
    assert fp8.modules_to_not_convert == ["lm_head", "model.layers.0"]
    config, plan = planned("m", "cuda", quantization={"scheme": "mxfp4"})
    mxfp4 = quantization_config(plan, config)
    assert isinstance(mxfp4, Mxfp4Config)
    assert mxfp4.dequantize


@pytest.mark.parametrize("stored", ["none", "4-bit", "8-bit", "fp8", "mxfp4", "nvfp4"])
def test_the_provider_supports_every_scheme_of_the_plan(stored):
    from modelforge.config.optimizers import StorageFormat
    from modelforge.modeling.providers.quantization import _SCHEMES

    assert stored in get_args(StorageFormat)
    assert set(get_args(StorageFormat)) == {"none", *_SCHEMES}


def test_4_bit_gradients_on_the_cpu_are_the_same_before_and_after_an_evaluation(tiny_model):
    import torch
    from peft import get_peft_model

    from modelforge.modeling.adapters.lora import lora_config
    from modelforge.modeling.providers.huggingface import load

    config = TrainingConfig(
        task="text-generation",
        model_name="tiny",
        dataset="rows.jsonl",
        compute_specs="low_end",
        use_4bit=True,
        lora_dropout=0,
    )
    plan = make_plan(config, PlanContext("cpu", str(tiny_model), context=512))
    model: Any = get_peft_model(
        load(plan, config, lambda *_: None).model,
        lora_config(config, plan),  # type: ignore[arg-type]
    )
    ids = torch.tensor([[1, 520, 300, 700, 900, 1000, 42, 17]])

    def gradients() -> list[Any]:
        model.train()
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    after = gradients()
    assert len(before) == len(after) > 0
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
