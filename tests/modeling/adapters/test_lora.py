"""Runs that start from the adapter of another run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

# torch and its libraries emit deprecation warnings of their own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

STILL: dict[str, Any] = {"learning_rate": 1e-12, "max_steps": 1, "lora_dropout": 0}


def weights(run):
    from safetensors.torch import load_file

    return load_file(run.output / "adapter_model.safetensors")


def start_from(bench, folder, **settings):
    run = bench.prepare(**settings, adapter={"start_from": "it"})
    record = json.loads(run.config.read_text())
    record["plan"]["start_from"] = str(folder)
    run.config.write_text(json.dumps(record))
    return run, bench.work(run)


@pytest.mark.parametrize("strategy", ["sft", "dpo"])
def test_training_starts_from_the_given_adapter(bench, tmp_path, strategy):
    import torch

    first = bench.prepare()
    bench.work(first)
    if strategy == "dpo":
        rows = [{"prompt": f"q{n}", "chosen": "yes", "rejected": "no"} for n in range(4)]
        bench.rows = tmp_path / "pairs.jsonl"
        bench.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run, events = start_from(bench, first.output, strategy=strategy, **STILL)
    assert events[-1].kind == "finished", events[-1].data
    learned, kept = weights(first), weights(run)
    assert learned.keys() == kept.keys()
    for name, tensor in learned.items():
        assert torch.allclose(tensor, kept[name], atol=1e-6)
    (plan,) = [event.data for event in events if event.kind == "plan"]
    assert plan["trainable_parameters"] == sum(tensor.numel() for tensor in learned.values())


def test_a_missing_or_unfit_adapter_is_refused(bench, tmp_path):
    _run, events = start_from(bench, tmp_path / "gone")
    assert events[-1].data["cause"] == "start-missing"
    first = bench.prepare()
    bench.work(first)
    shape = json.loads((first.output / "adapter_config.json").read_text())
    (first.output / "adapter_config.json").write_text(json.dumps(shape | {"r": 4}))
    _run, events = start_from(bench, first.output)
    assert events[-1].data["cause"] == "start-unsuited"


@pytest.mark.parametrize("whole", ["embed_tokens, lm_head", "lm_head", "embed_tokens"])
def test_tied_embeddings_that_are_trained_whole_stay_tied(bench, whole):
    import torch
    from peft import AutoPeftModelForCausalLM

    run = bench.prepare(adapter={"modules_to_save": whole}, max_steps=2)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    model = AutoPeftModelForCausalLM.from_pretrained(run.output)
    ids = torch.tensor([[1, 5, 9]])
    adapted = model(ids).logits
    original = model.get_base_model().get_input_embeddings().original_module.weight.clone()
    merged = model.merge_and_unload()
    assert torch.allclose(merged(ids).logits, adapted, atol=1e-5)
    ends = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], original)


def test_a_qa_adapter_reads_token_types_like_its_merged_model(tiny_reader, tmp_path):
    """In training, from a folder to start from, and in chat."""
    import torch
    from transformers import BertForQuestionAnswering

    from modelforge.chat import load
    from modelforge.modeling.adapters import lora

    config = TrainingConfig(
        task="extractive-question-answering",
        model_name="reader",
        dataset="rows.jsonl",
        compute_specs="low_end",
        lora_dropout=0,
        gradient_checkpointing=False,
    )
    plan = make_plan(config, PlanContext("cpu", str(tiny_reader), kind="encoder"))

    def base():
        return BertForQuestionAnswering.from_pretrained(tiny_reader)

    trained = lora.add_adapter(base(), config, plan, "span").eval()
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.manual_seed(1))
    trained.save_pretrained(tmp_path)
    again = lora.load_start_adapter(base(), config, replace(plan, start_from=str(tmp_path)))
    chatting = load.add_adapter(base(), str(tmp_path), 0)
    ids = torch.arange(5, 25).view(2, 10)
    types = torch.tensor([[0] * 4 + [1] * 6] * 2)

    def logits(model, **more):
        with torch.no_grad():
            output = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
        return torch.stack([output.start_logits, output.end_logits])

    seen = [logits(model, token_type_ids=types) for model in (trained, again, chatting)]
    blind = logits(trained)
    merged = logits(trained.merge_and_unload(), token_type_ids=types)
    assert (blind - merged).abs().max() > 0.01
    for each in seen:
        assert torch.allclose(each, merged, atol=1e-5)
