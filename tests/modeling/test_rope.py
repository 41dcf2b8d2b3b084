"""Rope scaling and the dtype of weights: their effect on a model, and where a run carries them."""

from __future__ import annotations

import json
import math

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONTEXT = 512


def load(folder, **settings):
    from modelforge.modeling.providers.huggingface import load_weights

    required = {"task": "text-generation", "model_name": "tiny", "dataset": "rows.jsonl"}
    config = TrainingConfig(**required, compute_specs="low_end", use_4bit=False, **settings)
    plan = make_plan(config, PlanContext("cpu", str(folder), context=CONTEXT))
    return load_weights(plan, config, "causal").eval(), plan


def scaled(folder, kind, factor=2.0):
    return load(folder, model={"rope_type": kind, "rope_factor": factor})[0]


def logits(model, length):
    import torch

    ids = torch.arange(length, dtype=torch.int64)[None] % 1000 + 10
    with torch.no_grad():
        return model(input_ids=ids).logits[0, -1]


def frequencies(model):
    return model.model.rotary_emb.inv_freq


def usual(base, width=8):
    import torch

    return base ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)


def test_linear_scaling_divides_every_frequency(tiny_model):
    import torch

    model = scaled(tiny_model, "linear", 4.0)
    assert torch.allclose(frequencies(model), usual(10_000.0) / 4)
    assert model.config.max_position_embeddings == 4 * CONTEXT


def test_yarn_keeps_high_frequencies_and_divides_low_ones(tiny_model):
    import torch

    model = scaled(tiny_model, "yarn", 4.0)
    plain = usual(10_000.0)
    # Equation 23 of the paper: between 1 and 32 turns within the context the two are mixed. The
    # dimension that turns so often is rounded outwards.
    ends = [
        8 * math.log(CONTEXT / (turns * 2 * math.pi)) / (2 * math.log(10_000)) for turns in (32, 1)
    ]
    low, high = max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), 7)
    ramp = ((torch.arange(4) - low) / (high - low)).clamp(0, 1)
    assert torch.allclose(frequencies(model), plain / 4 * ramp + plain * (1 - ramp))
    assert model.model.rotary_emb.attention_scaling == pytest.approx(0.1 * math.log(4) + 1)
    assert model.config.rope_parameters["original_max_position_embeddings"] == CONTEXT


def test_dynamic_scaling_begins_behind_the_context_of_the_model(tiny_model):
    import torch

    plain, model = load(tiny_model)[0], scaled(tiny_model, "dynamic", 2.0)
    assert torch.equal(logits(model, CONTEXT), logits(plain, CONTEXT))
    longer = 2 * CONTEXT
    assert not torch.allclose(logits(model, longer), logits(plain, longer))
    base = 10_000.0 * (2 * longer / CONTEXT - 1) ** (8 / 6)
    assert torch.allclose(frequencies(model), usual(base))


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn"])
def test_the_context_of_a_scaled_model_is_known(tiny_model, kind):
    from modelforge.modeling.rope import context_length

    model, plan = load(tiny_model, model={"rope_type": kind, "max_model_len": 2 * CONTEXT})
    assert context_length(model.config) == plan.max_model_len == 2 * CONTEXT == plan.max_length


def test_a_scaling_is_applied_once(tiny_model, tmp_path):
    from modelforge.modeling.rope import scaled_config

    model, plan = load(tiny_model, model={"rope_type": "yarn", "rope_factor": 2})
    model.config.save_pretrained(tmp_path)
    again = scaled_config(tmp_path, plan)
    assert again.max_position_embeddings == 2 * CONTEXT
    assert again.rope_parameters["original_max_position_embeddings"] == CONTEXT


def test_only_layers_with_full_attention_are_scaled():
    from transformers import Gemma3TextConfig

    from modelforge.modeling.rope import scale_rope

    plan = load_plan(rope_type="linear", rope_factor=2)
    config = scale_rope(Gemma3TextConfig(max_position_embeddings=CONTEXT), plan)
    kinds = {name: part["rope_type"] for name, part in config.rope_parameters.items()}
    assert kinds == {"full_attention": "linear", "sliding_attention": "default"}


def load_plan(**model):
    required = {"task": "text-generation", "model_name": "tiny", "dataset": "rows.jsonl"}
    config = TrainingConfig(**required, compute_specs="low_end", model=model)
    return make_plan(config, PlanContext("cpu", "tiny", context=CONTEXT))


@pytest.mark.parametrize("case", ["no rotary", "own"])
def test_a_model_that_cannot_be_scaled_is_refused(case):
    from transformers import GPT2Config, LlamaConfig

    from modelforge.modeling.errors import WorkerError
    from modelforge.modeling.rope import scale_rope

    own = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
    config = GPT2Config() if case == "no rotary" else LlamaConfig(rope_parameters=own)
    with pytest.raises(WorkerError, match=r"no rotary|of its own, yarn") as refused:
        scale_rope(config, load_plan(rope_type="linear", rope_factor=2))
    assert refused.value.cause == "rope-unsupported"


def test_weights_are_held_in_their_own_number_format(tiny_model):
    import torch

    def held(**settings):
        model, _ = load(tiny_model, **settings)
        return {weight.dtype for weight in model.parameters()}

    full = {"adapter": {"enabled": False}}
    assert held(**full) == {torch.float32}
    assert held(**full, model={"dtype": "bfloat16"}) == {torch.bfloat16}
    assert held(bf16=True, model={"dtype": "float32"}) == {torch.float32}
    assert held(bf16=True) == {torch.bfloat16}


def test_a_run_with_scaling_is_trained_chatted_with_and_exported_scaled(bench, tmp_path):
    from gguf import GGUFReader
    from transformers import AutoConfig

    from modelforge.chat.load import load_weights
    from modelforge.chat.requests import LoadRequest
    from modelforge.export.gguf.write import write_gguf
    from modelforge.modeling.merging.weights import merge
    from modelforge.modeling.rope import scale_rope
    from modelforge.modeling.trained_run import load_base_as_trained
    from modelforge.train.job import Job

    long_rows = [{"text": f"word{number} " * 400} for number in range(4)]
    bench.rows.write_text("".join(json.dumps(row) + "\n" for row in long_rows), "utf-8")
    run = bench.prepare(
        model={"rope_type": "yarn", "max_model_len": 1024}, max_steps=2, evaluation={"samples": 0}
    )
    events = bench.work(run)
    assert events[-1].event.kind == "finished", events[-1]
    told = next(each.event for each in events if each.event.kind == "plan")
    assert told.all_tokens / told.train_rows > CONTEXT
    job = Job.read(run)
    wanted = ("yarn", 2.0, CONTEXT, 1024)

    def scaling(config):
        rope = config.rope_parameters
        original = rope["original_max_position_embeddings"]
        return rope["rope_type"], rope["factor"], original, config.max_position_embeddings

    request = LoadRequest(str(bench.model), adapter=str(run.output), run=str(run.path))
    assert scaling(load_weights(request).config) == wanted
    compared = load_base_as_trained(bench.model, job.plan, job.config, "cpu")
    assert scaling(compared.config) == wanted
    merged = tmp_path / "merged"
    merged.mkdir()
    base = AutoConfig.from_pretrained(bench.model)
    merge(bench.model, run.output, merged, config=scale_rope(base, job.plan))
    assert scaling(AutoConfig.from_pretrained(merged)) == wanted
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (merged / name).write_bytes((bench.model / name).read_bytes())
    write_gguf(merged, tmp_path / "m.gguf", "f16", "m")
    fields = GGUFReader(tmp_path / "m.gguf").fields
    names = ("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length")
    found = [fields[f"llama.{name}"].contents() for name in (*names, "context_length")]
    assert found == ["yarn", 2.0, CONTEXT, 1024]
