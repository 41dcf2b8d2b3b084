"""The starter's tokenizer, and models of the table's types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.export.cases import make_model


@pytest.fixture(scope="session")
def tokenizer(starter_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(starter_folder)


@pytest.fixture
def model_of(tokenizer: Any, tmp_path: Path) -> Any:
    """Make the model of a case; return it and its folder."""

    def make(case: str, **settings: Any) -> tuple[Any, Path]:
        folder = tmp_path / case
        return make_model(case, folder, tokenizer, **settings), folder

    return make
