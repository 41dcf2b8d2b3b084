"""Training in FP8, emulated: its numbers, its layers, and what a run saves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.errors import WorkerError

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

WIDTH, INNER, LAYERS = 128, 256, 3
BLOCKS = [f"model.layers.{number}" for number in range(LAYERS)]
RECIPES = ("tensorwise", "rowwise")


@pytest.fixture(scope="module")
def wide_model(tiny_model, tmp_path_factory):
    """A Llama whose layers are as wide as FP8 needs."""
    import shutil

    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder / name)
    torch.manual_seed(0)
    widths = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32}
    config = AutoConfig.from_pretrained(tiny_model, **widths, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def planned(model: Any = "tiny", device: Any = "cpu", **quantization: Any) -> tuple[Any, Any]:
    config = TrainingConfig.from_record(
        {
            "task": "text-generation",
            "model_name": "tiny",
            "dataset": "rows.jsonl",
            "compute_specs": "low_end",
            "quantization": {"fp8_training": True, "allow_slow": True, **quantization},
        }
    )
    return config, make_plan(config, PlanContext(device, str(model), context=512))


def layer(recipe: str) -> Any:
    """Return a linear layer of random weights that multiplies in FP8."""
    import torch

    from modelforge.modeling.float8 import use_float8

    torch.manual_seed(0)
    block = torch.nn.Sequential(torch.nn.Linear(WIDTH, INNER))
    config, plan = planned(fp8_recipe=recipe)
    use_float8(torch.nn.ModuleDict({"block": block}), config, plan, ["block"], None)
    return block[0]


def cast(values: Any, dtype: Any, axis: int | None) -> Any:
    """Return values as they are after FP8: scaled to its largest number, rounded, scaled back.

    `axis` is the one that a scale is taken over; None is the whole tensor. Scales of rows are
    powers of two.
    """
    import torch

    largest = values.abs().amax() if axis is None else values.abs().amax(axis, keepdim=True)
    scale = (torch.finfo(dtype).max / largest.double()).float()
    if axis is not None:
        scale = torch.exp2(torch.floor(torch.log2(scale)))
    return (values * scale).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(
        dtype
    ).float() / scale


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("tokens", [32, 37])
def test_products_are_those_of_the_formula(recipe, tokens):
    """A number of tokens that is no multiple of 16 is padded."""
    import torch

    low, lower = torch.float8_e4m3fn, torch.float8_e5m2
    rows = recipe == "rowwise"
    linear = layer(recipe)
    inputs = torch.randn(2, tokens, WIDTH, requires_grad=True)
    gradient = torch.randn(2, tokens, INNER)
    output = linear(inputs)
    output.backward(gradient)
    flat, weight = inputs.detach().reshape(-1, WIDTH), linear.weight.detach()
    plain = cast(flat, low, 1 if rows else None) @ cast(weight, low, 1 if rows else None).T
    assert torch.allclose(output.detach().reshape(-1, INNER), plain + linear.bias, atol=1e-4)
    assert not torch.allclose(plain, flat @ weight.T, atol=1e-3)
    back = gradient.reshape(-1, INNER)
    dtype = low if rows else lower
    of_inputs = cast(back, dtype, 1 if rows else None) @ cast(weight, low, 0 if rows else None)
    assert torch.allclose(inputs.grad.reshape(-1, WIDTH), of_inputs, atol=1e-3)
    of_weight = cast(back, dtype, 0 if rows else None).T @ cast(flat, low, 0 if rows else None)
    assert torch.allclose(linear.weight.grad, of_weight, atol=1e-3)


def test_layers_of_the_blocks_that_are_large_enough_multiply_in_fp8():
    import torch

    from modelforge.modeling.float8 import float8_layers

    def block() -> Any:
        return torch.nn.ModuleDict(
            {
                "wide": torch.nn.Linear(WIDTH, INNER),
                "narrow": torch.nn.Linear(WIDTH, 64),
                "odd": torch.nn.Linear(WIDTH, 129),
            }
        )

    model = torch.nn.ModuleDict(
        {
            "layers": torch.nn.ModuleList([block() for _ in range(12)]),
            "head": torch.nn.Linear(WIDTH, INNER),
        }
    )
    names = [f"layers.{number}" for number in range(12)]
    config, _ = planned()
    assert float8_layers(model, config, names) == [f"{name}.wide" for name in names]
    config, _ = planned(skip_first_layers=1, skip_last_layers=2)
    assert float8_layers(model, config, names) == [f"{name}.wide" for name in names[1:10]]
    config, _ = planned(skip_first_layers=6, skip_last_layers=6)
    assert float8_layers(model, config, names) == []


@pytest.mark.parametrize(
    ("quantization", "cause"),
    [
        ({"allow_slow": False}, "fp8-training-card"),
        ({"skip_first_layers": 2, "skip_last_layers": 1}, "fp8-training-shape"),
    ],
)
def test_what_cannot_multiply_in_fp8_is_refused(wide_model, quantization, cause):
    from modelforge.modeling.providers.huggingface import load

    config, plan = planned(wide_model, **quantization)
    with pytest.raises(WorkerError) as refused:
        load(plan, config, lambda _done, _total: None)
    assert refused.value.cause == cause


def test_without_torchao_it_says_how_to_get_it(wide_model, monkeypatch):
    from modelforge.modeling import float8
    from modelforge.modeling.providers.huggingface import load

    monkeypatch.setattr(
        float8, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None))
    )
    config, plan = planned(wide_model)
    with pytest.raises(WorkerError, match="--with quantization"):
        load(plan, config, lambda _done, _total: None)


@pytest.mark.parametrize("capability", [(8, 6), (8, 9), (9, 0)])
def test_fp8_is_emulated_on_gpus_without_it(capability):
    import torch

    from modelforge.modeling.float8 import use_float8

    model = torch.nn.ModuleDict({"block": torch.nn.Sequential(torch.nn.Linear(WIDTH, INNER))})
    config, plan = planned(device="cuda")
    use_float8(model, config, plan, ["block"], capability)
    options = model["block"][0].config
    assert options.emulate is (capability < (8, 9))
    assert options.pad_inner_dim


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "all"])
def test_a_run_of_two_steps_is_saved_and_opens_again(bench, wide_model, recipe, adapter):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = {"fp8_training": True, "fp8_recipe": recipe, "allow_slow": True}
    run = bench.prepare(
        model_path=str(wide_model),
        max_steps=2,
        eval_split=0.25,
        gradient_checkpointing=adapter,
        adapter={"enabled": adapter},
        quantization=settings,
    )
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    steps = [event.data for event in events if event.kind == "step"]
    assert all(step["grad_norm"] > 0 for step in steps)
    plain = AutoModelForCausalLM.from_pretrained(wide_model, dtype=torch.float32)
    source = run.output if not adapter else wide_model
    trained = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    trained = PeftModel.from_pretrained(trained, run.output) if adapter else trained
    ids = torch.tensor([[1, 5, 9, 2]])
    with torch.no_grad():
        assert not torch.allclose(trained(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_the_recipe_decides_the_loss_of_the_same_model(wide_model):
    import torch

    from modelforge.modeling.providers.huggingface import load

    losses = {}
    for settings in ({}, {"fp8_recipe": "rowwise"}, {"fp8_training": False}):
        config, plan = planned(wide_model, **settings)
        assert plan.fp8_recipe == (
            settings.get("fp8_recipe", "tensorwise") if settings.get("fp8_training", True) else None
        )
        model = load(plan, config, lambda _done, _total: None).model
        ids = torch.arange(40)[None]
        losses[plan.fp8_recipe] = float(model(input_ids=ids, labels=ids).loss.detach())
    assert len(set(losses.values())) == 3
    assert losses["tensorwise"] == pytest.approx(losses[None], rel=0.01)
