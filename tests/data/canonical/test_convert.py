"""Every spelling that is recognised, and what it becomes."""

import json

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import fingerprint, to_canonical
from modelforge.data.canonical.messages import UnusableRowError
from modelforge.data.checks.rules import RULES
from modelforge.data.columns.detect import detect_mapping
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.errors import DataError

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
CHAT = {"messages": [USER, ASSISTANT]}
NO = {"role": "assistant", "content": "No"}
PREFERENCE = {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [NO]}
CONTEXT = {"context": "Rome is old. Rome is big.", "question": "What is old?"}
SPAN = CONTEXT | {"answers": [{"text": "Rome", "start": 0}]}
SUMMARY = {
    "messages": [
        {"role": "user", "content": "Summarise this text.\n\nlong"},
        {"role": "assistant", "content": "short"},
    ]
}
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
HH = "\n\nHuman: Hi\n\nAssistant: "

SPELLED = [
    ({"input": "Hi", "output": "Ho"}, "pair", CHAT),
    ({"prompt": "Hi", "completion": "Ho"}, "pair", CHAT),
    ({"prompt": [USER], "completion": [ASSISTANT]}, "pair", CHAT),
    ({"prompt": [USER], "completion": "Ho"}, "pair", CHAT),
    ({"prompt": "Hi", "response": "Ho"}, "pair", CHAT),
    ({"question": "Hi", "answer": "Ho"}, "pair", CHAT),
    ({"prompt": "Hi", "completion": "Ho", "label": "greeting"}, "pair", CHAT),
    ({"instruction": "Hi", "output": "Ho"}, "instruction", CHAT),
    ({"instruction": "Hi", "input": "", "output": "Ho"}, "instruction", CHAT),
    (
        {"instruction": "Hi", "context": None, "response": "Ho", "category": "x"},
        "instruction",
        CHAT,
    ),
    ({"messages": [USER, ASSISTANT]}, "messages", CHAT),
    ({"prompt": "Hi", "prompt_id": 3, "messages": [USER, ASSISTANT]}, "messages", CHAT),
    ({"conversations": SHAREGPT}, "messages", CHAT),
    ({"conversations": json.dumps(SHAREGPT)}, "messages", CHAT),
    ({"conversation": [USER, ASSISTANT]}, "messages", CHAT),
    ({"text": "Hi"}, "text", {"text": "Hi"}),
    ({"document": "long", "summary": "short"}, "summary", SUMMARY),
    ({"article": "long", "summary": "short"}, "summary", SUMMARY),
    ({"text": "long", "summary": "short"}, "summary", SUMMARY),
    (CONTEXT | {"answers": {"text": ["Rome"], "answer_start": [0]}}, "span", SPAN),
    (CONTEXT | {"answers": '{"text": ["Rome"], "answer_start": [0]}'}, "span", SPAN),
    (CONTEXT | {"answers": ["Rome"]}, "span", SPAN),
    (CONTEXT | {"answers": [{"text": "Rome", "answer_start": 0}]}, "span", SPAN),
    (CONTEXT | {"answer": "Rome"}, "span", SPAN),
    ({"prompt": "Hi", "chosen": "Ho", "rejected": "No"}, "preference", PREFERENCE),
    ({"question": "Hi", "chosen": "Ho", "rejected": "No"}, "preference", PREFERENCE),
    ({"prompt": [USER], "chosen": [ASSISTANT], "rejected": [NO]}, "preference", PREFERENCE),
    ({"prompt": "Hi", "chosen": ASSISTANT, "rejected": NO}, "preference", PREFERENCE),
    ({"chosen": [USER, ASSISTANT], "rejected": [USER, NO]}, "preference", PREFERENCE),
    (
        {"prompt": "Hi", "chosen": [USER, ASSISTANT], "rejected": [USER, NO], "score_chosen": 4},
        "preference",
        PREFERENCE,
    ),
    ({"chosen": f"{HH}Ho", "rejected": f"{HH}No"}, "preference", PREFERENCE),
    (
        {"prompt": "Hi", "completion": "Ho", "label": True},
        "preference-label",
        {"prompt": [USER], "completion": [ASSISTANT], "label": True},
    ),
    (
        {"prompt": [USER], "completion": [NO], "label": "0"},
        "preference-label",
        {"prompt": [USER], "completion": [NO], "label": False},
    ),
]


@pytest.mark.parametrize(("row", "kind", "becomes"), SPELLED, ids=lambda part: str(part)[:70])
def test_every_spelling_is_detected_read_and_explained(row, kind, becomes):
    mapping = detect_mapping([row])
    assert mapping.kind == kind
    assert all(column in mapping.reason for column in mapping.fields.values())
    assert to_canonical(row, mapping) == becomes
    assert fingerprint(to_canonical(row, mapping))
    assert ColumnMapping.from_dict(json.loads(json.dumps(mapping.as_dict()))) == mapping


def test_the_reason_names_keys_that_differ():
    assert (
        "Messages use from for role and value for content."
        in detect_mapping([{"conversations": SHAREGPT}]).reason
    )
    reason = detect_mapping([{"chosen": [USER, ASSISTANT], "rejected": [USER, NO]}]).reason
    assert "The messages that both completions begin with are the prompt." in reason


def test_different_rows_of_every_kind_have_different_fingerprints():
    rows = [to_canonical(row, detect_mapping([row])) for row, _, _ in SPELLED]
    different = {json.dumps(row, sort_keys=True) for row in rows}
    assert len({fingerprint(row) for row in rows}) == len(different)


SOURCE_FIELDS = [
    ({"text_field": "a"}, {"a": "Hi", "b": "Ho"}, {"text": "Hi"}),
    ({"instruction_field": "a", "output_field": "b"}, {"a": "Hi", "b": "Ho"}, CHAT),
    ({"input_field": "a", "output_field": "b"}, {"a": "Hi", "b": "Ho"}, CHAT),
    ({"output_field": "b"}, {"prompt": "Hi", "b": "Ho", "output": "x"}, CHAT),
    ({"type": "instruction"}, {"text": "x", "input": "Hi", "output": "Ho"}, CHAT),
    ({"type": "text"}, {"text": "Hi", "input": "x", "output": "x"}, {"text": "Hi"}),
    (
        {"messages_field": "c", "message_property_mappings": {"role": "who", "content": "body"}},
        {"c": [{"who": "human", "body": "Hi"}, {"who": "bot", "body": "Ho"}], "messages": 1},
        CHAT,
    ),
    (
        {"prompt_field": "q", "chosen_field": "good", "rejected_field": "bad"},
        {"q": "Hi", "good": "Ho", "bad": "No"},
        PREFERENCE,
    ),
    (
        {"instruction_field": "a", "input_field": "x", "output_field": "b"},
        {"a": "Hi", "x": "there", "b": "Ho"},
        {"messages": [{"role": "user", "content": "Hi\n\nthere"}, ASSISTANT]},
    ),
]


@pytest.mark.parametrize(
    ("fields", "row", "becomes"), SOURCE_FIELDS, ids=lambda part: str(part)[:60]
)
def test_the_settings_of_the_source_win(fields, row, becomes):
    mapping = detect_mapping([row], "x.csv", Source(path="x.csv", **fields))
    assert to_canonical(row, mapping) == becomes
    if any(name.endswith("_field") for name in fields):
        assert "as set" in mapping.reason


REFUSED = [
    (
        {"text_field": "bodi"},
        "has no column bodi, which is set as text_field.",
        "Did you mean body?",
    ),
    ({"messages_field": "zzz"}, "has no column zzz", "Its columns are body, answer."),
    ({"type": "conversation"}, "do not match conversation rows", "messages_field"),
    ({"instruction_field": "body", "output_field": "x"}, "no column x", "Its columns are"),
    ({"chosen_field": "body"}, "no rejected column with a usual name", "(rejected_field)"),
]


@pytest.mark.parametrize(("fields", "what", "remedy"), REFUSED, ids=str)
def test_a_missing_column_is_refused_by_its_setting(fields, what, remedy):
    with pytest.raises(DataError) as caught:
        detect_mapping([{"body": "a", "answer": "b"}], "x.csv", Source(path="x.csv", **fields))
    (problem,) = caught.value.problems
    assert problem.where == "x.csv"
    assert what in problem.what
    assert remedy in problem.remedy


def read(row, **fields):
    return to_canonical(row, detect_mapping([row], "x", Source(path="x", **fields)))


def test_a_system_prompt_comes_from_a_column_or_is_the_same_for_all():
    row = {"instruction": "Hi", "output": "Ho", "tone": "Be brief."}
    field = read(row, system_prompt_type="field", system_prompt_field="tone")
    fixed = read(row | {"system": "x"}, system_prompt_type="fixed", system_prompt="Be brief.")
    assert (
        field
        == fixed
        == {"messages": [{"role": "system", "content": "Be brief."}, USER, ASSISTANT]}
    )


def test_a_system_prompt_replaces_the_one_in_the_conversation():
    row = {"messages": [{"role": "system", "content": "Old."}, USER, ASSISTANT], "sys": "New."}
    assert read(row, system_field="sys")["messages"][0]["content"] == "New."
    assert len(read(row, system_field="sys")["messages"]) == 3
    assert read(row | {"sys": None}, system_field="sys")["messages"][0]["content"] == "Old."


def test_the_system_message_of_a_preference_precedes_the_prompt():
    row = {"prompt": "Hi", "chosen": "Ho", "rejected": "No", "system": "Be brief."}
    assert read(row)["prompt"] == [{"role": "system", "content": "Be brief."}, USER]


def test_a_prompt_format_renders_the_row():
    row = {"instruction": "Hi", "input": "you", "output": "Ho", "system": "S"}
    fields = {
        "prompt_format": "{system}\n# {instruction}\n{input}\n## {output}</s>",
        "prompt_format_no_input": "# {instruction}\n## {output}",
    }
    assert read(row, **fields) == {
        "messages": [
            {"role": "user", "content": "S\n# Hi\nyou\n## "},
            {"role": "assistant", "content": "Ho</s>"},
        ]
    }
    assert read(row | {"input": " "}, **fields)["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "# Hi\n## "},
        {"role": "assistant", "content": "Ho"},
    ]
    assert read({"prompt": "Hi", "completion": "Ho"}, prompt_format="Q {instruction}{input}") == {
        "messages": [{"role": "user", "content": "Q Hi"}, ASSISTANT]
    }


def test_the_text_of_a_row_is_never_read_as_a_format():
    row = {"instruction": "{output} {0.__class__}", "output": "{instruction}"}
    user, assistant = read(row, prompt_format="{instruction}|{output}")["messages"]
    assert user["content"] == "{output} {0.__class__}|"
    assert assistant["content"] == "{instruction}"


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    "tools", [[TOOL], json.dumps([TOOL]), [TOOL["function"]], [json.dumps(TOOL)], TOOL]
)
def test_tools_are_a_list_or_its_json_text(tools):
    assert read({**CHAT, "tools": tools}) == {**CHAT, "tools": [TOOL]}
    assert read({**CHAT, "kit": tools}, tools_field="kit") == {**CHAT, "tools": [TOOL]}


@pytest.mark.parametrize("tools", [None, "", "[]", []])
def test_empty_tools_add_nothing(tools):
    assert read({**CHAT, "tools": tools}) == CHAT


CALLED = [
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
    {"role": "assistant", "tool_calls": json.dumps([CALL])},
    {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}, "type": "function"}],
    },
]


@pytest.mark.parametrize("turn", CALLED, ids=str)
def test_tool_calls_and_their_results_are_kept(turn):
    result = {"role": "tool", "content": "3", "name": "add", "tool_call_id": "x1"}
    found = read({"messages": [USER, turn, result, ASSISTANT]})
    assert found["messages"] == [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        result,
        ASSISTANT,
    ]


def test_sharegpt_calls_and_observations_become_tool_messages():
    row = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "Ho"},
        ],
        "tools": json.dumps([TOOL]),
    }
    assert read(row) == {
        "messages": [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "3"},
            ASSISTANT,
        ],
        "tools": [TOOL],
    }


def test_the_keys_of_messages_can_be_mapped_down_to_tool_calls():
    row = {"messages": [USER, {"role": "assistant", "content": "", "calls": [CALL]}]}
    found = read(row, messages_field="messages", message_property_mappings={"tool_calls": "calls"})
    assert found["messages"][1]["tool_calls"] == [CALL]


UNUSABLE = [
    ("bad-tools", {**CHAT, "tools": "add"}),
    ("bad-tools", {**CHAT, "tools": [{"parameters": {}}]}),
    ("bad-tools", {**CHAT, "tools": 7}),
    ("bad-tool-call", {"messages": [USER, {"role": "assistant", "tool_calls": [{"a": 1}]}]}),
    ("bad-tool-call", {"messages": [USER, {"role": "assistant", "tool_calls": "add(1)"}]}),
    ("bad-tool-call", {"conversations": [{"from": "function_call", "value": "add(1)"}]}),
    ("empty-answer", {"messages": [USER, {"role": "assistant", "tool_calls": []}]}),
    ("identical-answers", {"prompt": "Hi", "chosen": "Ho", "rejected": "Ho"}),
    ("identical-answers", {"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}),
    ("missing-rejected", {"prompt": "Hi", "chosen": "Ho", "rejected": None}),
    ("missing-chosen", {"prompt": "Hi", "chosen": None, "rejected": "No"}),
    ("empty-rejected", {"prompt": "Hi", "chosen": "Ho", "rejected": " "}),
    ("empty-chosen", {"prompt": "Hi", "chosen": "", "rejected": "No"}),
    ("no-prompt", {"chosen": "Ho", "rejected": "No"}),
    (
        "no-prompt",
        {"chosen": [USER, ASSISTANT], "rejected": [{"role": "user", "content": "x"}, NO]},
    ),
    ("empty-question", {"prompt": " ", "chosen": "Ho", "rejected": "No"}),
    ("not-text", {"prompt": "Hi", "chosen": "Ho", "rejected": b"x"}),
    ("bad-label", {"prompt": "Hi", "completion": "Ho", "label": None}),
    ("empty-answer", {"prompt": "Hi", "completion": "", "label": 1}),
    ("answer-not-in-context", CONTEXT | {"answer": "Paris"}),
    ("answer-not-in-context", CONTEXT | {"answers": {"text": ["Paris"], "answer_start": [0]}}),
    ("bad-answers", CONTEXT | {"answers": {"answer_start": [0]}}),
    ("empty-answer", CONTEXT | {"answers": ""}),
    ("empty-context", {"context": "", "question": "a", "answers": "b"}),
    ("empty-answer", {"article": "long", "summary": None}),
]


@pytest.mark.parametrize(("code", "row"), UNUSABLE, ids=str)
def test_every_unusable_row_has_a_cause(code, row):
    with pytest.raises(UnusableRowError) as caught:
        read(row)
    assert caught.value.code == code


def test_every_unusable_row_has_a_rule():
    assert {code for code, _ in UNUSABLE} <= {code for code, rule in RULES.items() if rule.skips}
    assert all(rule.remedy.endswith(".") for rule in RULES.values())
    assert all(not rule.cause or rule.cause in RULES for rule in RULES.values())


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({"text": ["Rome"], "answer_start": [13]}, [{"text": "Rome", "start": 13}]),
        ({"text": ["Rome"], "answer_start": [12]}, [{"text": "Rome", "start": 13}]),
        ({"text": ["Rome"], "answer_start": [2]}, [{"text": "Rome", "start": 0}]),
        ({"text": ["Rome"], "answer_start": [-1]}, [{"text": "Rome", "start": 0}]),
        ({"text": ["Rome"]}, [{"text": "Rome", "start": 0}]),
        ({"text": "Rome", "answer_start": 13}, [{"text": "Rome", "start": 13}]),
        (" big ", [{"text": "big", "start": 21}]),
        (["Paris", "old"], [{"text": "old", "start": 8}]),
        ({"text": [], "answer_start": []}, []),
    ],
    ids=str,
)
def test_an_answer_start_is_checked_and_searched_for(answers, found):
    assert read(CONTEXT | {"answers": answers})["answers"] == found
