"""Training with the tokenizer of another model."""

from __future__ import annotations

import json

import pytest

from modelforge.runs.atomic_files import read_json, write_json

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A byte-level tokenizer of 300 tokens with a chat template of its own."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("other")
    trained = ByteLevelBPETokenizer()
    texts = ["What does red number 1 mean?", "red means 1."] * 50
    trained.train_from_iterator(
        texts, vocab_size=300, special_tokens=["<pad>", "</s>"], show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def borrowing(bench, folder, **settings):
    run = bench.prepare(model={"tokenizer": str(folder)}, **settings)
    record = read_json(run.config)
    record["plan"]["tokenizer_path"] = str(folder)
    write_json(run.config, record)
    return run


def test_rows_are_tokenized_saved_and_ended_with_the_borrowed_tokenizer(bench, other, monkeypatch):
    from modelforge.train.strategies.sft import SftTrainer

    seen: list[int] = []
    original = SftTrainer.training_step

    def record(trainer, model, inputs, *args):
        seen.extend(inputs["input_ids"].flatten().tolist())
        return original(trainer, model, inputs, *args)

    monkeypatch.setattr(SftTrainer, "training_step", record)
    run = borrowing(bench, other, max_steps=2)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    assert max(seen) < 300
    saved = json.loads((run.output / "tokenizer.json").read_text("utf-8"))
    assert (
        saved["model"]["vocab"]
        == (json.loads((other / "tokenizer.json").read_text("utf-8"))["model"]["vocab"])
    )
    assert "<assistant>" in (run.output / "chat_template.jinja").read_text("utf-8")
    ends = json.loads((run.output / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert {1} == ({ends} if isinstance(ends, int) else set(ends)), (
        "the id of </s>, not that of the base model"
    )


def test_a_tokenizer_that_the_embeddings_cannot_hold_is_refused(bench, other, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    small = tmp_path / "small"
    config = LlamaConfig(
        vocab_size=200, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(small)
    events = bench.work(borrowing(bench, other, model_path=str(small)))
    assert events[-1].kind == "failed"
    assert events[-1].data["cause"] == "tokens-without-rows"
    assert "embeddings have 200 rows" in events[-1].data["what"]
