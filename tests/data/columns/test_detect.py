import pytest

from modelforge.config.schema.data import Source
from modelforge.data.columns.detect import detect_mapping
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.errors import DataError

SPELLINGS = {
    ("input", "output"): ("pair", {"prompt": "input", "answer": "output"}),
    ("prompt", "completion"): ("pair", {"prompt": "prompt", "answer": "completion"}),
    ("question", "answer"): ("pair", {"prompt": "question", "answer": "answer"}),
    ("instruction", "output"): ("instruction", {"instruction": "instruction", "answer": "output"}),
    ("instruction", "input", "output"): (
        "instruction",
        {"instruction": "instruction", "answer": "output", "input": "input"},
    ),
    ("messages",): ("messages", {"messages": "messages"}),
    ("text",): ("text", {"text": "text"}),
}


@pytest.mark.parametrize("columns", SPELLINGS)
def test_every_pattern_of_columns_is_detected_with_a_reason(columns: tuple[str, ...]) -> None:
    kind, fields = SPELLINGS[columns]
    mapping = detect_mapping([dict.fromkeys(columns, "x")])
    assert (mapping.kind, mapping.fields) == (kind, fields)
    assert all(column in mapping.reason for column in columns)


def test_capitals_and_spaces_do_not_matter() -> None:
    mapping = detect_mapping([{" Input": "a", "OUTPUT": "b"}])
    assert mapping.fields == {"prompt": " Input", "answer": "OUTPUT"}


def test_columns_that_are_not_used_are_named() -> None:
    mapping = detect_mapping([{"input": "a", "output": "b", "id": 1, "source": "x"}])
    assert mapping.unused == ["id", "source"]
    assert "Not used: id, source." in mapping.reason


def test_the_pattern_that_fits_most_rows_wins() -> None:
    rows = [{"messages": []}, *[{"input": "a", "output": "b"}] * 3]
    assert detect_mapping(rows).fields == {"prompt": "input", "answer": "output"}


def test_unknown_columns_are_refused_with_the_supported_ones() -> None:
    with pytest.raises(DataError) as caught:
        detect_mapping([{"frage": "a", "antwort": "b"}], "faq.csv")
    (problem,) = caught.value.problems
    assert problem.where == "faq.csv"
    assert "frage, antwort" in problem.what
    assert "input and output" in problem.remedy


def test_a_mapping_survives_a_round_trip() -> None:
    mapping = detect_mapping([{"instruction": "a", "input": "b", "output": "c", "id": 1}])
    assert ColumnMapping.from_dict(mapping.as_dict()) == mapping


def test_a_column_that_is_named_for_one_part_is_not_taken_for_another() -> None:
    source = Source(path="faq.csv", type="instruction", instruction_field="response")
    mapping = detect_mapping([{"response": "a", "answer": "b"}], "faq.csv", source)
    assert mapping.fields == {"instruction": "response", "answer": "answer"}
    with pytest.raises(DataError, match="has no output column"):
        detect_mapping([{"response": "a", "other": "b"}], "faq.csv", source)


def test_a_part_without_a_column_is_named_in_the_words_of_the_page() -> None:
    rows = [{"Frage": "a", "Antwort": "b"}]
    source = Source(path="faq.csv", type="instruction")
    with pytest.raises(DataError) as caught:
        detect_mapping(rows, "faq.csv", source)
    assert "output column (output_field)" in caught.value.problems[0].remedy
    source = Source(path="faq.csv", type="instruction", instruction_field="Frage")
    with pytest.raises(DataError) as caught:
        detect_mapping(rows, "faq.csv", source)
    (problem,) = caught.value.problems
    assert problem.what == "has no output column with a usual name; its columns are Frage, Antwort."
    assert problem.remedy == "Choose the output column (output_field)."
