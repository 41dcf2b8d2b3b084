"""Recomputation of every n-th layer, and where the inputs of recomputed layers wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.modeling.providers.test_quantization import planned

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

LAYERS = 5


@pytest.fixture(scope="module")
def deep_model(tiny_model, tmp_path_factory):
    """The tiny model with five layers."""
    import shutil

    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("deep")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder / name)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny_model, num_hidden_layers=LAYERS)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def loaded(model: Any, **settings: Any) -> Any:
    from modelforge.modeling.providers.huggingface import load

    config, plan = planned(str(model), use_4bit=False, **settings)
    return load(plan, config, lambda _done, _total: None)


def calls_per_layer(model: Any) -> Counter[int]:
    """Return a counter that counts how often each layer is computed from now on."""
    calls: Counter[int] = Counter()
    for number, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: calls.update([number]))
    return calls


def one_step(model: Any) -> tuple[float, Any]:
    """Return the loss of a step, and the gradient of the first layer."""
    import torch

    rows = torch.tensor([[1, 5, 9, 2, 7, 8]])
    loss = model(input_ids=rows, labels=rows).loss
    loss.backward()
    return float(loss), model.model.layers[0].mlp.up_proj.weight.grad.clone()


@pytest.mark.parametrize(
    ("every", "twice"), [(1, {0, 1, 2, 3, 4}), (2, {0, 2, 4}), (3, {0, 3}), (9, {0})]
)
def test_every_nth_layer_is_computed_twice_and_the_gradient_is_the_same(deep_model, every, twice):
    import torch

    without = loaded(deep_model, gradient_checkpointing=False).model.train()
    expected, gradient = one_step(without)
    memory = {"checkpoint_every_n_layers": every}
    model = loaded(deep_model, memory=memory, adapter={"enabled": False}).model.train()
    calls = calls_per_layer(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    loss, found = one_step(model)
    assert calls == {number: 2 if number in twice else 1 for number in range(LAYERS)}
    assert loss == expected
    assert torch.equal(found, gradient)


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": "dpo"}, {"strategy": "dpo", "trainer": {"preference_loss": "kto"}}],
    ids=["sft", "dpo", "kto"],
)
def test_trainers_recompute_the_layers_that_are_configured(
    bench, deep_model, monkeypatch, settings, write_rows
):
    """TRL switches recomputation off for the reference, and on again with its own arguments."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    if settings:
        row = {"prompt": "What is red?", "chosen": "A colour.", "rejected": "No idea."}
        write_rows([{**row, "prompt": f"What is red {number}?"} for number in range(8)])
    calls, forward = Counter(), LlamaMLP.forward

    def counted(layer, hidden):
        if hidden.requires_grad or layer.training:
            calls[id(layer)] += 1
        return forward(layer, hidden)

    monkeypatch.setattr(LlamaMLP, "forward", counted)
    run = bench.prepare(
        model_path=str(deep_model),
        gradient_checkpointing=True,
        max_steps=2,
        memory={"checkpoint_every_n_layers": 2},
        **settings,
    )
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    counts = [calls[key] for key in calls]
    # Layers 0, 2 and 4 once more for each step.
    assert len(counts) == LAYERS
    assert [count - min(counts) for count in counts] == [2, 0, 2, 0, 2]


def test_running_out_of_memory_recomputes_every_layer(deep_model):
    from modelforge.modeling.recomputation import recompute_every_layer, skips_layers

    model = loaded(deep_model, memory={"checkpoint_every_n_layers": 4}).model.train()
    assert skips_layers(model)
    calls = calls_per_layer(model)
    recompute_every_layer(model, {"use_reentrant": False})
    one_step(model)
    assert set(calls.values()) == {2}
    assert not skips_layers(model)


def test_layers_that_cannot_be_chosen_are_noted(deep_model, monkeypatch):
    from modelforge.modeling import recomputation

    assert loaded(deep_model, memory={"checkpoint_every_n_layers": 2}).notes == []

    class Other:
        pass

    monkeypatch.setattr(recomputation, "GradientCheckpointingLayer", Other)
    notes = loaded(deep_model, memory={"checkpoint_every_n_layers": 2}).notes
    assert [code for code, _ in notes] == ["layers-not-chosen"]


def test_inputs_of_recomputed_layers_are_offloaded_on_a_gpu(deep_model, monkeypatch):
    """Pinned memory needs a GPU; see tests/gpu for what is saved there."""
    from transformers import modeling_utils

    from modelforge.modeling.recomputation import choose_layers

    offload = {"memory": {"activation_offload": True}}
    assert not planned(str(deep_model), "cpu", **offload)[1].activation_offload
    original, seen = modeling_utils.save_on_cpu, []

    def unpinned(**options):
        seen.append(options)
        return original(pin_memory=False)

    monkeypatch.setattr(modeling_utils, "save_on_cpu", unpinned)
    expected = one_step(loaded(deep_model).model)[0]
    model = loaded(deep_model, adapter={"enabled": False}).model.train()
    choose_layers(model, *planned(str(deep_model), "cuda", **offload))
    model.gradient_checkpointing_enable()
    assert one_step(model)[0] == expected
    assert len(seen) == LAYERS
