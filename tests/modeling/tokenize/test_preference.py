"""Pairs and labelled completions as token ids, truncated and counted."""

from __future__ import annotations

import pytest

from tests.modeling.tokenize.conftest import no_progress

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PAIRS = [
    {"prompt": f"Say {number}.", "chosen": f"{number}, aye.", "rejected": f"It is {number} sir."}
    for number in range(12)
]
LABELLED = [
    {"prompt": f"Say {number}.", "completion": f"{number}, aye.", "label": number % 3 == 0}
    for number in range(12)
]


def pair(prompt: str = "Say 1.", chosen: str = "One.", rejected: str = "Two, sir.") -> dict:
    user, assistant = "user", "assistant"
    return {
        "prompt": [{"role": user, "content": prompt}],
        "chosen": [{"role": assistant, "content": chosen}],
        "rejected": [{"role": assistant, "content": rejected}],
    }


def options(**values):
    from modelforge.modeling.tokenize.options import TokenizeOptions

    return TokenizeOptions(**{"max_length": 512, "method": "dpo", **values})


def test_prompt_and_completions_together_are_the_rendered_conversations(template, tokenizer):
    from modelforge.modeling.tokenize.preference import encode_pair

    row = pair()
    found = encode_pair(row, template)
    assert found is not None
    for side, completion in zip(found.sides, ("chosen", "rejected"), strict=True):
        text = tokenizer.apply_chat_template([*row["prompt"], *row[completion]], tokenize=False)
        assert tokenizer.decode(side.input_ids) == text.rstrip("\n")
        assert side.labels == [-100] * len(found.prompt) + side.input_ids[len(found.prompt) :]
    assert tokenizer.decode(found.chosen) == "One.<|im_end|>"
    assert tokenizer.decode(found.rejected) == "Two, sir.<|im_end|>"
    assert tokenizer.decode(found.prompt).endswith("<|im_start|>assistant\n")


def test_answers_within_the_prompt_are_not_part_of_the_completion(template, tokenizer):
    from modelforge.modeling.tokenize.preference import encode_pair

    row = pair()
    row["prompt"] = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "One."},
        *row["prompt"],
    ]
    found = encode_pair(row, template)
    assert found is not None
    assert tokenizer.decode(found.chosen) == "One.<|im_end|>"
    assert "Hi." in tokenizer.decode(found.prompt)


def test_a_completion_without_text_has_no_pair(template):
    from modelforge.modeling.tokenize.preference import encode_pair, encode_unpaired

    refusing = pair()
    refusing["rejected"] = []
    assert encode_pair(refusing, template) is None
    row = {"prompt": refusing["prompt"], "completion": [], "label": True}
    assert encode_unpaired(row, template) is None


@pytest.mark.parametrize(
    ("spare", "truncation", "is_kept"),
    [
        (0, "delete", True),
        (-1, "delete", False),
        (-1, "left", True),
        (-1, "right", True),
        (None, "right", False),
        (None, "left", True),
    ],
)
def test_a_pair_fits_if_truncation_leaves_both_completions(template, spare, truncation, is_kept):
    from modelforge.modeling.tokenize.preference import encode_pair, fits

    found = encode_pair(pair(), template)
    assert found is not None
    longest = max(len(side.input_ids) for side in found.sides)
    limit = len(found.prompt) if spare is None else longest + spare
    assert fits(found, options(max_length=limit, truncation=truncation)) is is_kept


def test_pairs_are_columns_with_counts(request_of, template):
    from modelforge.modeling.tokenize.preference import encode_pair, tokenize_pairs

    request = request_of(PAIRS, eval_split=0.25, method="dpo")
    found = tokenize_pairs(request, template, no_progress)
    assert (len(found.train), len(found.eval)) == (9, 3)
    rows = list(found.train)
    for row in rows:
        longest = max(len(row["chosen_ids"]), len(row["rejected_ids"]))
        assert row["length"] == len(row["prompt_ids"]) + longest
    sides = [row[name] for row in rows for name in ("chosen_ids", "rejected_ids")]
    assert found.trained_tokens == sum(map(len, sides))
    prompts = sum(2 * len(row["prompt_ids"]) for row in rows)
    assert found.all_tokens == found.trained_tokens + prompts
    assert found.notes == []
    first = encode_pair(pair("Say 0.", "0, aye.", "It is 0 sir."), template)
    assert first.as_columns() in [
        {name: row[name] for name in first.as_columns()} for row in (*found.train, *found.eval)
    ]


@pytest.mark.parametrize(
    ("truncation", "truncated", "dropped", "kept"),
    [("right", 1, 1, 12), ("delete", 1, 0, 12), ("left", 1, 0, 13), ("split", 1, 1, 12)],
)
def test_a_pair_with_a_long_prompt(request_of, template, truncation, truncated, dropped, kept):
    from modelforge.modeling.tokenize.preference import tokenize_pairs

    rows = [*PAIRS, {"prompt": "Tell all. " * 80, "chosen": "No.", "rejected": "Yes."}]
    request = request_of(rows, method="dpo", max_length=100, truncation=truncation)
    found = tokenize_pairs(request, template, no_progress)
    assert (found.truncated_rows, found.dropped_rows) == (truncated, dropped)
    assert len(found.train) == kept


def test_rows_of_another_kind_are_an_error(request_of, template):
    from modelforge.modeling.errors import WorkerError
    from modelforge.modeling.tokenize.preference import tokenize_pairs, tokenize_unpaired

    with pytest.raises(WorkerError, match="not a pair") as caught:
        tokenize_pairs(request_of(LABELLED, method="dpo"), template, no_progress)
    assert caught.value.cause == "wrong-kind"
    chats = [{"input": "Say 1.", "output": "One."}] * 3
    with pytest.raises(WorkerError, match="neither a completion") as caught:
        tokenize_unpaired(request_of(chats, method="dpo"), template, no_progress)
    assert caught.value.cause == "wrong-kind"


def test_a_pair_is_a_good_and_a_bad_completion(request_of, template, tokenizer):
    from modelforge.modeling.tokenize.preference import tokenize_unpaired

    found = tokenize_unpaired(request_of(PAIRS, method="dpo"), template, no_progress)
    texts = {(tokenizer.decode(row["completion_ids"]), row["label"]) for row in found.train}
    assert len(found.train) == len(texts) == 24
    assert ("0, aye.<|im_end|>", True) in texts
    assert ("It is 0 sir.<|im_end|>", False) in texts


def test_labelled_completions_are_shuffled_by_the_seed(request_of, template, tokenizer):
    from modelforge.modeling.tokenize.preference import tokenize_unpaired

    def order(seed: int) -> list[tuple[str, bool]]:
        request = request_of(LABELLED, method="dpo", seed=seed)
        rows = tokenize_unpaired(request, template, no_progress).train
        return [(tokenizer.decode(row["completion_ids"]), row["label"]) for row in rows]

    known = [(f"{row['completion']}<|im_end|>", row["label"]) for row in LABELLED]
    assert sorted(order(1)) == sorted(known)
    assert order(1) == order(1)
    assert order(1) != known
    assert order(1) != order(2)


def test_the_batch_has_chosen_rows_first_and_masks_prompts(template):
    from modelforge.modeling.tokenize.preference import collate_pairs, encode_pair

    pairs = [encode_pair(pair(), template), encode_pair(pair("Say it.", "A b c d."), template)]
    batch = collate_pairs(pairs, options(), pad=2)
    sides = [one.sides[which] for which in (0, 1) for one in pairs]
    for ids, mask, completion, side in zip(
        *(batch[name] for name in ("input_ids", "attention_mask", "completion_mask")),
        sides,
        strict=True,
    ):
        assert ids[mask.bool()].tolist() == side.input_ids
        trained = [label for label in side.labels if label != -100]
        assert ids[completion.bool()].tolist() == trained


@pytest.mark.parametrize(("truncation", "kept"), [("left", "end"), ("right", "start")])
def test_the_collator_truncates_where_the_options_say(template, truncation, kept):
    from modelforge.modeling.tokenize.preference import collate_pairs, encode_pair

    found = encode_pair(pair(), template)
    limit = len(found.prompt) + 1
    batch = collate_pairs([found], options(max_length=limit, truncation=truncation), pad=2)
    ids = batch["input_ids"][0][batch["attention_mask"][0].bool()].tolist()
    whole = found.sides[0].input_ids
    assert ids == (whole[-limit:] if kept == "end" else whole[:limit])


def test_splitting_and_packing_are_left_out_for_pairs():
    from modelforge.modeling.tokenize.preference import without_split

    found = without_split(options(truncation="split", packing_truncates=True))
    assert (found.truncation, found.packing_truncates) == ("right", False)
    assert without_split(options(truncation="left")).truncation == "left"
