"""Whether any prompt leaves room for a completion."""

from typing import Any

import pytest

from modelforge.preflight import prompts
from modelforge.preflight.prompts import (
    LongPrompts,
    max_prompt_tokens,
    may_be_too_long,
    measure_prompts,
)
from tests.preflight.contexts import make_context


def count_words(text: str) -> int:
    return len(text.split())


def pair(words: int, **more: Any) -> dict[str, Any]:
    answer = [{"role": "assistant", "content": "Yes."}]
    prompt = [{"role": "user", "content": "word " * words}]
    return {"prompt": prompt, "chosen": answer, "rejected": answer} | more


LIMITS: dict[str, tuple[dict[str, Any], int | None]] = {
    "dpo": ({"strategy": "dpo"}, 255),
    "kto": ({"strategy": "dpo", "trainer": {"preference_loss": "kto"}}, 255),
    "dpo, deleted": ({"strategy": "dpo", "data": {"truncation_strategy": "delete"}}, 255),
    "dpo, cut left": ({"strategy": "dpo", "data": {"truncation_strategy": "left"}}, None),
    "rlhf": ({"strategy": "rlhf", "trainer": {"max_completion_length": 100}}, 156),
    "rlhf, cut left": (
        {
            "strategy": "rlhf",
            "trainer": {"max_completion_length": 100},
            "data": {"truncation_strategy": "left"},
        },
        156,
    ),
    "sft": ({}, 255),
    "sft, split": ({"data": {"truncation_strategy": "split"}}, None),
    "sft, all tokens": ({"data": {"loss_on": "all"}}, None),
    "sft, packed": ({"packing": True}, None),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_limit_follows_from_what_the_method_leaves_out(name: str) -> None:
    settings, limit = LIMITS[name]
    context = make_context(**settings, max_seq_length=256)
    assert max_prompt_tokens(context.config, context.plan) == limit


def test_one_prompt_that_fits_is_enough() -> None:
    rows = [pair(40), pair(30), pair(50)]
    assert measure_prompts(rows, 30, count_words) is None
    assert measure_prompts(rows, 29, count_words) == LongPrompts(3, 30, 29, is_all=True)
    assert measure_prompts([], 29, count_words) is None


def test_only_so_many_rows_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "MAX_ROWS", 2)
    found = measure_prompts([pair(40), pair(30), pair(5)], 20, count_words)
    assert found == LongPrompts(2, 30, 20, is_all=False)


def test_answers_before_the_last_question_do_not_count() -> None:
    """A chat template may leave them out."""
    earlier = [
        {"role": "user", "content": "word " * 5},
        {"role": "assistant", "content": "word " * 90},
        {"role": "user", "content": "word " * 5},
    ]
    assert measure_prompts([pair(0, prompt=earlier)], 10, count_words) is None
    assert measure_prompts([{"messages": earlier}], 4, count_words) == LongPrompts(1, 5, 4, True)
    assert measure_prompts([{"text": "word " * 90}], 4, count_words) is None


def test_prompts_that_surely_fit_are_not_measured() -> None:
    assert not may_be_too_long([pair(10), pair(900)], 100)
    assert may_be_too_long([pair(90), pair(900)], 100)
    assert not may_be_too_long([], 100)
