"""Columns that are not used although they hold a part of the question or the answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize

CHAT = [{"role": "user", "content": "How high?"}, {"role": "assistant", "content": "12 metres."}]
PAIR = {"prompt": "How high is the oak?", "completion": "It is 12 metres high."}
LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "prompt": ({"instruction": "Translate.", "prompt": "the oak", "output": "die Eiche"}, "prompt"),
    "question": ({"instruction": "Be brief.", "question": "oak?", "answer": "Tree."}, "question"),
    "reasoning": (PAIR | {"reasoning": "I measured."}, "reasoning"),
    "context": ({"messages": CHAT, "context": "The oak is 12 metres high."}, "context"),
    "long text": (
        PAIR | {"passage_1": "The oak by the river is the highest tree of the whole land {n}."},
        "passage_1",
    ),
}
FINE: dict[str, dict[str, Any]] = {
    "metadata": PAIR | {"id": "a1", "category": "open_qa", "source": "wiki", "score": 3},
    "copy as text": PAIR | {"text": "Question: How high is the oak? Answer: It is 12 metres high."},
    "copy of the question": {"prompt": "How high?", "messages": CHAT},
    "empty": PAIR | {"context": "", "reasoning": None},
}


def write(tmp_path: Path, row: dict[str, Any]) -> Path:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(row).replace("{n}", str(number)) for number in range(12)]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_column_with_text_that_is_left_out_is_named_in_check_and_summary(
    tmp_path: Path, name: str
) -> None:
    row, column = LEFT_OUT[name]
    path = write(tmp_path, row)
    for findings in (check_file(path).findings, summarize(path).findings):
        (found,) = [each for each in findings if each.code == "unused-columns"]
        assert found.level == "caution"
        assert f"The column {column} is not used" in found.what


@pytest.mark.parametrize("name", FINE)
def test_columns_without_new_text_are_not_named(tmp_path: Path, name: str) -> None:
    codes = {each.code for each in check_file(write(tmp_path, FINE[name])).findings}
    assert "unused-columns" not in codes


@pytest.mark.parametrize("column", ["images", "videos", "audios"])
def test_media_columns_are_named(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, PAIR | {"prompt": "<image>What is it?", column: ["oak.png"]})
    for findings in (check_file(path).findings, summarize(path).findings):
        assert [each.code for each in findings if each.code == "media-columns"]
    assert not summarize(write(tmp_path, PAIR | {column: []})).findings[1:]


HISTORY = [["What is it?", "An oak."]]
BY_HAND: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "instruction": (
        {"frage": "How high?", "antwort": "12 m.", "history": HISTORY, "system": "Be brief."},
        {"instruction_field": "frage", "output_field": "antwort"},
        ["Be brief.", "What is it?", "An oak.", "How high?", "12 m."],
    ),
    "preference": (
        {"frage": "How high?", "gut": "12 m.", "schlecht": "No.", "history": HISTORY},
        {"prompt_field": "frage", "chosen_field": "gut", "rejected_field": "schlecht"},
        ["What is it?", "An oak.", "How high?"],
    ),
    "conversation": (
        {"chat": CHAT, "system_prompt": "Be brief."},
        {"type": "conversation", "messages_field": "chat"},
        ["Be brief.", "How high?", "12 metres."],
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_history_and_system_message_are_used_with_columns_mapped_by_hand(
    tmp_path: Path, name: str
) -> None:
    row, fields, wanted = BY_HAND[name]
    path = write(tmp_path, row)
    (example, *_) = summarize(path, source=Source(path=str(path), **fields)).examples
    messages = example.get("messages") or example["prompt"]
    assert [message["content"] for message in messages] == wanted


def test_an_input_that_is_not_mapped_by_hand_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {"frage": "High?", "antwort": "12 m.", "input": "The oak of Bonn."})
    source = Source(path=str(path), instruction_field="frage", output_field="antwort")
    for findings in (check_file(path, source).findings, summarize(path, source=source).findings):
        (found,) = [each for each in findings if each.code == "unused-columns"]
        assert "The column input is not used" in found.what
