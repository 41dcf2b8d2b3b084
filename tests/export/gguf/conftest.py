"""Small models with a small vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.export.cases import small_tokenizer


@pytest.fixture(scope="session")
def tokenizer(starter_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return small_tokenizer(AutoTokenizer.from_pretrained(starter_folder))
