"""A corrected answer becomes a row that can be trained on, and a test of later runs."""

from __future__ import annotations

import json

import pytest

from modelforge.errors import ConfigError, NotFoundError
from modelforge.paths import Home
from modelforge.runs.feedback.corrections import read_corrections
from modelforge.services.chats.corrections import CorrectionRequest, CorrectionService
from tests.services.chats.conftest import question
from tests.services.test_runs import asked


def request(model, correction="Two days.", asked="How long?", **more):
    return CorrectionRequest(model, question(asked), correction, "Four weeks.", **more)


def rows(forge, name):
    text = (forge.home.uploads / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_correction_is_a_row_and_a_test(forge, first):
    assert forge.corrections.next_row(first).row == 1
    taught = forge.corrections.teach(request(first))
    assert (taught.dataset, taught.row, taught.tests) == ("corrections.jsonl", 1, 1)
    assert forge.corrections.teach(request(first, asked="And abroad?")).row == 2
    (test, other) = read_corrections(forge.home.corrections)
    assert (test.run, test.run_name, test.question) == (first, "captain", "How long?")
    assert (test.answer, test.correction) == ("Four weeks.", "Two days.")
    assert [each.id for each in forge.corrections.list()] == [other.id, test.id]
    assert rows(forge, taught.dataset)[0] == {
        "messages": [
            {"role": "user", "content": "How long?"},
            {"role": "assistant", "content": "Two days."},
        ]
    }


def test_the_data_file_is_listed_and_can_be_trained_on(forge, first, model):
    for number in range(4):
        taught = forge.corrections.teach(request(first, asked=f"Question {number}?"))
    stored = forge.datasets.find(taught.dataset)
    assert (stored.dataset, stored.kind) == ("corrections.jsonl", "upload")
    checked = forge.preflight.check(asked(model, stored.dataset))
    assert not checked.problems
    assert checked.data.summary.rows == 4


def test_the_same_question_again_replaces_row_and_test(forge, first, second):
    forge.corrections.teach(request(first))
    forge.corrections.teach(request(first, asked="And abroad?"))
    taught = forge.corrections.teach(request(second, "Three days."))
    assert (taught.replaced, taught.row, taught.tests) == (True, 1, 2)
    answers = [row["messages"][-1]["content"] for row in rows(forge, taught.dataset)]
    assert answers == ["Three days.", "Two days."]
    assert len(read_corrections(forge.home.corrections)) == 2


def test_of_a_conversation_the_corrected_answer_alone_is_trained_on(forge, first, model):
    messages = (
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Go away."},
        {"role": "user", "content": "Why?"},
    )
    taught = forge.corrections.teach(CorrectionRequest(first, messages, "I am sorry."))
    (row,) = rows(forge, taught.dataset)
    assert [each.get("weight") for each in row["messages"]] == [None, None, 0, None, None]
    checked = forge.preflight.check(asked(model, taught.dataset))
    assert not checked.problems
    assert checked.data.summary.rows == 1


def test_a_corrected_tool_call_is_a_tool_call(forge, first):
    tools = ({"name": "weather", "parameters": {"type": "object"}},)
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    taught = forge.corrections.teach(request(first, call, tools=tools))
    (row,) = rows(forge, taught.dataset)
    answer = row["messages"][-1]
    assert answer["content"] == ""
    assert answer["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Oslo"}}
    assert row["tools"][0]["function"]["name"] == "weather"


def of_kind(tmp_path, kind):
    return CorrectionService(Home(tmp_path), lambda _model: ("reader", kind))


def test_the_answer_of_a_passage_is_a_part_of_it(tmp_path):
    service = of_kind(tmp_path, "passage")
    messages = ({"role": "system", "content": "The mill is old."}, *question("What is old?"))
    taught = service.teach(CorrectionRequest("m", messages, "The mill"))
    row = json.loads((tmp_path / "uploads" / taught.dataset).read_text("utf-8"))
    answers = {"text": ["The mill"], "answer_start": [0]}
    assert row == {"context": "The mill is old.", "question": "What is old?", "answers": answers}
    with pytest.raises(ConfigError, match="not a part of the passage"):
        service.teach(CorrectionRequest("m", messages, "The tower"))
    with pytest.raises(ConfigError, match="no passage"):
        service.teach(CorrectionRequest("m", question(), "The mill"))
    assert len(service.list()) == 1


def test_a_summary_has_a_data_file_of_its_own(tmp_path):
    of_kind(tmp_path, "conversation").teach(request("m"))
    taught = of_kind(tmp_path, "document").teach(request("m", "Short.", "A long text."))
    assert (taught.dataset, taught.row, taught.tests) == ("corrections-summaries.jsonl", 1, 2)
    row = json.loads((tmp_path / "uploads" / taught.dataset).read_text("utf-8"))
    assert row == {"document": "A long text.", "summary": "Short."}


def test_a_file_of_the_user_is_not_changed(forge, first):
    own = forge.datasets.upload("corrections.jsonl", [b'{"text": "mine"}\n'], 100)
    taught = forge.corrections.teach(request(first))
    assert taught.dataset == "corrections-2.jsonl"
    assert own.read_text("utf-8") == '{"text": "mine"}\n'
    assert forge.corrections.teach(request(first, asked="And?")).dataset == taught.dataset


def test_a_deleted_correction_has_neither_row_nor_test(forge, first):
    kept = forge.corrections.teach(request(first))
    gone = forge.corrections.teach(request(first, asked="And abroad?"))
    forge.corrections.delete(gone.id)
    assert [each.id for each in forge.corrections.list()] == [kept.id]
    assert len(rows(forge, kept.dataset)) == 1
    with pytest.raises(NotFoundError):
        forge.corrections.delete(gone.id)
    forge.corrections.delete(kept.id)
    assert not (forge.home.uploads / kept.dataset).exists()


def test_tests_outlive_their_data_file(forge, first):
    taught = forge.corrections.teach(request(first))
    forge.datasets.delete(taught.dataset)
    assert len(forge.corrections.list()) == 1
    again = forge.corrections.teach(request(first, "Three days."))
    assert (again.row, again.tests, again.replaced) == (1, 1, True)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"correction": " "}, "is empty"),
        ({"correction": "x" * 100_001}, "too long"),
        ({"messages": ()}, "0 messages"),
        ({"messages": ({"role": "assistant", "content": "x"},)}, "ends with an answer"),
        ({"tools": ({},)}, "named functions"),
    ],
)
def test_an_unusable_correction_is_refused(forge, first, change, what):
    values = {"model": first, "messages": question(), "correction": "x", **change}
    with pytest.raises(ConfigError, match=what):
        forge.corrections.teach(CorrectionRequest(**values))
    assert forge.corrections.list() == []


def test_a_lone_surrogate_is_replaced(forge, first):
    taught = forge.corrections.teach(request(first, "\ud800 days."))
    assert rows(forge, taught.dataset)[0]["messages"][-1]["content"] == "? days."


def test_damaged_lines_are_left_out(tmp_path):
    service = of_kind(tmp_path, "conversation")
    service.teach(request("m"))
    path = tmp_path / "corrections.jsonl"
    path.write_text(f'{{\n[]\n{{"id": "x"}}\n{path.read_text("utf-8")}', "utf-8")
    assert len(service.list()) == 1
