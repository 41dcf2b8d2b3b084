"""Adapters of every kind and initialization, and full fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

# torch and its libraries emit deprecation warnings of their own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

FOUR = {"use_4bit": True}
PISSA = {"adapter": {"init": "pissa"}}
OLORA = {"adapter": {"init": "olora"}}
LOFTQ = {"adapter": {"init": "loftq"}}


def fail_on_note(code, text):
    raise AssertionError(f"{code}: {text}")


def logits_of(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[1, 5, 9, 2, 7]])).logits.float()


def plain(model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


def reopened(model: Path, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(plain(model), adapter)


def job_on(model: Path, folder: Path, **settings: Any) -> Any:
    """Return a run with these settings; its folder exists."""
    from modelforge.runs.layout import RunFolder
    from modelforge.train.job import Job

    run = RunFolder(folder / "run")
    run.path.mkdir(exist_ok=True)
    required = {"model_name": "tiny", "dataset": "rows.jsonl", "compute_specs": "low_end"}
    values = {
        "task": "text-generation",
        "use_4bit": False,
        "lora_dropout": 0,
        **required,
        **settings,
    }
    config = TrainingConfig.from_record(values)
    plan = make_plan(config, PlanContext("cpu", str(model), context=512))
    return Job(run, "a try", config, plan, {})


def trainer_of(job: Any) -> Any:
    """Return a trainer that is ready to begin."""
    from datasets import Dataset

    from modelforge.modeling.providers.huggingface import load
    from modelforge.modeling.tokenize.dataset import Tokenized
    from modelforge.train.strategies.sft import build_trainer

    loaded = load(job.plan, job.config, lambda _done, _total: None)
    rows = Dataset.from_dict({"input_ids": [[1, 5, 2]] * 4, "labels": [[-100, 5, 2]] * 4})
    return build_trainer(job, loaded, Tokenized(rows, None))


@pytest.mark.parametrize(
    "settings",
    [
        {"adapter": {"use_dora": True}},
        {"adapter": {"use_dora": True}} | FOUR,
        {"adapter": {"use_rslora": True}},
        {"adapter": {"init": "gaussian"}},
        {"adapter": {"init": "orthogonal", "use_rslora": True}},
        {"adapter": {"target_modules": "q_proj, v_proj", "modules_to_save": "norm"}},
        {"adapter": {"alpha_over_r": 1}, "lora_r": 8},
        PISSA,
        PISSA | FOUR,
        OLORA,
        OLORA | FOUR,
        LOFTQ,
        LOFTQ | FOUR,
        {"adapter": {"init": "pissa", "use_rslora": True}},
    ],
    ids=str,
)
def test_every_kind_learns_is_saved_and_opens_again(bench, tiny_model, settings):
    import torch

    run = bench.prepare(max_steps=2, eval_split=0.25, **settings)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    again = logits_of(reopened(tiny_model, run.output))
    assert torch.isfinite(again).all()
    assert not torch.allclose(again, logits_of(plain(tiny_model)), atol=1e-4)


@pytest.mark.parametrize("settings", [PISSA, OLORA, LOFTQ], ids=str)
def test_an_initialization_keeps_the_output_and_is_saved_as_an_empty_adapter(
    tiny_model, tmp_path, settings
):
    """Begun and saved without an update, the adapter leaves the model as it was."""
    import torch

    from modelforge.train.save import save

    before = logits_of(plain(tiny_model))
    # The rank is the whole width: what the start takes out of the weights it holds itself.
    job = job_on(tiny_model, tmp_path, lora_r=32, **settings)
    trainer = trainer_of(job)
    started = logits_of(trainer.model)
    assert torch.allclose(started, before, atol=1e-4)
    assert trainer.model.peft_config["default"].r == 32
    up = trainer.model.base_model.model.model.layers[0].mlp.up_proj
    assert up.lora_B["default"].weight.abs().sum() > 0
    out = save(job, trainer, fail_on_note, steps=0)
    shape = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
    assert (shape["r"], shape["lora_alpha"], shape["init_lora_weights"]) == (64, 64, True)
    assert torch.allclose(logits_of(reopened(tiny_model, out)), before, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [PISSA, OLORA, {"adapter": {"init": "pissa", "use_rslora": True}}]
)
def test_an_initialized_adapter_opens_again_as_trained(tiny_model, tmp_path, settings):
    import torch

    from modelforge.train.save import save

    job = job_on(tiny_model, tmp_path, lora_r=4, max_steps=2, **settings)
    trainer = trainer_of(job)
    trainer.train()
    out = save(job, trainer, fail_on_note, steps=2)
    assert torch.allclose(logits_of(trainer.model), logits_of(reopened(tiny_model, out)), atol=1e-4)


def test_loftq_reduces_the_error_of_4_bit_weights(tiny_model, tmp_path):
    exact = logits_of(plain(tiny_model))

    def off(**settings: Any) -> float:
        trainer = trainer_of(job_on(tiny_model, tmp_path, **FOUR, lora_r=16, **settings))
        return float((logits_of(trainer.model) - exact).abs().mean())

    assert off(**LOFTQ) < 0.7 * off()


def test_pissa_reduces_the_error_of_4_bit_weights(tiny_model, tmp_path):
    exact = logits_of(plain(tiny_model))

    def off(**settings: Any) -> float:
        trainer = trainer_of(job_on(tiny_model, tmp_path, **FOUR, lora_r=16, **settings))
        return float((logits_of(trainer.model) - exact).abs().mean())

    assert off(**PISSA) < off()


def test_large_matrices_are_approximated_by_their_leading_part():
    import torch

    from modelforge.modeling.adapters.init import _leading_factors

    torch.manual_seed(0)
    exact = torch.randn(1100, 4) @ torch.randn(4, 1100)
    down, up = _leading_factors(exact, 4, 2.0)
    assert torch.allclose(2.0 * up @ down, exact, atol=1e-2)


@pytest.mark.parametrize(("value", "dtype"), [("auto", "float32"), ("bfloat16", "bfloat16")])
def test_the_adapter_has_the_configured_dtype(tiny_model, tmp_path, value, dtype):
    for settings in ({}, FOUR):
        job = job_on(tiny_model, tmp_path, adapter={"dtype": value}, **settings)
        trainer = trainer_of(job)
        found = {str(p.dtype) for p in trainer.model.parameters() if p.requires_grad}
        assert found == {f"torch.{dtype}"}


def test_full_fine_tuning_trains_and_saves_every_weight(bench, tiny_model):
    import torch

    run = bench.prepare(max_steps=2, eval_split=0.25, adapter={"enabled": False})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    plan = next(event.data for event in events if event.kind == "plan")
    assert plan["trainable_parameters"] == plan["total_parameters"]
    assert run.has_model
    assert not run.has_adapter
    assert (run.output / "tokenizer.json").is_file()
    card = (run.output / "README.md").read_text(encoding="utf-8")
    assert "AutoModelForCausalLM" in card
    assert "library_name: transformers" in card
    again = plain(run.output)
    assert not torch.allclose(logits_of(again), logits_of(plain(tiny_model)), atol=1e-4)
    assert again.config.use_cache


def test_weights_trained_in_full_are_kept_in_32_bits(tiny_model, tmp_path):
    from modelforge.modeling.providers.huggingface import load

    job = job_on(tiny_model, tmp_path, adapter={"enabled": False}, bf16=True)
    # As loaded: weights that were rounded first and cast later have the same type in the trainer.
    loaded = load(job.plan, job.config, lambda _done, _total: None)
    for model in (loaded.model, trainer_of(job).model):
        assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}


def test_a_missing_layer_is_refused(bench):
    failed = bench.work(bench.prepare(adapter={"target_modules": "query_key_value"}))[-1]
    assert (failed.kind, failed.data["cause"]) == ("failed", "layers-unknown")
    assert "query_key_value" in failed.data["what"]
