"""The lengths of the rows that the compared programs train, as the page states them."""

from __future__ import annotations

import sys

import pytest
from jinja2 import Template
from tokenizers import Tokenizer

from tests.conftest import ROOT


@pytest.fixture
def short_rows(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    before = set(sys.modules)
    import short_rows

    yield short_rows
    for name in set(sys.modules) - before:
        if str(ROOT / "bench") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.torch
def test_the_rows_are_as_long_as_is_said(short_rows, starter_folder) -> None:
    tokenizer = Tokenizer.from_file(str(starter_folder / "tokenizer.json"))
    template = Template(short_rows.TEMPLATE)
    lengths = []
    for question, answer in short_rows.pairs():
        messages = [
            {"role": "user", "content": question}, {"role": "assistant", "content": answer}
        ]  # fmt: skip
        text = template.render(messages=messages)
        lengths.append(len(tokenizer.encode(text, add_special_tokens=False).ids))
    said = f"{min(lengths)} to {max(lengths)} tokens, {sum(lengths) / len(lengths):.0f} on average"
    assert said == short_rows.LENGTHS
