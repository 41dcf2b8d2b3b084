"""Padding on the left: the same loss from batches whose short rows begin with padding."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

ROWS = [
    {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, 7, 8]},
    {"input_ids": [9, 10], "labels": [-100, 10]},
]


def test_padding_moves_to_the_left_with_everything_else():
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from modelforge.modeling.tokenize.collate import LeftPadded

    batch = LeftPadded(DataCollatorForLanguageModeling(pad_token_id=2))(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [2, 2, 9, 10]]
    assert batch["labels"].tolist() == [[-100, 6, 7, 8], [-100, -100, -100, 10]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]


def test_a_batch_without_padding_stays_as_it_is():
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from modelforge.modeling.tokenize.collate import LeftPadded

    collator = DataCollatorForLanguageModeling(pad_token_id=2, padding_free=True)
    left, usual = LeftPadded(collator)(ROWS), collator(ROWS)
    assert {name: value.tolist() for name, value in left.items()} == {
        name: value.tolist() for name, value in usual.items()
    }


def test_a_run_that_pads_left_has_the_same_losses_and_saves_the_side(bench, monkeypatch):
    from transformers import AutoTokenizer

    from modelforge.train.strategies import sft

    seen = []
    train = sft.SftTrainer.training_step

    def watch(self, model, inputs, *args, **kwargs):
        seen.append(inputs["attention_mask"][:, 0].tolist())
        return train(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(sft.SftTrainer, "training_step", watch)
    losses = {}
    for side in ("right", "left"):
        run = bench.prepare(data={"padding_side": side}, group_by_length=False, lora_dropout=0)
        events = [each.event for each in bench.work(run)]
        losses[side] = [event.loss for event in events if event.kind == "step"]
        assert AutoTokenizer.from_pretrained(run.output).padding_side == side
    assert losses["left"] == pytest.approx(losses["right"], abs=1e-5)
    count = len(losses["right"])
    assert all(all(begins) for begins in seen[:count]), "rows begin with a token"
    assert any(0 in begins for begins in seen[count:]), "some rows begin with padding"


def test_a_run_saves_its_plain_format_and_prefix_for_chat_and_evaluation(bench):
    from modelforge.chat.load import load_tokenizer
    from modelforge.chat.requests import LoadRequest
    from modelforge.modeling.trained_run import open_run_tokenizer

    run = bench.prepare(
        data={"use_chat_template": False}, model={"response_prefix": "So: "}, max_steps=1
    )
    bench.work(run)
    asked = [{"role": "user", "content": "Hi"}]
    request = LoadRequest(str(bench.model), adapter=str(run.output), run=str(run.path))
    for tokenizer in (
        load_tokenizer(request, request.adapter),
        open_run_tokenizer(run.output, "causal"),
    ):
        text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert text == "Hi\nSo: "
