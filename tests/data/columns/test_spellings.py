"""Spellings of TRL, LLaMA-Factory, ms-swift, Axolotl and OpenAI's fine-tuning."""

import json
from typing import Any

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import to_canonical
from modelforge.data.columns.detect import detect_mapping
from modelforge.errors import DataError

ASK = {"role": "user", "content": "oak?"}
YES = {"role": "assistant", "content": "Yes."}
NO = {"role": "assistant", "content": "No."}
PAIR = {"prompt": [ASK], "chosen": [YES], "rejected": [NO]}
GOOD = {"prompt": [ASK], "completion": [YES], "label": True}
CHAT = {"messages": [ASK, YES]}
EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
WITH_INPUT = [{"role": "user", "content": "oak?\n\nThink."}]
SYSTEM = {"role": "system", "content": "Be kind."}
HUMAN = {"from": "human", "value": "oak?"}
TYPED = {"role": "user", "content": [{"type": "text", "value": "oak?"}]}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def answers(chosen: str, rejected: str) -> dict[str, str]:
    return {chosen: "Yes.", rejected: "No."}


PREFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "instruction and input": (
        {"instruction": "oak?", "input": "Think.", **answers("chosen", "rejected")},
        PAIR | {"prompt": WITH_INPUT},
    ),
    "context": (
        {"question": "oak?", "context": "Think.", **answers("chosen", "rejected")},
        PAIR | {"prompt": WITH_INPUT},
    ),
    "history": (
        {"instruction": "oak?", "history": [["Hi", "Ho"]], **answers("chosen", "rejected")},
        PAIR | {"prompt": [*EARLIER, ASK]},
    ),
    "ShareGPT": (
        {"conversations": [HUMAN], "chosen": gpt("Yes."), "rejected": gpt("No.")},
        PAIR,
    ),
    "ShareGPT with texts": (
        {"conversations": [HUMAN], **answers("chosen", "rejected")},
        PAIR,
    ),
    "messages with texts": ({"messages": [ASK], **answers("chosen", "rejected")}, PAIR),
    "messages with single messages": ({"messages": [ASK], "chosen": YES, "rejected": NO}, PAIR),
    "LLaMA-Factory v1": (
        {"chosen_messages": [TYPED, YES], "rejected_messages": [TYPED, NO]},
        PAIR,
    ),
    "ms-swift messages": ({"messages": [ASK, YES], "rejected_messages": [ASK, NO]}, PAIR),
    "ms-swift response": ({"messages": [ASK, YES], "rejected_response": "No."}, PAIR),
    "ms-swift query": ({"query": "oak?", **answers("response", "rejected_response")}, PAIR),
    "Axolotl argilla": (
        {"instruction": "oak?", **answers("chosen_response", "rejected_response")},
        PAIR,
    ),
    "Axolotl intel": (
        {"system": "Be kind.", "question": "oak?", **answers("chosen", "rejected")},
        PAIR | {"prompt": [SYSTEM, ASK]},
    ),
    "OpenAI": (
        {"input": {"messages": [ASK]}, "preferred_output": [YES], "non_preferred_output": [NO]},
        PAIR,
    ),
    "one full conversation": ({"prompt": "oak?", "chosen": [ASK, YES], "rejected": "No."}, PAIR),
}
LABELLED = {
    "LLaMA-Factory": (
        {"instruction": "oak?", "input": "", "output": "Yes.", "kto_tag": True},
        GOOD,
    ),
    "ShareGPT": ({"conversations": [HUMAN, gpt("Yes.")], "kto_tag": True}, GOOD),
    "ms-swift": ({"messages": [ASK, YES], "label": True}, GOOD),
    "Axolotl": ({"instruction": "oak?", "completion": "Yes.", "label": True}, GOOD),
    "context": (
        {"prompt": "oak?", "context": "Think.", "completion": "Yes.", "label": True},
        GOOD | {"prompt": WITH_INPUT},
    ),
}
CONVERSATIONS = {
    "history as pairs": (
        {"instruction": "oak?", "output": "Yes.", "history": [["Hi", "Ho"]]},
        [*EARLIER, ASK, YES],
    ),
    "history as messages": (
        {"prompt": "oak?", "completion": "Yes.", "history": EARLIER},
        [*EARLIER, ASK, YES],
    ),
    "history as text": (
        {"query": "oak?", "response": "Yes.", "history": '[["Hi", "Ho"]]'},
        [*EARLIER, ASK, YES],
    ),
    "prompt, input and output": (
        {"prompt": "oak?", "input": "Think.", "output": "Yes."},
        [*WITH_INPUT, YES],
    ),
    "question, context and response": (
        {"question": "oak?", "context": "Think.", "response": "Yes."},
        [*WITH_INPUT, YES],
    ),
    "system_message": (
        {"system_message": "Be kind.", "instruction": "oak?", "output": "Yes."},
        [SYSTEM, ASK, YES],
    ),
    "human and assistant": (
        {"conversation": [{"human": "oak?", "assistant": "Yes."}]},
        [ASK, YES],
    ),
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_preference_pairs_are_read_in_every_spelling(name: str) -> None:
    row, wanted = PREFERENCES[name]
    mapping = detect_mapping([row])
    assert mapping.kind == "preference"
    assert to_canonical(row, mapping) == wanted


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_completions_are_read_in_every_spelling(name: str) -> None:
    row, wanted = LABELLED[name]
    assert to_canonical(row, detect_mapping([row])) == wanted


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_part_of_the_prompt_is_used(name: str) -> None:
    row, wanted = CONVERSATIONS[name]
    assert to_canonical(row, detect_mapping([row])) == {"messages": wanted}


def test_the_tools_of_an_openai_preference_are_kept() -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    row = PREFERENCES["OpenAI"][0] | {"input": {"messages": [ASK], "tools": [tool]}}
    assert to_canonical(row, detect_mapping([row]))["tools"] == [tool]


def test_a_class_beside_an_answer_is_not_a_preference() -> None:
    row = {"instruction": "oak?", "output": "Yes.", "label": 1}
    assert detect_mapping([row]).kind == "instruction"


def test_a_list_of_two_completions_is_a_pair_only_if_the_type_says_so() -> None:
    row = {"instruction": "oak?", "input": "Think.", "output": ["Yes.", "No."]}
    assert detect_mapping([row]).kind == "instruction"
    mapping = detect_mapping([row], source=Source(path="a", type="preference"))
    assert to_canonical(row, mapping) == PAIR | {"prompt": WITH_INPUT}


def test_a_message_tree_without_roles_is_refused_by_name() -> None:
    row = {"message_id": "m1", "parent_id": "m0", "text": "oak"}
    with pytest.raises(DataError, match="message tree"):
        detect_mapping([row])


CELLS = {
    "JSON with a space": f"[ {json.dumps(ASK)}, {json.dumps(YES)}]",
    "JSON with indentation": json.dumps([ASK, YES], indent=1),
    "Python": str([ASK, YES]),
    "NumPy": f"[{ASK}\n {YES}]",
    "NumPy with its name": f"array([{ASK}, {YES}], dtype=object)",
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("column", ["messages", "conversations", "text"])
def test_a_conversation_in_a_cell_is_read_as_messages(name: str, column: str) -> None:
    row = {column: CELLS[name]}
    assert to_canonical(row, detect_mapping([row])) == CHAT


@pytest.mark.parametrize("write", [str, json.dumps, lambda value: json.dumps([value], indent=1)])
def test_completions_in_cells_are_read_as_messages(write: Any) -> None:
    pair = {"prompt": "oak?", "chosen": write(YES), "rejected": write(NO)}
    assert to_canonical(pair, detect_mapping([pair])) == PAIR
    labelled = {"prompt": "oak?", "completion": write(YES), "label": "True"}
    assert to_canonical(labelled, detect_mapping([labelled])) == GOOD
    for prompt in ("oak?", write(ASK)):
        for columns in (("prompt", "completion"), ("instruction", "output")):
            row = dict(zip(columns, (prompt, write(YES)), strict=True))
            assert to_canonical(row, detect_mapping([row])) == CHAT


@pytest.mark.parametrize(
    "answer", ['[{"name": "oak"}]', '{"role": "admin", "content": "x"}', "[1, 2]", "{'a': 1}"]
)
def test_data_that_is_an_answer_stays_text(answer: str) -> None:
    row = {"prompt": "oak?", "completion": answer}
    messages = to_canonical(row, detect_mapping([row]))["messages"]
    assert messages == [ASK, {"role": "assistant", "content": answer}]
