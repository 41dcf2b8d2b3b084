"""Counts of rows and tokens, and the notes made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def counted(*rows, is_eval: bool = False, **values):
    """Count (row, input ids, labels) with the given options."""
    from modelforge.modeling.tokenize.counters import TokenizeCounts
    from modelforge.modeling.tokenize.encode import TokenizedExample
    from modelforge.modeling.tokenize.options import TokenizeOptions

    options = TokenizeOptions(**{"max_length": 4, **values})
    counts = TokenizeCounts()
    parts = []
    for row, ids, labels in rows:
        parts += counts.add(row, TokenizedExample(ids, labels), options, is_eval=is_eval)
    return counts, options, [part.input_ids for part in parts]


def notes(counts, options, template) -> dict[str, str]:
    return dict(counts.notes(options, template))


def test_an_example_of_exactly_the_longest_length_is_whole():
    counts, _options, parts = counted((CHAT, [1, 2, 3, 4], [-100, -100, 3, 4]))
    assert parts == [[1, 2, 3, 4]]
    assert (counts.rows, counts.truncated, counts.dropped) == (1, 0, 0)
    assert (counts.trained_tokens, counts.all_tokens) == (2, 4)


@pytest.mark.parametrize(
    ("truncation", "kept", "trained", "dropped"),
    [
        ("right", [[1, 2, 3, 4]], 1, 0),
        ("left", [[3, 4, 5, 6]], 3, 0),
        ("split", [[1, 2, 3, 4], [5, 6]], 3, 0),
        ("delete", [], 0, 0),
    ],
)
def test_a_longer_example_is_truncated(template, truncation, kept, trained, dropped):
    row = (CHAT, [1, 2, 3, 4, 5, 6], [-100, -100, -100, 4, 5, 6])
    counts, options, parts = counted(row, truncation=truncation)
    assert parts == kept
    assert (counts.truncated, counts.dropped) == (1, dropped)
    assert (counts.trained_tokens, counts.all_tokens) == (trained, sum(map(len, kept)))
    code = {"split": "rows-split", "delete": "rows-deleted"}.get(truncation, "rows-cut")
    found = notes(counts, options, template)
    assert list(found) == [code]
    assert found[code].startswith("1 row is longer than 4 tokens and") or truncation == "left"


def test_an_example_whose_answer_is_cut_off_is_dropped(template):
    row = (CHAT, [1, 2, 3, 4, 5], [-100, -100, -100, -100, 5])
    counts, options, parts = counted(row, row)
    assert parts == []
    assert (counts.truncated, counts.dropped) == (2, 2)
    found = notes(counts, options, template)
    assert found["rows-dropped"].startswith("2 rows are left out: no answer fits")
    problem = counts.nothing_to_learn(options)
    assert problem.where == "dataset"
    assert "None of the 2 training rows has an answer within 4 tokens" in problem.what


def test_packing_that_splits_counts_nothing_as_truncated():
    row = (CHAT, [1, 2, 3, 4, 5, 6], [-100, -100, 3, 4, 5, 6])
    counts, _options, parts = counted(row, packing_truncates=True)
    assert (parts, counts.truncated) == ([[1, 2, 3, 4, 5, 6]], 0)
    counts, _options, parts = counted(row, packing_truncates=True, is_eval=True)
    assert (parts, counts.truncated) == ([[1, 2, 3, 4], [5, 6]], 0)


def test_plain_text_has_no_assistant_message_to_train(template):
    row = ({"text": "a"}, [1, 2], [-100, -100])
    counts, options, _parts = counted(row, loss_on="assistant")
    assert (counts.without_messages, counts.dropped) == (1, 1)
    found = notes(counts, options, template)
    assert list(found) == ["rows-without-turns"]
    assert found["rows-without-turns"].startswith("1 row is left out")
    assert counts.nothing_to_learn(options).where == "data.loss_on"

    counts, options, _parts = counted((row[0], [1, 2], [1, 2]))
    assert (counts.without_messages, counts.dropped) == (0, 0)
    assert notes(counts, options, template) == {}


def test_rewritten_and_unmatched_answers_are_told(template):
    from modelforge.modeling.tokenize.counters import TokenizeCounts
    from modelforge.modeling.tokenize.options import TokenizeOptions

    options = TokenizeOptions(max_length=4)
    one = TokenizeCounts(rows=3, rewritten_answers=1, unmatched_answers=2, dropped=2)
    found = notes(one, options, template)
    assert found["answers-rewritten"].startswith("The chat template changes one answer;")
    assert "lacks 2 answers" in found["answers-unmarked"]
    assert one.nothing_to_learn(options).where == "model.chat_template"
    assert replace(one, dropped=3).nothing_to_learn(options).where == "dataset"


def test_tools_and_reasoning_that_the_template_does_not_write_are_told(template):
    call = [{"role": "assistant", "content": "b", "reasoning_content": "why"}]
    row = ({**CHAT, "messages": [*CHAT["messages"], *call], "tools": []}, [1, 2], [1, 2])
    counts, options, _parts = counted(row, row)
    assert (counts.with_tools, counts.with_reasoning) == (2, 2)
    found = notes(counts, options, template)
    assert ("tools-unwritten" in found) is not template.supports_tools
    assert "The reasoning of 2 rows is left out" in found["reasoning-unwritten"]


def test_reasoning_is_found_in_every_part_of_a_row():
    from modelforge.modeling.tokenize.counters import has_reasoning

    thought = [{"role": "assistant", "content": "b", "reasoning_content": "why"}]
    for part in ("messages", "chosen", "rejected", "completion"):
        assert has_reasoning({part: thought})
    assert not has_reasoning(CHAT)
    assert not has_reasoning({"text": "reasoning_content"})


def test_counts_are_added_each_to_its_own():
    from modelforge.modeling.tokenize.counters import TokenizeCounts

    names = list(TokenizeCounts.__dataclass_fields__)
    one = TokenizeCounts(**{name: 2**place for place, name in enumerate(names)})
    both = one + one
    assert [getattr(both, name) for name in names] == [2 ** (place + 1) for place in range(10)]
