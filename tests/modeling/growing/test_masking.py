"""The masked-token objective: which tokens are masked, the loss by hand, and the attention."""

from __future__ import annotations

import pytest

from tests.modeling.growing.conftest import TYPES

pytestmark = pytest.mark.torch

MASK = 0


@pytest.mark.parametrize("fraction", [0.15, 0.5, 0.85, 1.0])
def test_the_share_of_the_labelled_tokens_is_masked(fraction):
    import torch

    from modelforge.modeling.growing.masking import mask_tokens

    ids = torch.arange(10, 50).view(2, 20)
    labels = ids.clone()
    labels[0, :8] = -100
    labels[1, 15:] = -100
    masked, targets = mask_tokens(ids, labels, fraction, MASK, torch.Generator().manual_seed(1))
    is_masked = masked == MASK
    assert is_masked.sum(-1).tolist() == [round(12 * fraction), round(15 * fraction)]
    assert torch.equal(masked[~is_masked], ids[~is_masked])
    assert torch.equal(targets[is_masked], ids[is_masked])
    assert set(targets[~is_masked].tolist()) <= {-100}
    assert not is_masked[labels == -100].any()


def test_at_least_one_token_of_a_row_is_masked_and_none_without_labels():
    import torch

    from modelforge.modeling.growing.masking import mask_tokens

    ids = torch.arange(10, 16).view(2, 3)
    labels = ids.clone()
    labels[1] = -100
    masked, targets = mask_tokens(ids, labels, 0.0, MASK)
    assert (masked == MASK).sum(-1).tolist() == [1, 0]
    assert (targets != -100).sum(-1).tolist() == [1, 0]


def test_every_token_is_masked_equally_often():
    import torch

    from modelforge.modeling.growing.masking import mask_tokens

    torch.manual_seed(3)
    ids = torch.full((4000, 4), 9)
    masked, _ = mask_tokens(ids, ids, 0.5, MASK)
    assert (masked == MASK).float().mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.03)


def test_the_loss_is_that_of_the_masked_positions_by_hand(build, ids):
    import torch

    from modelforge.modeling.growing.masking import mask_tokens, use_masked_objective

    model = build()
    use_masked_objective(model)
    masked, labels = mask_tokens(ids, ids, 0.3, MASK, torch.Generator().manual_seed(2))
    output = model(input_ids=masked, labels=labels)
    probabilities = torch.softmax(output.logits.double(), -1)
    places = (masked == MASK).nonzero().tolist()
    assert len(places) == 2 * round(0.3 * 12)
    # The token at its own position, not the next one.
    losses = [-torch.log(probabilities[row, at, ids[row, at]]) for row, at in places]
    assert output.loss.item() == pytest.approx(sum(losses).item() / len(losses), rel=1e-5)


def mean_loss(logits, labels):
    """Return the mean loss of the labels, each at its own position."""
    import torch

    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()


def test_the_loss_in_chunks_is_the_same(build, ids):
    import torch

    from modelforge.modeling.growing.masking import use_masked_objective
    from modelforge.train.trainer.chunked_loss import chunk_lm_head_loss

    model = build()
    use_masked_objective(model)
    batch = collator(fractions=(0.5,))(ids.tolist())
    batch.pop("extra")
    with torch.no_grad():
        expected = mean_loss(model(batch["input_ids"]).logits, batch["labels"])
        assert model(**batch).loss.item() == pytest.approx(expected, rel=1e-5)
        chunk_lm_head_loss(model, 4)
        assert model(**batch).loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_trainer_counts_the_tokens_that_are_predicted(build, ids, tmp_path):
    import torch
    from transformers import Trainer, TrainingArguments

    from modelforge.modeling.growing.masking import use_masked_objective

    model = build()
    use_masked_objective(model)
    masking = collator(fractions=(1.0,))
    expected = []

    def collate(rows):
        batch = masking([row["input_ids"] for row in rows])
        batch.pop("extra")
        with torch.no_grad():
            expected.append(mean_loss(model(batch["input_ids"]).logits, batch["labels"]))
        return batch

    options = {"use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    arguments = TrainingArguments(
        str(tmp_path), max_steps=1, logging_steps=1, learning_rate=0.0, **options
    )
    rows = [{"input_ids": row} for row in ids.tolist()]
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collate)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected[0], rel=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", TYPES)
def test_attention_goes_in_both_directions_also_after_reloading(
    build, ids, tmp_path, model_type, attention
):
    import torch
    from transformers import AutoModelForCausalLM

    from modelforge.modeling.growing.masking import use_masked_objective

    # A sliding window ends the view, so the change is close by.
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] - 2) % 45 + 3

    def difference(model):
        with torch.no_grad():
            return (model(ids).logits - model(changed).logits)[:, -2].abs().max().item()

    model = build(model_type, attn_implementation=attention)
    assert difference(model) == 0.0
    use_masked_objective(model)
    assert difference(model) > 0.001
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=attention)
    assert difference(again) > 0.001


def test_packed_texts_see_each_other_in_both_directions(build, ids):
    """Why masked batches must not be packed; if this fails, they may be."""
    import torch

    from modelforge.modeling.growing.masking import use_masked_objective

    packed = {"position_ids": (torch.arange(12) % 6)[None], "use_cache": False}
    changed = ids.clone()
    changed[:, 8:] = 5

    def difference(model):
        with torch.no_grad():
            change = model(ids, **packed).logits - model(changed, **packed).logits
        return change[:, :6].abs().max().item()

    model = build()
    assert difference(model) == 0.0
    use_masked_objective(model)
    assert difference(model) > 0.1


def test_padding_is_not_seen_in_both_directions(build, ids):
    import torch

    from modelforge.modeling.growing.masking import use_masked_objective

    model = build()
    use_masked_objective(model)
    padded = torch.nn.functional.pad(ids, (0, 4))
    mask = (padded != 0).long()
    with torch.no_grad():
        logits = model(input_ids=padded, attention_mask=mask).logits[:, :12]
        torch.testing.assert_close(logits, model(ids).logits, rtol=1e-4, atol=1e-4)


def collator(**more):
    import torch

    from modelforge.modeling.growing.masking import MaskingCollator

    def collate(rows):
        ids = torch.tensor(rows)
        return {"input_ids": ids, "labels": ids.clone(), "extra": len(rows)}

    return MaskingCollator(collate, mask_id=MASK, **more)


def test_each_batch_takes_one_of_the_shares():
    import torch

    torch.manual_seed(0)
    masking = collator(fractions=(0.25, 0.5, 1.0))
    rows = [list(range(10, 14))] * 2
    batches = [masking(rows) for _ in range(60)]
    counts = [(batch["input_ids"] == MASK).sum(-1).tolist() for batch in batches]
    assert {tuple(count) for count in counts} == {(1, 1), (2, 2), (4, 4)}
    assert batches[0]["extra"] == 2
    assert len({str(batch["labels"].tolist()) for batch in batches}) > 10


def test_fixed_masks_are_those_of_the_batch_and_leave_the_random_state():
    import torch

    masking = collator(fractions=(0.25, 0.5), is_fixed=True)
    rows = [list(range(10, 30)), list(range(20, 40))]
    state = torch.get_rng_state()
    first = masking(rows)["labels"]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(masking(rows)["labels"], first)
    assert not torch.equal(masking(rows[::-1])["labels"].flip(0), first)


def test_a_mask_token_is_added_or_chosen(build):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from modelforge.modeling.growing.masking import MASK_TOKEN, add_mask_token

    def tokenizer():
        vocabulary = {f"t{index}": index for index in range(48)}
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
        )

    model, own = build(), tokenizer()
    assert add_mask_token(model, own) == 48
    assert own.mask_token == MASK_TOKEN
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == 49
    assert add_mask_token(model, own) == 48
    assert model.config.vocab_size == 49
    model, chosen = build(), tokenizer()
    assert add_mask_token(model, chosen, "t7") == 7
    assert (chosen.mask_token, len(chosen)) == ("t7", 48)
    assert model.config.vocab_size == 48
    with pytest.raises(ValueError, match="'other' is not a token"):
        add_mask_token(model, chosen, "other")
