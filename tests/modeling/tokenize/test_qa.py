"""Windows of a context, with the tokens of the answer marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONTEXT = " ".join("abcdefghijklmnopqrstuvwxyz" * 3)


@pytest.fixture(scope="module")
def letters(tiny_reader: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_reader)


def windows(letters, answer: str, start: int, max_length: int = 512):
    from modelforge.modeling.tokenize.qa import encode_qa

    answers = [{"text": answer, "start": start}] if answer else []
    row = {"question": "q", "context": CONTEXT, "answers": answers}
    return encode_qa(row, letters, max_length)


def test_the_answer_is_marked_from_its_first_to_its_last_token(letters):
    (found,) = windows(letters, "c d e", CONTEXT.index("c"))
    trained = [token for token in found.labels if token != -100]
    assert letters.decode(trained) == "c d e"
    assert letters.decode(found.input_ids[found.start : found.end + 1]) == "c d e"
    assert found.end - found.start == 2
    assert found.labels.count(-100) == len(found.labels) - 3


def test_a_question_without_an_answer_points_at_the_first_token(letters):
    (found,) = windows(letters, "", 0)
    assert (found.start, found.end) == (0, 0) == (found.window.no_answer_index,) * 2
    assert set(found.labels) == {-100}


def test_only_windows_with_the_whole_answer_have_it(letters):
    length = 60
    whole = windows(letters, "", 0, length)
    assert len(whole) > 1
    first_end = max(offset[1] for offset in whole[0].window.offsets if offset)
    # The answer begins in the first window and ends after it.
    start = first_end - 3
    found = windows(letters, CONTEXT[start : start + 7], start, length)
    assert (found[0].start, found[0].end) == (0, 0)
    holding = [one for one in found if one.end]
    assert holding
    for one in holding:
        text = letters.decode(one.input_ids[one.start : one.end + 1])
        assert text == CONTEXT[start : start + 7].strip()


def test_a_question_that_leaves_no_room_has_no_window(letters):
    assert windows(letters, "a", 0, 4) == []
