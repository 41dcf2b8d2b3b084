"""Windows over a context, and the answer read out of the scores of their tokens: by hand."""

from __future__ import annotations

import math

import pytest

from modelforge.data.canonical.convert import document_and_summary, summarization_prefix
from modelforge.data.canonical.qa import NO_ANSWER, to_chat_example
from modelforge.data.canonical.qa_windows import Window, best_answer

CONTEXT = "Ada sailed west"
PLACES = [None, None, (0, 3), (4, 10), (11, 15), None]
WINDOW = Window(input_ids=[1, 7, 2, 3, 4, 5], token_type_ids=[], offsets=PLACES, no_answer_index=0)


def scores(**at: float) -> list[float]:
    found = [-9.0] * 6
    for name, value in at.items():
        found[int(name[1:])] = value
    return found


def test_the_best_span_wins_with_its_probability():
    found = best_answer(CONTEXT, [WINDOW], [scores(_2=4, _3=1)], [scores(_2=3, _3=4)])
    assert (found.text, found.start) == ("Ada sailed", 0)
    sums = [4 + 4, 4 + 3, 4 - 9, 1 + 4, 1 - 9, -9 - 9, -9 - 9]
    assert found.score == pytest.approx(math.exp(8) / sum(map(math.exp, sums)), abs=1e-4)


def test_no_answer_wins_where_its_score_is_higher():
    nothing = best_answer(CONTEXT, [WINDOW], [scores(_0=5, _2=4)], [scores(_0=5, _2=3)])
    assert (nothing.text, nothing.start) == ("", None)
    assert nothing.score == pytest.approx(math.exp(10) / (math.exp(10) + math.exp(7)), abs=1e-3)


@pytest.mark.parametrize(("none", "text"), [(3.2, "Ada"), (3.8, "")])
def test_a_near_tie_is_won_by_the_higher_score(none, text):
    found = best_answer(CONTEXT, [WINDOW], [scores(_0=none, _2=4)], [scores(_0=none, _2=3)])
    assert found.text == text


def test_a_window_without_the_answer_does_not_outvote_the_one_that_has_it():
    has = scores(_0=0, _4=5), scores(_0=0, _4=5)
    lacks = scores(_0=9), scores(_0=9)
    found = best_answer(CONTEXT, [WINDOW, WINDOW], [lacks[0], has[0]], [lacks[1], has[1]])
    assert found.text == "west"


def test_an_answer_never_ends_before_it_begins_nor_is_in_the_question():
    found = best_answer(CONTEXT, [WINDOW], [scores(_1=9, _4=5)], [scores(_1=9, _2=8, _4=1)])
    assert found.text == "west"


def test_without_windows_there_is_no_answer():
    assert best_answer(CONTEXT, [], [], []).text == ""


def test_a_question_about_a_context_becomes_a_conversation():
    row = {"context": CONTEXT, "question": "Who?", "answers": [{"text": "Ada", "start": 0}]}
    asked, answered = to_chat_example(row)["messages"]
    assert CONTEXT in asked["content"]
    assert asked["content"].endswith("Question: Who?")
    assert answered == {"role": "assistant", "content": "Ada"}
    assert to_chat_example(row | {"answers": []})["messages"][1]["content"] == NO_ANSWER


def test_a_document_is_the_text_before_the_last_answer():
    row = {
        "messages": [
            {"role": "user", "content": "Summarise this text.\n\nA long text."},
            {"role": "assistant", "content": " Short. "},
        ]
    }
    assert document_and_summary(row) == ("A long text.", "Short.")
    assert document_and_summary({"text": "plain"}) is None
    assert document_and_summary({"messages": row["messages"][1:]}) is None


def test_the_prefix_of_a_summary_is_read_from_the_model_config():
    class Config:
        task_specific_params = {"summarization": {"prefix": "summarize: "}}  # noqa: RUF012

    assert summarization_prefix(Config()) == "summarize: "
    assert summarization_prefix(object()) == ""
