"""The examples of docs/data-formats.md are read as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.canonical.cells import REASONING_KEYS, WEIGHT_KEYS
from modelforge.data.checks.rules import RULES
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.columns.names import (
    COMPLETION_COLUMNS,
    HISTORY_COLUMNS,
    KIND_TEXTS,
    LABEL_COLUMNS,
    MESSAGES_COLUMNS,
    PREFERENCE_COLUMNS,
    PROMPT_COLUMNS,
    SYSTEM_COLUMNS,
    TOOLS_COLUMNS,
)
from modelforge.data.formats.sniff import SUFFIXES

PAGE = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text("utf-8")
_BLOCK = re.compile(
    r"Kind: ([\w ]+?)(?:\. Also named: ([\w -]+))?(?:\. With: (\w+=\w+))?\n\n"
    r'```\w+ title="([\w. -]+)"\n(.*?)```',
    re.DOTALL,
)
# About how a file is written, not about what is learned.
ABOUT_FILES = {"few-rows", "line-breaks-in-cells", "other-delimiter"}


class Example(NamedTuple):
    kind: str
    named: str
    setting: str
    file: str
    content: str


EXAMPLES = [Example(*found) for found in _BLOCK.findall(PAGE)]


def test_every_block_of_the_page_is_an_example() -> None:
    assert len(EXAMPLES) == PAGE.count("```") / 2
    assert len({example.file for example in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.file)
def test_an_example_is_read_as_the_page_says(tmp_path: Path, example: Example) -> None:
    path = tmp_path / example.file
    path.write_text(example.content, "utf-8")
    setting, _, value = example.setting.partition("=")
    source = Source(path=str(path), **({setting: value} if setting else {}))
    summary = summarize(path, source=source)
    assert KIND_TEXTS[summary.mapping.kind] == example.kind
    assert not summary.skipped
    found = {each.code for each in check_file(path, source).findings} - ABOUT_FILES
    assert found == set(example.named.split())


def test_the_page_has_every_kind_and_every_known_name() -> None:
    assert {example.kind for example in EXAMPLES} == set(KIND_TEXTS.values())
    names = {*PROMPT_COLUMNS, *COMPLETION_COLUMNS, *MESSAGES_COLUMNS, *SYSTEM_COLUMNS}
    names |= {*HISTORY_COLUMNS, *LABEL_COLUMNS, *TOOLS_COLUMNS, *REASONING_KEYS, *WEIGHT_KEYS}
    names |= {name for pair in PREFERENCE_COLUMNS for name in pair}
    page = PAGE.lower()  # as columns are compared
    missing = {name for name in names if f"`{name}`" not in page and f'"{name}"' not in page}
    assert not missing
    assert not {suffix for suffix in SUFFIXES if f"`{suffix}`" not in PAGE}


def test_the_codes_that_the_page_names_exist() -> None:
    others = {"unused-columns", "unread-rows", "message-tree", "chat-export"}
    named = {code for example in EXAMPLES for code in example.named.split()}
    assert named <= RULES.keys() | others
