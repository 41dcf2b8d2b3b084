"""Losses and greedy answers in batches are those of each sequence alone."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch
PAD, STOP, VOCABULARY = 0, 2, 96


@pytest.fixture(scope="module")
def model():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    made = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if not name.endswith("norm.weight"):
                weight.mul_(6.0)
    return made


@pytest.fixture(scope="module")
def rows():
    import random

    from modelforge.modeling.inference import Labelled

    draw = random.Random(0)
    made = []
    for _ in range(13):
        ids = [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(4, 24))]
        start = draw.randrange(1, len(ids))
        labels = [-100] * start + ids[start:]
        labels[-1] = draw.choice([labels[-1], -100])
        made.append(Labelled(ids, labels))
    return [row for row in made if any(label != -100 for label in row.labels)]


def one_loss(model, ids, labels):
    import torch
    from torch.nn.functional import cross_entropy

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1]
    return float(cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum"))


def test_losses_in_batches_are_those_of_each_sequence_alone(model, rows):
    from modelforge.modeling.inference import LanguageModel

    losses = LanguageModel(model, pad=PAD).losses(rows)
    assert [loss.nats for loss in losses] == pytest.approx(
        [one_loss(model, row.ids, row.labels) for row in rows], abs=1e-3
    )
    assert [loss.tokens for loss in losses] == [
        sum(label != -100 for label in row.labels) for row in rows
    ]


def test_plain_text_has_no_loss_on_its_first_token(model):
    from modelforge.modeling.inference import Labelled, LanguageModel

    texts = [[5, 6, 7, 8, 9], [11, 12, 13]]
    losses = LanguageModel(model, pad=PAD).losses([Labelled(ids, list(ids)) for ids in texts])
    assert [loss.nats for loss in losses] == pytest.approx(
        [one_loss(model, ids, ids) for ids in texts], abs=1e-3
    )
    assert [loss.tokens for loss in losses] == [4, 2]


def test_a_cached_prefix_changes_neither_losses_nor_answers(model, rows):
    from modelforge.modeling.inference import Decoding, Labelled, LanguageModel

    prefix = [7, 8, 9, 10, 11, 12]
    behind = LanguageModel(model, pad=PAD, prefix=prefix)
    whole = [Labelled([*prefix, *row.ids], [-100] * len(prefix) + row.labels) for row in rows]
    assert [loss.nats for loss in behind.losses(rows)] == pytest.approx(
        [one_loss(model, row.ids, row.labels) for row in whole], abs=2e-3
    )
    assert behind._cache is not None
    decoding = Decoding((STOP,), PAD, 12)
    plain = LanguageModel(model, pad=PAD).greedy([row.ids for row in whole], decoding)
    assert behind.greedy([row.ids for row in rows], decoding) == plain


def test_another_prefix_is_cached_like_the_first(model, rows):
    from modelforge.modeling.inference import Labelled, LanguageModel

    behind = LanguageModel(model, pad=PAD, prefix=[7, 8, 9, 10])
    behind.losses(rows)
    first = behind._cache
    for prefix in ([11, 12, 13], [14, 15, 16, 17, 18]):
        behind.set_prefix(prefix)
        whole = [Labelled([*prefix, *row.ids], [-100] * len(prefix) + row.labels) for row in rows]
        assert [loss.nats for loss in behind.losses(rows)] == pytest.approx(
            [one_loss(model, row.ids, row.labels) for row in whole], abs=2e-3
        )
        assert behind._cache is not first


def test_a_model_that_answers_differently_with_a_cache_reads_the_prefix_every_time(
    model, rows, monkeypatch
):
    from modelforge.modeling import inference
    from modelforge.modeling.inference import LanguageModel

    def other_cache(_self, count):
        ids = inference.torch.tensor([[3, 4, 5]] * count)
        return model(ids, use_cache=True).past_key_values

    monkeypatch.setattr(LanguageModel, "_cache_for", other_cache)
    behind = LanguageModel(model, pad=PAD, prefix=[7, 8, 9, 10])
    behind.losses(rows)
    assert behind._cache is None


def test_batches_hold_the_logits_that_fit(model, rows, monkeypatch):
    from modelforge.modeling import inference

    seen = []
    monkeypatch.setattr(inference, "LOGITS", 60 * VOCABULARY)
    inference.LanguageModel(model, pad=PAD).losses(rows, lambda batch, _new: seen.append(batch))
    assert sorted(index for batch in seen for index in batch) == list(range(len(rows)))
    assert len(seen) > 2
    for batch in seen:
        window = max(rows[index].window for index in batch) + 1
        assert len(batch) == 1 or len(batch) * window <= 60


def test_an_answer_ends_before_the_token_that_ends_it(model):
    from modelforge.modeling.inference import Decoding, LanguageModel

    language = LanguageModel(model, pad=PAD)
    prompts = [[5, 6, 7], [9, 10, 11, 12, 13]]
    (free, _other) = language.greedy(prompts, Decoding((STOP,), PAD, 6))
    assert (len(free.ids), free.is_cut) == (6, True)
    end = free.ids[3]
    (ended, _other) = language.greedy(prompts, Decoding((end,), PAD, 6))
    assert ended.ids == free.ids[: free.ids.index(end)]
    assert not ended.is_cut


def test_an_encoder_decoder_has_the_loss_of_its_target(model):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from modelforge.modeling.inference import Decoding, Labelled, LanguageModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        pad_token_id=PAD, eos_token_id=STOP, decoder_start_token_id=PAD,
    )  # fmt: skip
    rewriter = T5ForConditionalGeneration(config).eval()
    rows = [Labelled([5, 6, 7, 2], [8, 9, 2]), Labelled([9, 2], [11, 12, 13, 14, 2])]
    language = LanguageModel(rewriter, pad=PAD, head="seq2seq")
    with torch.no_grad():
        alone = [
            float(rewriter(torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss)
            for row in rows
        ]
    assert [loss.mean for loss in language.losses(rows)] == pytest.approx(alone, abs=1e-4)
    answers = language.greedy([row.ids for row in rows], Decoding((STOP,), PAD, 5))
    assert all(len(answer.ids) <= 5 for answer in answers)
