"""Lengths of rows in tokens: the histogram, the shares and the progress."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def chat(answer: str) -> dict:
    messages = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def measured(rows, template, max_length: int = 512, **values):
    from modelforge.modeling.tokenize.lengths import measure_lengths
    from modelforge.modeling.tokenize.options import TokenizeOptions

    reports: list[dict] = []
    options = TokenizeOptions(max_length=max_length, **values)
    found = measure_lengths(
        rows, template, options, lambda **report: reports.append(report), len(rows)
    )
    return found, reports


@pytest.mark.parametrize(
    ("lengths", "bars"),
    [
        ([], []),
        ([0], [[1, 1]]),
        ([1, 1, 2], [[1, 2], [2, 1]]),
        ([24], [[end, int(end == 24)] for end in range(1, 25)]),
        ([2, 3, 25], [[2, 1], [4, 1], *([end, 0] for end in range(6, 25, 2)), [26, 1]]),
        ([49, 4], [[4, 1], *([end, 0] for end in range(8, 49, 4)), [52, 1]]),
    ],
)
def test_bars_are_equally_wide_and_include_their_end(lengths, bars):
    from modelforge.modeling.tokenize.lengths import histogram

    assert histogram(lengths) == bars


def test_lengths_are_those_of_the_encoded_rows(template):
    from modelforge.modeling.tokenize.encode import encode

    rows = [chat("word " * count) for count in range(1, 131)]
    lengths = sorted(len(example.input_ids) for example in encode(rows, template))
    limit = lengths[100]
    found, reports = measured(rows, template, limit)
    assert found["rows"] == 130
    assert found["mean"] == round(sum(lengths) / 130, 1)
    assert (found["median"], found["longest"]) == (lengths[65], lengths[-1])
    assert found["truncated"] == sum(length > limit for length in lengths) / 130 > 0
    assert found["dropped"] == 0
    assert found["max_length"] == limit
    assert sum(count for _end, count in found["histogram"]) == 130
    assert [report["done"] for report in reports] == [64, 128, 130]
    assert {report["total"] for report in reports} == {130}


def test_shares_are_of_tokens_and_rows(template):
    from modelforge.modeling.tokenize.encode import encode

    rows = [chat("Aye."), chat("No, sir, I would not.")]
    examples = encode(rows, template)
    found, _reports = measured(rows, template)
    assert found["trained_tokens"] == sum(example.trained_tokens for example in examples)
    assert found["all_tokens"] == sum(len(example.input_ids) for example in examples)
    assert found["trained"] == found["trained_tokens"] / found["all_tokens"]
    long = {"messages": [{"role": "user", "content": "a " * 99}, *chat("b")["messages"][1:]]}
    found, _reports = measured([*rows, long], template, 60)
    assert found["dropped"] == pytest.approx(1 / 3)
    assert "rows-dropped" in [note["code"] for note in found["notes"]]


def test_no_rows_have_no_lengths(template):
    found, reports = measured([], template)
    assert (found["rows"], found["histogram"], found["mean"], found["median"]) == (0, [], 0, 0)
    assert (found["longest"], found["truncated"], found["dropped"], found["trained"]) == (
        0,
        0,
        0,
        0,
    )
    assert reports == []


def test_pairs_have_the_length_of_their_longer_side(template):
    from modelforge.modeling.tokenize.preference import encode_pair
    from tests.modeling.tokenize.test_preference import pair

    row = pair(chosen="A much longer answer than the other one.")
    found, _reports = measured([row], template, method="dpo")
    sides = encode_pair(row, template).sides
    assert found["longest"] == max(len(side.input_ids) for side in sides)
    labelled = {"prompt": row["prompt"], "completion": row["rejected"], "label": True}
    found, _reports = measured([labelled], template, method="dpo")
    assert found["longest"] == len(sides[1].input_ids)
