"""Runs of a growing model on a tiny one: what is trained, what is kept, what the result is."""

from __future__ import annotations

import pytest

from tests.train.conftest import Bench

pytestmark = pytest.mark.torch

WORDS = list(enumerate(("red", "blue", "green", "quick") * 6))


def grow(bench, **settings):
    group = {"enabled": True, "steps_per_stage": 3, **settings.pop("progressive", {})}
    usual = {"max_steps": -1, "eval_split": 0.25, "eval_steps": 3}
    return bench.prepare(**{**usual, **settings}, progressive=group)


def events_of(events, kind):
    return [record.event for record in events if record.kind == kind]


def weights_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def config_of(folder):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


def same(one, other):
    import torch

    return torch.equal(one, other)


def test_a_model_grows_by_two_stages_into_a_normal_model(bench):
    run = grow(bench)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    assert config_of(run.output).num_hidden_layers == 4
    base, first, result = weights_of(bench.model), weights_of(run.stage(1)), weights_of(run.output)
    assert config_of(run.stage(1)).num_hidden_layers == 3
    assert all(same(weight, result[name]) for name, weight in base.items())
    # The second stage leaves the layer of the first as it is.
    assert all(same(weight, result[name]) for name, weight in first.items())
    new = [name for name in result if name not in first]
    assert {name.split(".")[2] for name in new} == {"3"}
    assert any(result[name].abs().sum() for name in new if "o_proj" in name)
    growth = events_of(events, "growth")
    assert [(event.stage, event.stages, event.new) for event in growth] == [
        (1, 2, [2]),
        (2, 2, [3]),
    ]
    assert growth[1].frozen == [0, 1, 2]
    assert growth[1].adapters == {"stack": [3]}
    plans = events_of(events, "plan")
    assert [(plan.stage, plan.stage_name) for plan in plans] == [
        (1, "Stack 1 of 2"),
        (2, "Stack 2 of 2"),
    ]
    assert events[-1].event.steps == sum(plan.total_steps for plan in plans)
    evaluated = events_of(events, "eval")
    assert evaluated[-1].loss < evaluated[0].loss + 0.2
    assert not run.trunk_cache.exists()


def test_adapters_of_trunk_and_stacks_are_merged_and_a_joint_stage_ends(bench):
    group = {
        "trunk": "lora",
        "joint_tuning_steps": 2,
        "save_each_stage": False,
        "direction": "prepend",
        "stack_rank": 4,
        "trunk_rank": 2,
    }
    run = grow(bench, progressive=group, optimizer={"new_layer_lr": 0.02, "adapter_lr": 0.005})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    base, result = weights_of(bench.model), weights_of(run.output)
    moved = {name.replace("layers.0.", "layers.2."): weight for name, weight in base.items()}
    assert not same(
        moved["model.layers.2.mlp.up_proj.weight"], result["model.layers.2.mlp.up_proj.weight"]
    )
    assert not any("lora" in name for name in result)
    assert not (run.output / "adapter_config.json").exists()
    growth = events_of(events, "growth")
    assert [event.name for event in growth] == [
        "Stack 1 of 2",
        "Stack 2 of 2",
        "All layers together",
    ]
    assert growth[1].adapters == {"stack": [0, 1], "trunk": [1, 2, 3]}
    assert growth[2].trained == [0, 1, 2, 3]
    assert not run.stages.exists()


def test_a_cached_trunk_gives_the_same_bytes(bench):
    def result(**group):
        run = grow(bench, progressive={"steps_per_stage": 8, "stages": 1, **group})
        events = bench.work(run)
        assert events[-1].kind == "finished", events[-1]
        return weights_of(run.output), [event.loss for event in events_of(events, "step")]

    plain, losses = result()
    cached, cached_losses = result(cache_activations=True)
    assert losses == cached_losses
    assert all(same(weight, cached[name]) for name, weight in plain.items())


def test_the_cache_has_the_limit_of_its_setting(bench, monkeypatch):
    from modelforge.train.growing import stage

    limits, true = [], stage.TrunkCache

    def opened(folder, key, *, limit_bytes):
        limits.append(limit_bytes)
        return true(folder, key, limit_bytes=limit_bytes)

    monkeypatch.setattr(stage, "TrunkCache", opened)
    group = {"cache_activations": True, "cache_limit_gib": 0.5, "stages": 2, "steps_per_stage": 1}
    events = bench.work(grow(bench, progressive=group))
    assert events[-1].kind == "finished", events[-1]
    assert limits == [2**29, 2**29]


@pytest.mark.parametrize("token", ["", "<|endoftext|>"])
def test_the_masked_objective_attends_in_both_directions(bench, token):
    from transformers import AutoTokenizer

    group = {"objective": "mlm", "stages": 2, "mask_by": "depth", "mask_token": token}
    run = grow(bench, progressive=group)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    config, tokenizer = config_of(run.output), AutoTokenizer.from_pretrained(run.output)
    assert config.is_causal is False
    assert tokenizer.mask_token == (token or "<|mask|>")
    assert config.vocab_size == 49152 + (not token)


def test_evaluations_of_all_stages_have_the_same_masks(bench):
    group = {"objective": "mlm", "stages": 2, "mask_min": 0.15, "mask_max": 0.9}
    # Nothing is learned, so that only the masks could make a difference.
    rates = {"learning_rate": 1e-12, "optimizer": {"new_layer_lr": 1e-12, "adapter_lr": 1e-12}}
    events = bench.work(grow(bench, progressive=group, **rates))
    assert events[-1].kind == "finished", events[-1]
    losses = {event.stage: event.loss for event in events_of(events, "eval")}
    assert losses[2] == pytest.approx(losses[1], abs=1e-6)


def test_new_layers_are_trained_in_bfloat16(bench):
    import torch

    run = grow(bench, progressive={"new_layer_dtype": "bfloat16", "stages": 1})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    weights = weights_of(run.output)
    new = weights["model.layers.2.mlp.up_proj.weight"]
    assert new.dtype == torch.float32
    assert same(new, new.bfloat16().float())
    old = weights["model.layers.1.mlp.up_proj.weight"]
    assert not same(old, old.bfloat16().float())


def test_a_model_grows_from_nothing(bench, tmp_path, tiny_model, write_rows):
    rows = write_rows([{"text": f"The {word} fox sees number {n}. " * 20} for n, word in WORDS])
    new = {"enabled": True, "depth": 2, "aspect_ratio": 16, "head_dim": 8, "vocab_size": 290}
    run = grow(Bench(tmp_path, tiny_model, rows), model_name="", pretraining=new, max_seq_length=64)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    assert config_of(run.output).num_hidden_layers == 2
    growth = events_of(events, "growth")
    assert [event.layers for event in growth] == [1, 2]
    assert growth[0].frozen == []


def test_borrowed_embeddings_have_an_adapter_that_is_folded(
    bench, tmp_path, tiny_model, write_rows
):
    import torch

    rows = write_rows([{"text": f"The {word} fox sees number {n}. " * 20} for n, word in WORDS])
    new = {
        "enabled": True,
        "d_model": 16,
        "head_dim": 8,
        "tokenizer": str(tiny_model),
        "freeze_embeddings": True,
        "embedding_adapter_dim": 4,
    }
    run = grow(Bench(tmp_path, tiny_model, rows), model_name="", pretraining=new, max_seq_length=64)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    first, result = weights_of(run.stage(1)), weights_of(run.output)
    embedding = result["model.embed_tokens.weight"]
    assert embedding.shape == (49152, 16)
    assert torch.linalg.matrix_rank(embedding[:500]) == 4
    # The second stage does not train it.
    assert same(first["model.embed_tokens.weight"], embedding)
    assert not any("source" in name for name in result)


def test_what_is_trained_on_a_quantized_trunk_is_merged_into_its_plain_weights(bench):
    group = {"trunk_quantization": "bnb-4bit", "trunk": "lora", "stages": 2}
    run = grow(bench, progressive=group, learning_rate=0.0001)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    base, result = weights_of(bench.model), weights_of(run.output)
    name = "model.layers.0.mlp.up_proj.weight"
    difference = (base[name] - result[name]).abs().max()
    # An adapter has changed it a little; rounding to 4 bits would change it by more.
    assert 0 < difference < 0.01 * base[name].abs().max()
    assert "quantization_config" not in config_of(run.output).to_dict()


def test_a_trial_run_measures_every_stage(bench):
    import json

    run = grow(bench, progressive={"joint_tuning_steps": 2})
    record = json.loads(run.config.read_text("utf-8"))
    run.config.write_text(json.dumps(record | {"trial_run": True}), "utf-8")
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    assert len(events_of(events, "trial_run_stage")) == 2
    (trial,) = events_of(events, "trial_run")
    assert trial.stages == 3
    assert not run.stages.exists()


def test_sample_prompts_are_answered_in_every_stage(bench):
    run = grow(bench, evaluation={"samples": 1, "sample_tokens": 3})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    asked = [(event.stage, event.step) for event in events_of(events, "samples")]
    assert {(1, 0), (1, 3), (2, 3)} <= set(asked)


def test_the_gain_of_each_stage_is_measured_against_the_model_before(bench):
    run = grow(bench, learning_rate=0.01)
    events = bench.work(run)
    first, *_ = events_of(events, "eval")
    gains = events_of(events, "gain")
    assert (first.step, first.stage) == (0, 1)
    assert [gain.stage for gain in gains] == [1, 2]
    assert all(gain.before == pytest.approx(first.loss, abs=1e-4) for gain in gains)
    best = [event.loss for event in events_of(events, "eval") if event.stage == 2]
    assert gains[1].after == pytest.approx(min(best), abs=1e-4)


def test_a_model_whose_layers_are_not_known_ends_with_a_remedy(bench, tmp_path, starter_folder):
    import shutil

    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(starter_folder / name, folder / name)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 512}
    GPT2LMHeadModel(GPT2Config(vocab_size=49152, **sizes)).save_pretrained(folder)
    events = bench.work(grow(bench, model_path=str(folder)))
    assert (events[-1].kind, events[-1].event.cause) == ("failed", "model-unsupported")


def test_memory_that_runs_out_splits_the_batch_of_a_stage(bench, monkeypatch):
    import torch

    from modelforge.train.trainer.growing import GrowingTrainer

    true, failed = GrowingTrainer.compute_loss, []

    def limited(self, model, inputs, *args, **kwargs):
        if model.training and len(inputs["input_ids"]) > 1:
            failed.append(len(inputs["input_ids"]))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return true(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(GrowingTrainer, "compute_loss", limited)
    run = grow(bench, progressive={"stages": 1}, memory={"autopilot": True})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    assert failed
    assert events_of(events, "adjusted")[0].micro_batch == 1
