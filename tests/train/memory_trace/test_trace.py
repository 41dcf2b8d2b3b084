"""The memory traced without weights, against tensors that really are there."""

from __future__ import annotations

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

GIB = 2**30


def planned(path, *, device="cpu", kind="decoder", **settings):
    usual = {
        "task": "text-generation",
        "model_name": "tiny",
        "dataset": "rows.jsonl",
        "compute_specs": "low_end",
        "use_4bit": False,
        "max_seq_length": 64,
        "gradient_checkpointing": False,
        "gradient_accumulation_steps": 1,
    }
    config = TrainingConfig.from_record(usual | settings)
    facts = PlanContext(
        device=device,
        model_path=str(path),
        model_revision=None,
        compute_capability=(8, 9) if device == "cuda" else None,
        context=512,
        train_rows=100,
        kind=kind,
    )
    return config, make_plan(config, facts)


def traced(path, **settings):
    from modelforge.train.memory_trace.trace import trace

    config, plan = planned(path, **settings)
    return trace(config, plan, plan.max_length)


@pytest.mark.parametrize("way", [{}, {"adapter": {"enabled": False}}])
def test_traced_bytes_equal_the_live_tensors_of_a_real_step(tiny_model, way):
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from modelforge.modeling.adapters.lora import lora_config
    from modelforge.train.memory_trace import step as traced_steps
    from modelforge.train.memory_trace.tensors import TensorTracker

    settings = {"per_device_train_batch_size": 2, "lora_dropout": 0.0, "eval_split": 0, **way}
    config, plan = planned(tiny_model, **settings)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    if shape := lora_config(config, plan):
        model = get_peft_model(model, shape)
    batch, _ = traced_steps.largest_batches(config, plan, plan.max_length)
    step = traced_steps.prepare_step(model, plan, None, low=False)
    live = TensorTracker(49152, lambda tensor: tensor)
    live.register(model.parameters(), "weights")
    live.register_gradients(model)
    rows = {name: torch.ones_like(each, device="cpu") for name, each in batch.inputs.items()}
    with live.recording() as found:
        model(**rows, labels=rows["input_ids"]).loss.backward()
    assert step is not None
    parts = traced(tiny_model, **settings)["parts"]
    held = sum(size for name, size in parts.items() if name != "optimizer")
    assert held == pytest.approx(sum(found.values()), rel=0.02)


def test_larger_settings_need_more_memory(tiny_model):
    def total(**settings):
        return sum(traced(tiny_model, **settings)["parts"].values())

    usual = total(per_device_train_batch_size=2)
    assert total(per_device_train_batch_size=4) > usual
    assert total(per_device_train_batch_size=2, max_seq_length=128) > usual
    assert total(per_device_train_batch_size=2, gradient_checkpointing=True) < usual


def test_muon_keeps_one_number_for_each_weight_of_a_matrix(tiny_model):
    full = {"adapter": {"enabled": False}}

    def state(optim):
        return traced(tiny_model, optim=optim, **full)["parts"]["optimizer"]

    # Two layers of 32 x 32 twice, 16 x 32 twice and 64 x 32 three times.
    matrices = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    tables = 49152 * 32
    others = tables + 5 * 32
    update = max(12 * 64 * 32, 8 * tables)
    for optim in ("muon", "normuon"):
        assert state(optim) in (4 * matrices + 8 * others, 4 * matrices + 8 * others + update)


@pytest.mark.parametrize(
    ("settings", "at_least"),
    [
        ({"strategy": "dpo", "adapter": {"enabled": False}}, {"reference"}),
        ({"strategy": "dpo", "trainer": {"preference_loss": "kto"}}, {"adapter", "logits"}),
        ({"strategy": "dpo", "trainer": {"preference_loss": "orpo"}}, {"adapter", "logits"}),
        ({"strategy": "rlhf"}, {"adapter", "activations", "judge"}),
        ({"use_4bit": True}, {"weights", "activations"}),
        ({"use_8bit": True}, {"weights", "activations"}),
        ({"quantization": {"scheme": "fp8"}}, {"weights"}),
        ({"packing": True}, {"activations"}),
        ({"data": {"padding_free": True}}, {"activations"}),
        ({"adapter": {"use_dora": True}}, {"adapter"}),
        ({"per_device_eval_batch_size": 64}, {"evaluation"}),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_method_is_traced(tiny_model, settings, at_least, device):
    found = traced(tiny_model, device=device, **settings)
    assert at_least <= set(found["parts"])
    assert all(size > 0 for size in found["parts"].values())


def test_four_bits_weigh_what_bitsandbytes_stores(tiny_model):
    # 2 layers of 32 x 32, two of 16 x 32, one of 32 x 32 and three of 64 x 32: half a byte each
    # and a 32-bit scale for every 64; the embedding and three norms of 32 in 32 bits.
    linear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    plain = 4 * (49152 * 32 + 5 * 32)
    weights = traced(tiny_model, use_4bit=True)["parts"]["weights"]
    assert weights == pytest.approx(linear * (0.5 + 4 / 64) + plain, rel=0.001)


def test_attention_never_holds_scores(tiny_model):
    short = traced(tiny_model, max_seq_length=256)["parts"]["activations"]
    long = traced(tiny_model, max_seq_length=512)["parts"]["activations"]
    assert long == pytest.approx(2 * short, rel=0.05)


def test_a_reward_model_is_counted_beside_the_policy(tiny_model):
    def judge(**settings):
        return traced(tiny_model, strategy="rlhf", **settings)["parts"].get("judge", 0)

    own = judge()
    # The embedding and the layers as they are, and one number for each width in place of words.
    assert own == pytest.approx(traced(tiny_model)["parts"]["weights"] + 4 * 32, rel=0.001)
    assert judge(use_4bit=True) < own
    assert judge(trainer={"reward": "length", "reward_words": 9}) == 0
    assert judge(trainer={"reward_model": "some/unknown-model"}) == own


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("way", [{}, {"adapter": {"enabled": False}}])
def test_encoders_and_encoder_decoders_are_traced(tiny_reader, tiny_rewriter, way, device):
    models = {
        "summarization": (tiny_rewriter, "encoder-decoder", "seq2seq"),
        "extractive-question-answering": (tiny_reader, "encoder", "span"),
    }
    for task, (path, kind, method) in models.items():
        settings = {"task": task, "kind": kind, "device": device, "optim": "sgd", **way}
        assert planned(path, **settings)[1].method == method
        short, long = (traced(path, max_seq_length=each, **settings) for each in (32, 64))
        assert short["parts"]["weights"] == long["parts"]["weights"]
        assert sum(short["parts"].values()) < sum(long["parts"].values())
