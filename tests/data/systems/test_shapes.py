"""Unseen variations of the shapes of other systems, and what is wrong with them, row by row."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import to_canonical
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.columns.detect import detect_mapping
from modelforge.data.formats.read import read_rows
from modelforge.errors import DataError

Data = dict[str, Any]
ASK = {"role": "user", "content": "oak?"}
YES = {"role": "assistant", "content": "Yes."}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"tree": "oak"}}}


def write(tmp_path: Path, rows: list[Any], name: str = "a.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(row: Data, **source: Any) -> Data:
    """Return a row as it is trained."""
    return to_canonical(row, detect_mapping([row], source=Source(path="a", **source)))


def found(path: Path, source: Source | None = None) -> dict[str, list[tuple[int | None, Any]]]:
    """Return the places of each finding about rows that are skipped or about the whole file."""
    findings = check_file(path, source).findings
    return {each.code: sorted(each.places, key=str) for each in findings if each.code != "few-rows"}


def gemini(*contents: Data, **more: Any) -> Data:
    return {"contents": list(contents), **more}


def said(role: str, *parts: Any) -> Data:
    return {
        "role": role,
        "parts": [{"text": part} if type(part) is str else part for part in parts],
    }


GEMINI = {
    "no system instruction": (gemini(said("user", "oak?"), said("model", "Yes.")), [ASK, YES]),
    "parts are joined": (gemini(said("user", "oa", "k?"), said("model", "Y", "es.")), [ASK, YES]),
    "snake case": (
        gemini(said("user", "oak?"), said("model", "Yes."), system_instruction=said("", "Hi")),
        [{"role": "system", "content": "Hi"}, ASK, YES],
    ),
    "system as text": (
        gemini(said("user", "oak?"), said("model", "Yes."), systemInstruction="Hi"),
        [{"role": "system", "content": "Hi"}, ASK, YES],
    ),
    "thoughts": (
        gemini(said("user", "oak?"), said("model", {"text": "Hm.", "thought": True}, "Yes.")),
        [ASK, YES | {"reasoning_content": "Hm."}],
    ),
    "keys with null": (
        gemini(
            said("user", {"text": "oak?", "functionResponse": None}),
            said("model", {"text": "Yes.", "functionCall": None, "thought": None}),
        ),
        [ASK, YES],
    ),
    "a call without arguments beside a text": (
        gemini(said("user", "oak?"), said("model", "Yes.", {"functionCall": {"name": "look"}})),
        [ASK, YES | {"tool_calls": [{"type": "function", "function": {"name": "look",
                                                                    "arguments": {}}}]}],
    ),
    "a result of the role function": (
        gemini(
            said("user", "oak?"),
            said("model", {"function_call": {"name": "look", "args": {"tree": "oak"}}}),
            said("function", {"function_response": {"name": "look", "response": {"high": 1}}}),
            said("model", "Yes."),
        ),
        [
            ASK,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": '{"high":1}', "name": "look"},
            YES,
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GEMINI)
def test_contents_of_gemini_are_messages(name: str) -> None:
    row, wanted = GEMINI[name]
    assert read(row)["messages"] == wanted


def test_a_column_of_contents_with_texts_is_not_a_conversation() -> None:
    row = {"contents": "All about oaks.", "text": "The oak."}
    assert detect_mapping([row]).kind == "text"
    with pytest.raises(DataError, match="only the column contents"):
        detect_mapping([{"contents": "All about oaks."}])


USED = {"toolUse": {"toolUseId": "1", "name": "look", "input": {"tree": "oak"}}}
RESULT = {"toolResult": {"toolUseId": "1", "content": [{"json": {"high": 1}}]}}
TOOL_RESULT = {"role": "tool", "content": '{"high":1}', "tool_call_id": "1"}
USED_CALL = CALL | {"id": "1"}
ANTHROPIC_USE = {"type": "tool_use", "id": "1", "name": "look", "input": {"tree": "oak"}}
ANTHROPIC_RESULT = {"type": "tool_result", "tool_use_id": "1", "content": '{"high":1}'}
BEDROCK = {
    "Bedrock": (USED, RESULT, {"reasoningContent": {"reasoningText": {"text": "Hm."}}}),
    "Anthropic": (ANTHROPIC_USE, ANTHROPIC_RESULT, {"type": "thinking", "thinking": "Hm."}),
}


@pytest.mark.parametrize("name", BEDROCK)
def test_calls_results_and_reasoning_in_content_lists_are_read(name: str) -> None:
    use, result, reasoning = BEDROCK[name]
    messages = [
        {"role": "user", "content": [{"text": "oak?"}]},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result, {"text": "And?"}]},
        {"role": "assistant", "content": [reasoning, {"text": "Yes."}]},
    ]
    assert read({"messages": messages})["messages"] == [
        ASK,
        {"role": "assistant", "content": "", "tool_calls": [USED_CALL]},
        TOOL_RESULT,
        {"role": "user", "content": "And?"},
        YES | {"reasoning_content": "Hm."},
    ]


FUNCTION = {"name": "look", "parameters": {"type": "object"}}
TOOLS = {
    "Gemini": {"tools": [{"function_declarations": [FUNCTION]}], "toolConfig": {"x": 1}},
    "Bedrock": {
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}],
            "toolChoice": {"auto": {}},
        }
    },
    "Anthropic": {"tools": [{"name": "look", "input_schema": {"type": "object"}}]},
    "JSON text": {"tools": json.dumps([{"functionDeclarations": [FUNCTION]}])},
}


@pytest.mark.parametrize("name", TOOLS)
def test_tools_of_other_systems_are_functions(name: str) -> None:
    row = {"messages": [ASK, YES], **TOOLS[name]}
    assert read(row)["tools"] == [{"type": "function", "function": FUNCTION}]


def test_how_tools_are_called_is_no_tool() -> None:
    row = {"messages": [ASK, YES], "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}}
    assert "tools" not in read(row)


def test_a_system_list_of_bedrock_is_joined_and_one_with_an_image_is_named(tmp_path: Path) -> None:
    good = {"system": [{"text": "Be "}, {"text": "kind."}], "messages": [ASK, YES]}
    assert read(good)["messages"][0] == {"role": "system", "content": "Be kind."}
    path = write(tmp_path, [good, good | {"system": [{"image": {"format": "png"}}]}])
    assert found(path)["not-text"] == [(2, None)]


@pytest.mark.parametrize("key", ["parts", "tools", "functionDeclarations", "replies", "toolUse"])
def test_deep_nesting_is_named_and_breaks_nothing(tmp_path: Path, key: str) -> None:
    good = {"system": "a", "tools": [], "messages": [ASK, YES]}
    lines = [json.dumps(good)]
    for start in (f'{{"{key}": ', f'[{{"{key}": '):
        end = "}" if start[0] == "{" else "}]"
        deep = f"{start * 400}1{end * 400}"
        lines += [
            f'{{"system": {deep}, "messages": [{json.dumps(ASK)}, {json.dumps(YES)}]}}',
            f'{{"tools": {deep}, "messages": [{json.dumps(ASK)}, {json.dumps(YES)}]}}',
            f'{{"messages": [{json.dumps(ASK)}, {{"role": "assistant", "content": {deep}}}]}}',
        ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    summary = summarize(path)
    assert summary.rows + summary.skipped == len(lines)
    assert check_file(path).stats.rows == summary.rows


@pytest.mark.parametrize("system", [[], None, {"parts": []}, {"parts": [{"text": " "}]}, ""])
def test_an_empty_system_message_is_none(system: Any) -> None:
    assert read({"system": system, "messages": [ASK, YES]})["messages"] == [ASK, YES]


@pytest.mark.parametrize("text", ['["a", "b"]', '{"text": "a"}', "[INST] a", "[]", "{}"])
def test_a_system_message_that_looks_like_data_stays_text(text: str) -> None:
    row = {"system": text, "messages": [ASK, YES]}
    assert read(row)["messages"][0]["content"] == text


def test_a_prompt_that_ends_with_an_answer_is_named(tmp_path: Path) -> None:
    pair = {"chosen": YES, "rejected": {"role": "assistant", "content": "No."}}
    rows = [{"conversations": [ASK], **pair}, {"conversations": [ASK, YES], **pair}]
    codes = found(write(tmp_path, rows))
    assert codes["consecutive-assistant-messages"] == [(2, "conversations")]


def test_names_of_vertex_are_read() -> None:
    for prompt, answer in (("input_text", "output_text"), ("text_input", "output")):
        assert read({prompt: "oak?", answer: "Yes."})["messages"] == [ASK, YES]


def test_a_file_with_one_row_is_a_row_and_no_list_of_rows(tmp_path: Path) -> None:
    rows = (
        gemini(said("user", "oak?"), said("model", "Yes.")),
        {"segments": [{"label": True, "text": "oak"}]},
    )
    for number, row in enumerate(rows):
        assert summarize(write(tmp_path, [row], f"{number}.json")).rows == 1


BAD_GEMINI = {
    "unknown-role": (gemini(said("user", "oak?"), said("wizard", "Yes.")), "message 2"),
    "image-content": (
        gemini(said("user", {"inlineData": {"mimeType": "image/png"}}), said("model", "Yes.")),
        "message 1",
    ),
    "bad-tool-call": (gemini(said("user", "oak?"), said("model", {"functionCall": "look"})), None),
    "bad-messages": (gemini(said("user", "oak?"), "Yes."), "message 2"),
    "no-assistant-message": (gemini(said("user", "oak?")), "contents"),
}


@pytest.mark.parametrize("code", BAD_GEMINI)
def test_a_bad_row_of_gemini_is_named_with_its_line(tmp_path: Path, code: str) -> None:
    good = gemini(said("user", "oak?"), said("model", "Yes."))
    bad, place = BAD_GEMINI[code]
    path = write(tmp_path, [good, bad, good])
    assert found(path)[code][0][0] == 2
    if place and code != "no-assistant-message":
        assert found(path)[code] == [(2, place)]
    assert summarize(path).rows == 2


WEIGHTS = [
    *((weight, "bad-weight") for weight in (2, -1, "much", "NaN", [1])),
    *((weight, "untrained-answers") for weight in (0, "0", False, "false")),
    *((weight, None) for weight in (1, 1.0, "1", True, "", None)),
    (0.5, "fractional-weight"),
]


@pytest.mark.parametrize(("weight", "code"), WEIGHTS, ids=repr)
def test_weights_of_openai_are_from_0_to_1(tmp_path: Path, weight: Any, code: str | None) -> None:
    weighted = YES | {"weight": weight}
    path = write(tmp_path, [{"messages": [ASK, YES]}, {"messages": [ASK, weighted, ASK, YES]}])
    codes = found(path)
    known = {"bad-weight", "untrained-answers", "fractional-weight"}
    assert codes.keys() & known == ({code} if code else set())
    assert summarize(path).rows == (1 if code == "bad-weight" else 2)
    if code == "bad-weight":
        assert codes[code] == [(2, "message 2")]


def test_a_loss_weight_of_another_system_may_be_above_1_and_not_below_0(tmp_path: Path) -> None:
    rows = [{"messages": [ASK, YES | {"loss_weight": weight}]} for weight in (1, 3, -3)]
    codes = found(write(tmp_path, rows))
    assert codes["fractional-weight"] == [(2, None)]
    assert codes["bad-weight"] == [(3, "message 2")]


SEGMENTS = {
    "numbers": [{"label": 1, "text": "a"}, {"label": 0, "text": "b"}],
    "texts": [{"label": "True", "text": "a"}, {"label": "false", "text": "b"}],
    "an empty text": [{"label": False, "text": ""}, {"label": True, "text": "a"},
                      {"label": False, "text": "b"}],
}  # fmt: skip


@pytest.mark.parametrize("name", SEGMENTS)
def test_labels_of_segments_are_read_in_every_spelling(name: str) -> None:
    for value in (SEGMENTS[name], json.dumps(SEGMENTS[name])):
        assert read({"segments": value}) == {
            "text": "ab",
            "segments": [[0, 1, True], [1, 2, False]],
        }


def test_segments_of_another_column_are_read_if_it_is_set_by_hand() -> None:
    row = {"parts": SEGMENTS["numbers"], "note": "ab"}
    assert read(row, text_field="parts")["segments"] == [[0, 1, True], [1, 2, False]]


BAD_SEGMENTS = {
    "bad-segments": ([{"label": True, "text": "a"}, {"text": "b"}], "segment 2"),
    "no-trained-segment": ([{"label": False, "text": "a"}], None),
    "empty-text": ([{"label": True, "text": " "}], None),
}


@pytest.mark.parametrize("code", BAD_SEGMENTS)
def test_a_row_with_bad_segments_is_named(tmp_path: Path, code: str) -> None:
    bad, place = BAD_SEGMENTS[code]
    path = write(tmp_path, [{"segments": SEGMENTS["numbers"]}, {"segments": bad}])
    assert found(path)[code] == [(2, place)]
    assert summarize(path).rows == 1


@pytest.mark.parametrize("value", [7, "a text", [], {"label": True}, [["a"]]])
def test_values_that_are_no_segments_are_named(tmp_path: Path, value: Any) -> None:
    rows = [{"segments": SEGMENTS["numbers"]}, {"segments": value}]
    codes = found(write(tmp_path, rows))
    assert codes.keys() & {"bad-segments", "unknown-columns"}


def test_segments_of_a_transcript_with_times_stay_beside_its_text() -> None:
    row = {"text": "The oak.", "segments": [{"start": 0.0, "end": 1.0, "text": "The oak."}]}
    assert detect_mapping([row]).kind == "text"


def test_rejected_responses_of_swift_are_one_text() -> None:
    row = {"messages": [ASK, YES], "rejected_response": ["No."]}
    assert read(row)["rejected"] == [{"role": "assistant", "content": "No."}]


def test_several_rejected_responses_are_named_and_not_lost(tmp_path: Path) -> None:
    good = {"messages": [ASK, YES], "rejected_response": "No."}
    path = write(tmp_path, [good, good | {"rejected_response": ["No.", "Never."]}, good])
    assert [line for places in found(path).values() for line, _ in places].count(2) == 1
    assert summarize(path).rows == 2


def test_the_key_of_a_label_may_be_text_and_another_value_is_named(tmp_path: Path) -> None:
    rows = [{"messages": [ASK, YES], "kto_tag": label} for label in ("true", "False", "maybe")]
    path = write(tmp_path, rows)
    with pytest.raises(DataError):
        summarize(path, source=Source(path="a", type="preference"))
    good = write(tmp_path, rows[:2], "b.jsonl")
    assert [row["label"] for row in summarize(good).examples] == [True, False]


def message(mark: str, parent: str | None = None, **more: Any) -> Data:
    role = "prompter" if mark[0] == "q" else "assistant"
    return {"message_id": mark, "parent_id": parent, "role": role, "text": mark} | more


PAIRS = Source(path="a", type="preference")


def pairs(path: Path) -> list[tuple[str, str, str]]:
    rows = summarize(path, source=PAIRS).examples
    return [
        tuple(" ".join(each["content"] for each in row[part]) for part in row)  # type: ignore[misc]
        for row in rows
    ]


def test_the_best_reply_is_chosen_over_each_of_worse_rank(tmp_path: Path) -> None:
    rows = [
        message("q1"),
        message("a1", "q1", rank=1),
        message("a2", "q1", rank=0),
        message("a3", "q1", rank=2.0),
        message("a4", "q1", rank=None),
        message("a5", "q1", rank=3, deleted=True),
        message("q2", "a2"),
        message("a6", "q2", rank=0),
        message("a7", "q2", rank=0),
        message("q3", "a1"),
        message("a8", "q3", rank="1"),
        message("a9", "q3", rank="0"),
    ]
    wanted = [("q1", "a2", "a1"), ("q1", "a2", "a3"), ("q1 a1 q3", "a9", "a8")]
    path = write(tmp_path, rows)
    assert pairs(path) == wanted
    assert found(path, PAIRS).keys() == {"message-tree", "deleted-message"}


def test_left_out_messages_of_pairs_are_named_with_their_lines(tmp_path: Path) -> None:
    rows = [
        message("q1"),
        message("a1", "q1", rank=0),
        message("a2", "q1", rank=1),
        message("a3", "q9", rank=1),
        message("q5", "a5"),
        message("a5", "q5"),
    ]
    codes = found(write(tmp_path, rows), PAIRS)
    assert codes["orphan-message"] == [(4, None)]
    assert codes["message-cycle"] == [(5, None), (6, None)]


def test_a_tree_without_ranks_is_refused_for_pairs(tmp_path: Path) -> None:
    path = write(tmp_path, [message("q1"), message("a1", "q1"), message("a2", "q1")])
    (only,) = check_file(path, PAIRS).findings
    assert (only.code, only.level, only.repair) == ("no-ranked-replies", "blocker", None)
    with pytest.raises(DataError, match="two replies of different rank"):
        summarize(path, source=PAIRS)
    assert summarize(path).rows == 2


def test_a_message_after_too_many_others_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelforge.data.formats.tree_nodes.MAX_DEPTH", 3)
    rows = [message("q1"), message("a1", "q1"), message("q2", "a1"), message("a2", "q2")]
    path = write(tmp_path, [*rows, message("q3", "a2")])
    assert found(path)["deep-message"] == [(4, None), (5, None)]
    assert [len(row["messages"]) for row in summarize(path).examples] == [2]


def turn(own: Any, parent: Any = None, **more: Any) -> Data:
    return {"id": own, "parent_id": parent, "prompt": f"q{own}", "completion": f"a{own}", **more}


def chains(path: Path, source: Source | None = None) -> list[str]:
    rows = summarize(path, source=source).examples
    return [" ".join(each["content"] for each in row["messages"]) for row in rows]


def test_rows_with_parent_ids_are_chains_in_any_order(tmp_path: Path) -> None:
    rows = [turn(3, 2.0), turn(1), turn(2, "1"), turn(4, 1), turn(5)]
    assert chains(write(tmp_path, rows)) == ["q1 a1 q2 a2 q3 a3", "q1 a1 q4 a4", "q5 a5"]


def test_the_system_message_of_a_chain_is_that_of_its_first_row(tmp_path: Path) -> None:
    rows = [turn(1, system="S1"), turn(2, 1, system="S2")]
    assert chains(write(tmp_path, rows)) == ["S1 q1 a1 q2 a2"]


def test_columns_of_chains_may_be_set_by_hand(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "parent_id": "", "frage": "q1", "antwort": "a1"},
        {"id": 2, "parent_id": 1, "frage": "q2", "antwort": "a2"},
    ]
    path = write(tmp_path, rows)
    with pytest.raises(DataError):
        summarize(path)
    names = {"instruction_field": "frage", "output_field": "antwort"}
    assert chains(path, Source(path="a", **names)) == ["q1 a1 q2 a2"]
    alone = Source(path="a", **names, unused_columns=["parent_id"])
    assert chains(path, alone) == ["q1 a1", "q2 a2"]


def test_columns_of_ids_may_be_set_by_hand(tmp_path: Path) -> None:
    rows = [
        {"nr": 1, "after": None, "prompt": "q1", "completion": "a1"},
        {"nr": 2, "after": 1, "prompt": "q2", "completion": "a2"},
    ]
    path = write(tmp_path, rows)
    assert chains(path) == ["q1 a1", "q2 a2"]
    source = Source(path="a", id_field="nr", parent_field="after")
    assert chains(path, source) == ["q1 a1 q2 a2"]
    assert "Not used" not in summarize(path, source=source).mapping.reason
    with pytest.raises(DataError, match="no column befor"):
        summarize(path, source=Source(path="a", id_field="nr", parent_field="befor"))


def test_columns_of_ids_in_a_message_tree_may_be_set_by_hand(tmp_path: Path) -> None:
    rows = [
        {"nr": 1, "after": None, "role": "user", "text": "q1"},
        {"nr": 2, "after": 1, "role": "assistant", "text": "a1", "rank": 1},
        {"nr": 3, "after": 1, "role": "assistant", "text": "a2", "rank": 0},
    ]
    path = write(tmp_path, rows)
    names = {"path": "a", "id_field": "nr", "parent_field": "after"}
    assert chains(path, Source(**names)) == ["q1 a2"]
    (pair,) = summarize(path, source=Source(type="preference", **names)).examples
    assert pair["rejected"][0]["content"] == "a1"


LEFT_OUT = {
    "orphan-message": ([turn(1), turn(2, 1), turn(3, 9), turn(4, 3)], [3, 4]),
    "message-cycle": ([turn(1), turn(2, 1), turn(3, 4), turn(4, 3), turn(5, 5)], [3, 4, 5]),
    "duplicate-message": ([turn(1), turn(2, 1), turn(1)], [3]),
}


@pytest.mark.parametrize("code", LEFT_OUT)
def test_rows_of_no_chain_are_named_with_their_lines(tmp_path: Path, code: str) -> None:
    rows, lines = LEFT_OUT[code]
    path = write(tmp_path, rows)
    assert [line for line, _ in found(path)[code]] == lines
    summary = summarize(path)
    assert (summary.rows, summary.skipped) == (1, len(lines))


def test_an_empty_answer_within_a_chain_is_named_with_the_last_row(tmp_path: Path) -> None:
    rows = [turn(1, completion=""), turn(2, 1), turn(3)]
    assert found(write(tmp_path, rows))["empty-answer"][0][0] == 2


def test_rows_whose_parents_are_elsewhere_are_not_joined(tmp_path: Path) -> None:
    rows = [turn(1, "forum"), turn(2, "forum"), turn(3, "shop")]
    path = write(tmp_path, rows)
    assert chains(path) == ["q1 a1", "q2 a2", "q3 a3"]
    assert "message-tree" not in found(path)
    assert [row.data for row in read_rows(path)] == rows


def test_rows_with_a_history_of_their_own_are_not_joined(tmp_path: Path) -> None:
    rows = [turn(1, history=[]), turn(2, 1, history=[["Hi", "Ho"]])]
    assert chains(write(tmp_path, rows)) == ["q1 a1", "Hi Ho q2 a2"]


def test_too_many_rows_of_chains_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, [turn(1), turn(2, 1), turn(3, 2)])
    monkeypatch.setattr("modelforge.data.formats.tree_nodes.MAX_MESSAGES", 2)
    (only,) = check_file(path).findings
    assert only.code == "tree-too-large"
    assert "more than 2 messages" in only.what
    assert "parent_id as not used" in only.remedy
    alone = Source(path="a", unused_columns=["parent_id"])
    assert summarize(path, source=alone).rows == 3
    monkeypatch.setattr("modelforge.data.formats.tree_nodes.MAX_MESSAGES", 9)
    monkeypatch.setattr("modelforge.data.formats.tree_nodes.MAX_TEXT_CHARS", 80)
    assert found(path).keys() == {"tree-too-large"}
    table = tmp_path / "a.csv"
    names = ",".join(f"c{number}" for number in range(9))
    empty = "," * 9
    table.write_text(
        f"id,parent_id,prompt,completion,{names}\n1,,q,a{empty}\n2,1,q,a{empty}\n", "utf-8"
    )
    assert "tree-too-large" in found(table)


@pytest.mark.parametrize("seed", range(30))
def test_every_row_is_in_a_chain_or_named(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    ids = [draw.randrange(12) for _ in range(12)]  # some are given twice
    parents = [draw.choice([None, None, *range(14)]) for _ in ids]  # some are missing, some loops
    rows = [
        turn(own, parent) | {"prompt": f"q-{number};"}
        for number, (own, parent) in enumerate(zip(ids, parents, strict=True))
    ]
    path = write(tmp_path, [*rows, turn("x") | {"prompt": "q-x;"}, turn("y", "x")])
    summary = summarize(path)
    used = " ".join(chains(path))
    codes = {"orphan-message", "message-cycle", "duplicate-message"}
    named = sum(each.count for each in check_file(path).findings if each.code in codes)
    lines = [row.line for row in read_rows(path) if isinstance(row.data["history"], dict)]
    assert named == len(lines) == summary.skipped
    for number in range(len(rows)):
        assert (f"q-{number};" in used) != (number + 1 in lines)
