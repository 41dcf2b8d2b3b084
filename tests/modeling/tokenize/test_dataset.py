"""Datasets of token ids: every row in order, the split, the sample, counts and progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelforge.data.canonical.convert import to_canonical
from modelforge.data.checks.summary import summarize
from modelforge.data.sources.split import split_indices
from tests.modeling.tokenize.conftest import no_progress
from tests.train.conftest import PAIRS

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def inputs(dataset, tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in dataset["input_ids"]]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_evaluation_rows_are_those_of_the_split_with_the_seed(request_of, seed):
    from modelforge.modeling.tokenize.dataset import iter_split_rows

    request = request_of(PAIRS, eval_split=0.25, seed=seed)
    held_out = [is_eval for _row, is_eval in iter_split_rows(request, no_progress)]
    mapping = summarize(request.dataset["path"]).mapping
    rows = [to_canonical(row, mapping) for row in PAIRS]
    _train, evaluation = split_indices(rows, 0.25, seed)
    assert [index for index, is_eval in enumerate(held_out) if is_eval] == evaluation
    assert len(evaluation) == 4


@pytest.mark.parametrize("batch_size", [1, 5, 16, 17])
def test_every_row_is_there_in_order_whatever_the_batches(
    request_of, template, tokenizer, monkeypatch, batch_size
):
    from modelforge.modeling.tokenize import dataset

    monkeypatch.setattr(dataset, "BATCH_SIZE", batch_size)
    found = dataset.tokenize(request_of(PAIRS), template, no_progress)
    texts = inputs(found.train, tokenizer)
    assert len(texts) == len(PAIRS)
    assert all(row["output"] in text for row, text in zip(PAIRS, texts, strict=True))
    assert found.eval is None
    assert found.eval_rows == []


def test_tokens_and_rows_are_counted(request_of, template):
    from modelforge.modeling.tokenize.dataset import tokenize

    found = tokenize(request_of(PAIRS, eval_split=0.25), template, no_progress)
    assert (len(found.train), len(found.eval)) == (12, 4)
    labels = [label for row in found.train["labels"] for label in row]
    assert found.all_tokens == len(labels)
    assert found.trained_tokens == sum(label != -100 for label in labels)
    assert (found.truncated_rows, found.dropped_rows, found.notes) == (0, 0, [])


def test_truncated_and_dropped_rows_of_both_parts_are_counted(request_of, template):
    from modelforge.modeling.tokenize.dataset import NO_EVALUATION, tokenize

    whole = tokenize(request_of(PAIRS, eval_split=0.25), template, no_progress)
    lengths = [len(ids) for part in (whole.train, whole.eval) for ids in part["input_ids"]]
    limit = max(lengths) - 1
    found = tokenize(request_of(PAIRS, eval_split=0.25, max_length=limit), template, no_progress)
    assert found.truncated_rows == sum(length > limit for length in lengths) > 0
    assert found.dropped_rows == 0

    rows = [*PAIRS, {"input": "Tell all. " * 60, "output": "Never."}]
    found = tokenize(request_of(rows, max_length=100), template, no_progress)
    assert (found.dropped_rows, len(found.train)) == (1, len(PAIRS))
    assert [code for code, _text in found.notes] == ["rows-cut", "rows-dropped"]
    assert NO_EVALUATION not in found.notes


def test_evaluation_rows_without_a_trained_token_are_told(request_of, template, monkeypatch):
    from modelforge.modeling.tokenize import dataset

    rows = [*PAIRS, {"input": "Tell all. " * 60, "output": "Never."}]
    request = request_of(rows, max_length=100, eval_split=0.1)
    monkeypatch.setattr(dataset, "_split", lambda *_: (len(PAIRS), {len(PAIRS)}))
    found = dataset.tokenize(request, template, no_progress)
    assert found.eval is None
    assert dataset.NO_EVALUATION in found.notes


def test_no_row_with_a_trained_token_is_an_error_with_a_reason(request_of, template):
    from modelforge.modeling.errors import WorkerError
    from modelforge.modeling.tokenize.dataset import tokenize

    with pytest.raises(WorkerError, match="None of the 16 training rows") as caught:
        tokenize(request_of(PAIRS, max_length=4), template, no_progress)
    assert caught.value.cause == "nothing-to-learn"


def test_a_source_for_evaluation_takes_the_place_of_the_split(request_of, template, tokenizer):
    from modelforge.modeling.tokenize.dataset import tokenize

    request = request_of(PAIRS, eval_split=0.25, keep_eval_rows=20)
    record = request.dataset
    entry = {name: record[name] for name in ("sha256", "rows", "mapping")}
    entry["files"] = [record["path"]]
    request.dataset.clear()
    request.dataset.update(sources=[entry], validation=[entry])
    found = tokenize(request, template, no_progress)
    assert inputs(found.train, tokenizer) == inputs(found.eval, tokenizer)
    assert len(found.train) == len(found.eval_rows) == len(PAIRS)


def test_the_sample_of_evaluation_rows_is_bounded_and_held_out(request_of, template):
    from modelforge.modeling.tokenize.dataset import tokenize

    few, all_of_them = (
        tokenize(
            request_of(PAIRS, eval_split=0.5, keep_eval_rows=size), template, no_progress
        ).eval_rows
        for size in (3, 100)
    )
    assert (len(few), len(all_of_them)) == (3, 8)
    assert all(row in all_of_them for row in few)


def test_a_sample_is_even():
    from modelforge.modeling.tokenize.dataset import ReservoirSample

    taken = [0] * 10
    for seed in range(3000):
        sample = ReservoirSample(4, seed)
        for number in range(10):
            sample.add({"number": number})
        assert len(sample.rows) == 4
        for row in sample.rows:
            taken[row["number"]] += 1
    assert all(1200 - 130 < count < 1200 + 130 for count in taken), taken


def test_the_same_seed_takes_the_same_sample():
    from modelforge.modeling.tokenize.dataset import ReservoirSample

    def taken(seed: int) -> list[int]:
        sample = ReservoirSample(5, seed)
        for number in range(100):
            sample.add({"number": number})
        return [row["number"] for row in sample.rows]

    assert taken(7) == taken(7) != taken(8)


def test_progress_is_throttled_and_ends_complete(request_of, template, monkeypatch):
    from modelforge.modeling.tokenize import dataset

    clock = iter(range(1000, 100_000))
    monkeypatch.setattr(dataset.time, "monotonic", lambda: next(clock) * 0.1)
    reports: list[tuple[int, int]] = []
    list(dataset.iter_split_rows(request_of(PAIRS), lambda *pair: reports.append(pair)))
    done = [count for count, _total in reports]
    assert done == [1, 4, 7, 10, 13, 16]
    assert {total for _count, total in reports} == {16}


def test_changed_files_are_named_and_missing_ones_are_not(request_of, tmp_path):
    from modelforge.modeling.tokenize.dataset import changed_files

    record = request_of(PAIRS).dataset
    assert changed_files(record) == []
    entry = {"files": [record["path"]], "sha256": "0" * 64, "rows": 16, "mapping": {}}
    other = tmp_path / "other.jsonl"
    other.write_text("{}\n")
    two = {**entry, "files": [record["path"], str(other)]}
    gone = {**entry, "files": [str(tmp_path / "gone.jsonl")]}
    unknown = {**entry, "sha256": None}
    sources = {"sources": [entry, gone, unknown], "validation": [two]}
    assert changed_files(sources) == [Path(record["path"]).name, Path(record["path"]).parent.name]
