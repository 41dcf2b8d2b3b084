"""The rows that are held out for evaluation."""

from __future__ import annotations

import pytest

from modelforge.data.canonical.convert import to_canonical
from modelforge.data.checks.summary import summarize
from modelforge.data.sources.split import split_indices
from tests.train.conftest import PAIRS

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("seed", [1, 2])
def test_the_evaluation_rows_are_those_of_the_split_with_the_seed(write_rows, seed):
    from modelforge.modeling.tokenize.dataset import DatasetRequest, iter_split_rows

    path = write_rows(PAIRS)
    first = summarize(path)
    record = {
        "path": str(path),
        "sha256": first.sha256,
        "rows": first.rows,
        "mapping": first.mapping.as_dict(),
    }
    request = DatasetRequest(record, 0.25, seed, options=None)
    held_out = [is_eval for _row, is_eval in iter_split_rows(request, lambda _done, _total: None)]
    rows = [to_canonical(row, first.mapping) for row in PAIRS]
    _train, evaluation = split_indices(rows, 0.25, seed)
    assert [index for index, is_eval in enumerate(held_out) if is_eval] == evaluation
    assert len(evaluation) == 4
