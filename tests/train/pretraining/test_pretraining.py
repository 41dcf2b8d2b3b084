"""Runs from nothing, to their end."""

from __future__ import annotations

import json
import math

import pytest

# Libraries below torch warn of their own deprecations.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def load_file(path):
    from safetensors.torch import load_file

    return load_file(path)


def reported(events, kind):
    return [event.data for event in events if event.kind == kind]


@pytest.fixture
def finished(bench, from_nothing):
    """Do a run with these settings, and return its folder and events."""

    def do(**settings):
        run = from_nothing(**settings)
        events = bench.work(run)
        assert events[-1].kind == "finished", events[-1].data
        return run, events

    return do


def test_a_run_from_nothing_learns_and_leaves_a_normal_model(finished, book):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, events = finished(max_steps=40, eval_steps=20)
    evaluations = reported(events, "eval")
    bits = [each["metrics"]["bits_per_byte"] for each in evaluations]
    assert [each["step"] for each in evaluations] == [20, 40]
    assert bits[1] < bits[0] < 8
    steps = reported(events, "step")
    assert sum(each["tokens"] for each in steps) == 40 * 8 * 32
    assert steps[-1]["loss"] < math.log(300) - 1
    (plan,) = reported(events, "plan")
    assert plan["all_tokens"] > plan["train_rows"] * 32 - 32
    assert plan["epochs"] == pytest.approx(40 * 8 / plan["train_rows"], rel=0.01)
    assert steps[-1]["epoch"] == pytest.approx(40 * 8 / plan["train_rows"])
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    text = book.read_text("utf-8")[:500]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    model = AutoModelForCausalLM.from_pretrained(run.output)
    assert type(model).__name__ == "LlamaForCausalLM"
    ends = {tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_end|>")}
    assert set(model.generation_config.eos_token_id) == ends
    assert not run.tokens.exists()
    assert (run.start_model / "config.json").is_file()


@pytest.mark.parametrize("arch", ["nanochat", "qwen3"])
def test_other_shapes(finished, arch):
    pattern = "SL" if arch == "qwen3" else "L"
    run, _events = finished(pretraining={"arch": arch, "window_pattern": pattern}, max_steps=2)
    config = json.loads((run.output / "config.json").read_text())
    assert config["model_type"] == arch
    if arch == "qwen3":
        assert config["layer_types"] == ["sliding_attention", "full_attention"]
        assert config["sliding_window"] == 16


def test_the_model_has_the_sizes_of_the_settings(finished):
    group = {
        "d_model": 48,
        "n_heads": 4,
        "n_kv_heads": 2,
        "d_ff": 40,
        "n_layers": 3,
        "tie_embeddings": True,
        "rope_theta": 500.0,
        "dropout": 0.25,
        "init_projections_to_zero": False,
    }
    run, _events = finished(pretraining=group, max_steps=1)
    config = json.loads((run.output / "config.json").read_text())
    names = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    assert [config[name] for name in names] == [48, 4, 2, 40]
    assert (config["num_hidden_layers"], config["tie_word_embeddings"]) == (3, True)
    assert (config["rope_parameters"]["rope_theta"], config["attention_dropout"]) == (500.0, 0.25)
    start = load_file(run.start_model / "model.safetensors")
    assert start["model.layers.0.self_attn.o_proj.weight"].abs().max() > 0
    assert "lm_head.weight" not in start


def test_an_evaluation_reads_as_many_tokens_as_are_set(finished):
    _run, events = finished(evaluation={"eval_tokens": 100}, max_steps=1)
    (plan,) = reported(events, "plan")
    assert plan["eval_rows"] == 100 // 32
    (evaluation,) = reported(events, "eval")
    assert evaluation["metrics"]["bits_per_byte"] > 0


def test_borrowed_embeddings_stay_as_they_are(finished):
    import torch

    first, _events = finished(max_steps=4)
    group = {"tokenizer": str(first.output), "freeze_embeddings": True}
    run, _events = finished(pretraining=group, max_steps=4)
    name = "model.embed_tokens.weight"
    before, after = (load_file(each.output / "model.safetensors") for each in (first, run))
    assert torch.equal(before[name], after[name])
    start = load_file(run.start_model / "model.safetensors")
    assert not torch.equal(start["lm_head.weight"], after["lm_head.weight"])
    # Without the setting they are trained.
    assert not torch.equal(load_file(first.start_model / "model.safetensors")[name], before[name])


def test_each_layer_of_a_trained_model_sees_its_window(finished):
    """By gradient: windows of 16, 16 and 32 positions reach back 15, 30 and to the beginning."""
    from transformers import AutoModelForCausalLM

    from tests.modeling.pretraining.test_build import seen_positions

    windows = {"arch": "qwen3", "window_pattern": "SSL", "depth": 3, "aspect_ratio": 11}
    run, _events = finished(pretraining=windows, max_steps=4)
    for layers, first in ((1, 16), (2, 1), (3, 0)):
        model = AutoModelForCausalLM.from_pretrained(run.output)
        model.model.layers = model.model.layers[:layers]
        model.config.num_hidden_layers = layers
        assert seen_positions(model, 31) == list(range(first, 32)), layers


@pytest.mark.parametrize("arch", ["llama", "nanochat", "qwen3"])
def test_gradient_checkpointing_changes_no_number(finished, arch):
    losses = []
    for checkpointing in (False, True):
        _run, events = finished(
            pretraining={"arch": arch}, max_steps=4, gradient_checkpointing=checkpointing
        )
        losses.append([each["loss"] for each in reported(events, "step")])
    assert losses[0] == losses[1]


def test_16_bits_on_the_processor(finished):
    _run, events = finished(max_steps=12, eval_steps=12)
    group = {"precision": "bf16"}
    run, halved = finished(max_steps=12, eval_steps=12, hardware=group)
    assert reported(halved, "plan")[0]["precision"] == "bf16"
    bits = [reported(each, "eval")[0]["metrics"]["bits_per_byte"] for each in (events, halved)]
    assert bits[0] == pytest.approx(bits[1], rel=0.02)
    assert bits[0] != bits[1]
    assert json.loads((run.output / "config.json").read_text())["dtype"] == "float32"


def test_bits_per_byte_are_those_of_the_saved_model_on_the_held_out_text(finished, book):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from modelforge.train.job import Job
    from modelforge.train.pretraining.corpus import documents

    run, events = finished(evaluation={"keep_best": False})
    model = AutoModelForCausalLM.from_pretrained(run.output)
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    texts = list(documents(Job.read(run), held_out=True))
    assert 0 < sum(map(len, texts)) < len(book.read_text("utf-8"))
    ids = [
        number
        for text in texts
        for number in (tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids)
    ]
    nats = size = 0.0
    for start in range(0, (len(ids) - 1) // 32 * 32, 32):
        window = torch.tensor(ids[start : start + 33])
        with torch.no_grad():
            log_p = model(window[None, :-1]).logits[0].log_softmax(-1)
        for place, target in enumerate(window[1:].tolist()):
            if target != tokenizer.bos_token_id:
                nats -= float(log_p[place, target])
                size += len(tokenizer.convert_ids_to_tokens(target))
    measured = reported(events, "eval")[-1]["metrics"]["bits_per_byte"]
    assert measured == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def test_held_out_text_is_not_trained(finished, book):
    from modelforge.train.job import Job
    from modelforge.train.pretraining.corpus import documents

    run, _events = finished(max_steps=1)
    trained = "".join(documents(Job.read(run), held_out=False))
    held_out = list(documents(Job.read(run), held_out=True))
    whole = book.read_text("utf-8")
    assert len(trained) + sum(map(len, held_out)) == len(whole)
    assert held_out
    assert all(part not in trained for part in held_out)


def test_a_borrowed_tokenizer_is_that_of_the_result(finished, starter_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, _events = finished(pretraining={"tokenizer": str(starter_folder)}, max_steps=1)
    borrowed, result = (
        AutoTokenizer.from_pretrained(each) for each in (starter_folder, run.output)
    )
    assert result.get_vocab() == borrowed.get_vocab()
    assert result.model_max_length == 32
    model = AutoModelForCausalLM.from_pretrained(run.output)
    assert model.config.vocab_size == 49152


def test_a_text_shorter_than_a_context_is_named(bench, from_nothing, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("A few words.\nAnd no more.\n", encoding="utf-8")
    run = from_nothing(text=short, pretraining={"vocab_size": 260})
    (failed,) = reported(bench.work(run), "failed")
    assert "tokens; one context needs 33" in failed["what"]


def test_a_vocabulary_that_the_text_does_not_support_is_named(bench, from_nothing):
    run = from_nothing(pretraining={"vocab_size": 8192})
    (failed,) = reported(bench.work(run), "failed")
    assert "8,192 are asked for" in failed["what"]
    assert "set the vocabulary size to" in failed["remedy"]


def test_without_held_out_text_nothing_is_evaluated(finished):
    _run, events = finished(eval_split=0, max_steps=2)
    assert not reported(events, "eval")


def test_the_result_is_taught_to_chat_as_any_other_model(finished, bench):
    group = {"total_batch_tokens": 1024}
    run, _events = finished(pretraining=group, max_steps=2, max_seq_length=128)
    chat = bench.prepare(
        model_path=str(run.output), strategy="sft", adapter={"enabled": False}, max_steps=2
    )
    events = bench.work(chat)
    assert events[-1].kind == "finished", events[-1].data
    assert chat.has_model
    assert not [note for note in reported(events, "note") if note["code"] == "end-token-put"]


def test_a_trial_run_measures_memory_and_time(bench, from_nothing):
    run = from_nothing()
    record = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(record | {"trial_run": True}))
    events = bench.work(run)
    (measured,) = reported(events, "trial_run")
    assert measured["tokens_per_s"] > 0
    assert measured["seconds_per_eval_batch"] > 0
    assert not run.output.exists()


def test_the_batch_size_is_found(finished):
    _run, events = finished(memory={"auto_batch_size": True}, max_steps=2)
    adjusted = [
        (each["micro_batch"], each["accumulation"]) for each in reported(events, "adjusted")
    ]
    assert all(size * times == 8 for size, times in adjusted)
    assert sum(each["tokens"] for each in reported(events, "step")) == 2 * 8 * 32


def test_momentum_and_decay_follow_the_schedule(finished):
    from modelforge.train.pretraining import muon_schedule

    seen = []
    true = muon_schedule.MuonSchedule.on_step_begin

    def watched(self, args, state, control, *, optimizer, **more):
        true(self, args, state, control, optimizer=optimizer, **more)
        group = next(each for each in optimizer.param_groups if "momentum" in each)
        seen.append((round(group["momentum"], 6), group["weight_decay"]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(muon_schedule.MuonSchedule, "on_step_begin", watched)
        finished(max_steps=4)
    assert [momentum for momentum, _decay in seen] == [
        round(0.85 + 0.1 * step / 300, 6) for step in range(4)
    ]
    decays = [decay for _momentum, decay in seen]
    assert decays == pytest.approx([decays[0] * share for share in (1, 0.75, 0.5, 0.25)])
    assert decays[0] > 0
