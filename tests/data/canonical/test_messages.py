import json
from pathlib import Path

import pytest

from modelforge.data.canonical.convert import (
    fingerprint,
    read_canonical,
    to_canonical,
)
from modelforge.data.canonical.messages import UnusableRowError
from modelforge.data.columns.detect import detect_mapping
from modelforge.data.columns.mapping import ColumnMapping

PAIR = ColumnMapping("pair", {"prompt": "input", "answer": "output"})
CHAT = ColumnMapping("messages", {"messages": "messages"})


def turns(*pairs: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def cause(row: dict[str, object], mapping: ColumnMapping) -> str:
    with pytest.raises(UnusableRowError) as caught:
        to_canonical(row, mapping)
    return caught.value.code


def test_a_pair_becomes_two_messages() -> None:
    assert to_canonical({"input": "Hi", "output": "Ho"}, PAIR) == turns(
        ("user", "Hi"), ("assistant", "Ho")
    )


def test_an_instruction_includes_its_input() -> None:
    row = {"instruction": "Add", "input": "1, 2", "output": 3, "system": "Be brief."}
    mapping = detect_mapping([row])
    assert to_canonical(row, mapping) == turns(
        ("system", "Be brief."), ("user", "Add\n\n1, 2"), ("assistant", "3")
    )
    bare = {**row, "input": " ", "system": None}
    assert to_canonical(bare, mapping) == turns(("user", "Add"), ("assistant", "3"))


def test_text_stays_text() -> None:
    assert to_canonical({"text": " a "}, ColumnMapping("text", {"text": "text"})) == {"text": " a "}


def test_a_conversation_in_a_cell_of_a_table_is_read() -> None:
    row = turns(("user", "Hi"), ("assistant", "Ho"))
    assert to_canonical({"messages": json.dumps(row["messages"])}, CHAT) == row


def test_text_parts_are_joined_and_other_keys_dropped() -> None:
    row = turns(("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]))
    row["messages"].append({"role": "assistant", "content": "c", "name": "x"})  # type: ignore[attr-defined]
    assert to_canonical(row, CHAT) == turns(("user", "ab"), ("assistant", "c"))


PAIRS = {
    "empty-answer": {"input": "a", "output": " \n"},
    "empty-question": {"input": None, "output": "b"},
    "missing-field": {"input": "a"},
    "not-text": {"input": "a", "output": {"b": 1}},
}


@pytest.mark.parametrize("code", PAIRS)
def test_an_unusable_pair_has_a_code(code: str) -> None:
    assert cause(PAIRS[code], PAIR) == code


CHATS = [
    ("unknown-role", turns(("user", "a"), ("narrator", "b"))),
    ("no-assistant-message", turns(("system", "a"), ("user", "b"))),
    ("empty-answer", turns(("user", "a"), ("assistant", ""))),
    ("empty-answer", turns(("user", "a"), ("assistant", None))),
    ("not-text", turns(("user", [{"type": "image_url", "image_url": "x"}]), ("assistant", "b"))),
    ("bad-messages", {"messages": []}),
    ("bad-messages", {"messages": "hello"}),
    ("bad-messages", {"messages": [{"content": "a"}]}),
    ("bad-messages", {"messages": ["a"]}),
    ("unknown-role", {"messages": [{"role": ["user"], "content": "a"}]}),
]


@pytest.mark.parametrize(("code", "row"), CHATS)
def test_an_unusable_conversation_has_a_code(code: str, row: dict[str, object]) -> None:
    assert cause(row, CHAT) == code


def test_fingerprints_ignore_outer_white_space_but_not_roles() -> None:
    one = turns(("user", "a "), ("assistant", "b\n"))
    assert fingerprint(one) == fingerprint(turns(("user", "a"), ("assistant", "b")))
    assert fingerprint(one) != fingerprint(turns(("system", "a"), ("assistant", "b")))


def test_iterating_skips_unusable_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("input,output\na,b\nc,\nd,e\n")
    contents = [row["messages"][0]["content"] for row in read_canonical(path, PAIR)]
    assert contents == ["a", "d"]
