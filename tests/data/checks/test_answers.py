"""Findings about weights, reasoning, special tokens, placeholders and lists in rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelforge.data.canonical.convert import read_canonical
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.formats.read import read_rows
from modelforge.data.repair.copy import repair_file
from modelforge.paths import Home

ASK = {"role": "user", "content": "oak?"}


def answer(text: str = "Yes, it is.", **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **keys}


def pair(text: str, prompt: str = "oak?") -> dict[str, Any]:
    return {"instruction": prompt, "output": text}


SHOWN: dict[str, tuple[dict[str, Any], str]] = {
    "OpenAI": ({"messages": [ASK, answer(weight=0), ASK, answer()]}, "untrained-answers"),
    "ms-swift": ({"messages": [ASK, answer(loss=False), ASK, answer()]}, "untrained-answers"),
    "Axolotl": ({"messages": [ASK, answer(train=False), ASK, answer()]}, "untrained-answers"),
    "LLaMA-Factory": (
        {"messages": [ASK, answer(loss_weight=0.0), ASK, answer()]},
        "untrained-answers",
    ),
    "half": ({"messages": [ASK, answer(loss_weight=0.5)]}, "fractional-weight"),
    "reasoning": ({"messages": [ASK, answer(reasoning_content="I think.")]}, "reasoning"),
    "reasoning of a pair": (
        {"prompt": "oak?", "chosen": [answer(reasoning="I think.")], "rejected": [answer("No.")]},
        "reasoning",
    ),
    "ChatML end": (pair("It is oak.<|im_end|>"), "end-token-in-answer"),
    "Llama 3 end": (pair("It is oak.<|eot_id|>\n"), "end-token-in-answer"),
    "Llama 2 end": (pair("It is oak. </s>"), "end-token-in-answer"),
    "Gemma end": (pair("It is oak.<end_of_turn>"), "end-token-in-answer"),
    "roles in a question": (
        pair("It is oak.", "What is <|im_end|>\n<|im_start|>assistant\nNo?"),
        "special-tokens",
    ),
    "[INST] in a question": (pair("It is oak.", "[INST] oak? [/INST]"), "special-tokens"),
    "{{name}}": (pair("Dear {{name}}, it is oak."), "placeholder"),
    "[Your Name]": (pair("It is oak.\nRegards,\n[Your Name]"), "placeholder"),
    "list": (pair("['It is oak']"), "list-as-text"),
}


def write(tmp_path: Path, row: dict[str, Any], rows: int = 12) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_text((json.dumps(row) + "\n") * rows)
    return path


@pytest.mark.parametrize("name", SHOWN)
def test_each_is_found_by_the_check_and_shown_in_the_plan(tmp_path: Path, name: str) -> None:
    row, code = SHOWN[name]
    path = write(tmp_path, row)
    assert code in {each.code for each in check_file(path).findings}
    assert code in {each.code for each in summarize(path).findings}


@pytest.mark.parametrize(
    "text",
    ["Use a < b and b > c.", "<s>old</s> text", "def f(): return [x]", '["a", "b"]', "a[0] {x}"],
)
def test_ordinary_answers_have_no_such_finding(tmp_path: Path, text: str) -> None:
    found = {each.code for each in check_file(write(tmp_path, pair(text))).findings}
    assert not found & {code for _, code in SHOWN.values()}


def test_a_row_whose_answers_all_have_the_weight_0_is_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, {"messages": [ASK, answer(weight=0)]})
    codes = {each.code for each in check_file(path).findings}
    assert {"all-untrained", "no-usable-row"} <= codes


def test_text_with_a_template_of_its_own_is_only_noted(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": "<|im_start|>user\noak?<|im_end|>\n"})
    (found,) = [each for each in check_file(path).findings if "token" in each.what]
    assert (found.code, found.level) == ("template-in-text", "note")


@pytest.mark.parametrize(
    ("text", "code", "wanted"),
    [
        ("It is oak.<|im_end|>", "end-token-in-answer", "It is oak."),
        ("['It is oak']", "list-as-text", "It is oak"),
        ("page one oak\fpage two", "control-characters", "page one oak\npage two"),
        ("one\x85two\x07three \x07four", "control-characters", "one\ntwo three four"),
    ],
)
def test_repair_keeps_the_words_apart(tmp_path: Path, text: str, code: str, wanted: str) -> None:
    repaired = repair_file(write(tmp_path, pair(text)), Home(tmp_path / "home"), [code])
    assert {row.data["output"] for row in read_rows(repaired.path)} == {wanted}


def test_a_row_with_several_control_characters_counts_once(tmp_path: Path) -> None:
    path = write(tmp_path, pair("one\fpage\x85two", "a\vb"))
    (found,) = [each for each in check_file(path).findings if each.code == "control-characters"]
    assert (found.count, [line for line, _ in found.places]) == (12, [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "image-content"),
        ({"type": "chapter", "body": "x"}, "not-text"),
        ({"type": "text", "content": "oak?"}, None),
        ({"type": "text", "value": "oak?"}, None),
    ],
)
def test_parts_of_a_content_are_read_or_named_as_what_they_are(
    tmp_path: Path, part: dict[str, Any], code: str | None
) -> None:
    path = write(tmp_path, {"messages": [{"role": "user", "content": [part]}, answer()]})
    codes = {each.code for each in check_file(path).findings}
    assert codes & {"image-content", "not-text"} == ({code} if code else set())


def test_a_list_of_texts_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path, {"instruction": "oak?", "output": ["It is oak.", "That is oak."]})
    result = check_file(path)
    (found,) = [each for each in result.findings if each.code == "list-column"]
    assert result.blocked
    assert "set the row type to preference" in found.remedy


@pytest.mark.parametrize("as_map", [False, True])
def test_keys_that_only_the_schema_of_a_table_has_are_left_out(
    tmp_path: Path, as_map: bool
) -> None:
    """Arrow fills the arguments of each call with null for those that other calls have."""
    calls = [{"place": "oak"}, {"tree": "elm"}]
    kind = pa.map_(pa.string(), pa.string()) if as_map else None
    arguments = pa.array([list(call.items()) if as_map else call for call in calls], kind)
    call = pa.StructArray.from_arrays([pa.array(["look"] * 2), arguments], ["name", "arguments"])
    calls_of_rows = pa.ListArray.from_arrays([0, 1, 2], call)
    message = pa.StructArray.from_arrays(
        [pa.array(["assistant"] * 2), pa.array([None, None], pa.string()), calls_of_rows],
        ["role", "content", "tool_calls"],
    )
    table = pa.table({"messages": pa.ListArray.from_arrays([0, 1, 2], message)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    mapping = summarize(path).mapping
    made = [row["messages"][0]["tool_calls"] for row in read_canonical(path, mapping)]
    assert [each[0]["function"]["arguments"] for each in made] == calls
