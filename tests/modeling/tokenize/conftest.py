"""The starter's tokenizer and chat template, and requests for the rows of a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.data.checks.summary import summarize


@pytest.fixture(scope="session")
def loaded_tokenizer(starter_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(starter_folder)


@pytest.fixture
def tokenizer(loaded_tokenizer) -> Any:
    """The tokenizer; a test may give it another chat template."""
    own = loaded_tokenizer.chat_template
    yield loaded_tokenizer
    loaded_tokenizer.chat_template = own


@pytest.fixture
def template(tokenizer) -> Any:
    from modelforge.modeling.tokenize.template import load_chat_template

    return load_chat_template(tokenizer, (2,))


@pytest.fixture
def request_of(write_rows) -> Callable[..., Any]:
    """Write rows to a file and return the request to tokenize them."""
    from modelforge.modeling.tokenize.dataset import DatasetRequest
    from modelforge.modeling.tokenize.options import TokenizeOptions

    def make(
        rows: list[dict[str, Any]],
        *,
        eval_split: float = 0.0,
        seed: int = 1,
        keep_eval_rows: int = 0,
        **options: Any,
    ) -> DatasetRequest:
        path = write_rows(rows)
        first = summarize(path)
        record = {
            "path": str(path),
            "sha256": first.sha256,
            "rows": first.rows,
            "mapping": first.mapping.as_dict(),
        }
        chosen = TokenizeOptions(**{"max_length": 512, **options})
        return DatasetRequest(record, eval_split, seed, chosen, keep_eval_rows)

    return make


def no_progress(_done: int, _total: int) -> None:
    """Take reports of progress and do nothing."""
