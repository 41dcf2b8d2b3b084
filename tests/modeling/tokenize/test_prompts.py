"""Prompts for online training: what is asked, what is expected, what is left out."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def chat(question: str, answer: str = "Aye.") -> dict:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def built(rows, template, limit: int = 100, **values):
    from modelforge.modeling.tokenize.prompts import build_prompts

    return build_prompts(
        rows, template, limit, **{"wants_answer": False, "max_eval_prompts": 8, **values}
    )


def test_a_prompt_is_rendered_up_to_the_answer(template, tokenizer):
    found = built([(chat("Who?"), False)], template)
    (row,) = found.train
    messages = chat("Who?")["messages"]
    text = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert row["prompt"] == text
    assert json.loads(row["turns"]) == messages[:1]
    assert (row["asked"], row["answer"]) == ("Who?", "Aye.")
    assert found.eval is None
    assert found.tokens == len(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_prompts_of_exactly_the_limit_are_kept_and_longer_ones_are_not(template):
    rows = [(chat("Who?"), False), (chat("Who is there, and why so late?"), False)]
    lengths = [built([row], template).tokens for row in rows]
    found = built(rows, template, lengths[0])
    assert (len(found.train), found.too_long, found.tokens) == (1, 1, lengths[0])
    assert [code for code, _text in found.notes] == ["prompts-too-long"]
    assert found.notes[0][1].startswith("1 prompt is left out: longer than")
    assert len(built(rows, template, lengths[1]).train) == 2
    found = built([*rows, rows[1]], template, lengths[0])
    assert found.notes[0][1].startswith("2 prompts are left out")


def test_rows_without_the_expected_answer_are_left_out_where_it_is_needed(template):
    rows = [(chat("Who?"), False), (chat("Who?", "  "), False), ({"text": "plain"}, False)]
    found = built(rows, template, wants_answer=True)
    assert (len(found.train), found.unusable) == (1, 2)
    assert found.notes[0][1].startswith("2 rows are left out: the prompt, or the answer")
    assert len(built(rows, template).train) == 2


def test_evaluation_prompts_are_apart_and_bounded(template):
    rows = [(chat(f"Who is {number}?"), number >= 4) for number in range(10)]
    found = built(rows, template, max_eval_prompts=6)
    assert (len(found.train), len(found.eval)) == (4, 6)
    assert found.notes == []
    found = built(rows, template, max_eval_prompts=5)
    assert [row["asked"] for row in found.eval] == [f"Who is {number}?" for number in range(4, 9)]
    assert found.notes == [
        ("held-out-sampled", "Evaluations answer 5 of the 6 evaluation prompts.")
    ]
    found = built(rows, template, max_eval_prompts=0)
    assert found.eval is None
    assert found.notes == [("held-out-sampled", "No evaluation prompt is answered.")]


def test_no_training_prompt_is_an_error_that_counts(template):
    from modelforge.modeling.errors import WorkerError

    rows = [(chat("Who?"), True), (chat("Who is there?" * 9), False), ({"text": "a"}, False)]
    with pytest.raises(WorkerError, match="1 are longer than 40 tokens, 1 rows have no") as caught:
        built(rows, template, 40)
    assert caught.value.cause == "nothing-to-learn"


def test_the_expected_answer_of_each_kind_of_row():
    from modelforge.modeling.tokenize.prompts import prompt_and_answer

    prompt = [{"role": "user", "content": "Who?"}]
    good = [{"role": "assistant", "content": "Aye."}]
    bad = [{"role": "assistant", "content": "Nay."}]
    pair = {"prompt": prompt, "chosen": good, "rejected": bad}
    assert prompt_and_answer(pair) == (prompt, "Aye.")
    labelled = {"prompt": prompt, "completion": good, "label": True}
    assert prompt_and_answer(labelled) == (prompt, "Aye.")
    assert prompt_and_answer({**labelled, "label": False}) == (prompt, "")
    assert prompt_and_answer({**labelled, "completion": prompt}) == (prompt, "")
    two = {"messages": [*prompt, *good, *prompt, *bad, *prompt]}
    assert prompt_and_answer(two) == ([*prompt, *good, *prompt], "Nay.")
    assert prompt_and_answer({"messages": [*good, *prompt]}) is None
    assert prompt_and_answer({"text": "plain"}) is None


def test_completions_leave_tokens_for_a_prompt():
    from modelforge.modeling.errors import WorkerError
    from modelforge.modeling.tokenize.prompts import max_prompt_length

    assert max_prompt_length(512, 511) == 1
    with pytest.raises(WorkerError, match="Completions of 512 tokens") as caught:
        max_prompt_length(512, 512)
    assert caught.value.cause == "no-room-for-answers"


def test_a_conversation_that_the_assistant_begins_has_its_last_answer_as_the_expected_one():
    from modelforge.modeling.tokenize.prompts import prompt_and_answer

    greeting = {"role": "assistant", "content": "Welcome aboard."}
    messages = [greeting, *chat("Who?")["messages"]]
    assert prompt_and_answer({"messages": messages}) == (messages[:2], "Aye.")
    assert prompt_and_answer({"messages": [greeting]}) is None
