"""The columns of a source: roles above the rows of the file, in the words of the page."""

import json

import pytest

from modelforge.config.rules.data import SETTINGS_OF_TYPE
from modelforge.config.schema.data import Source
from modelforge.paths import Home
from ui.pages.train import column_mapping, response
from ui.pages.train.column_mapping import FileColumns, read_columns, roles
from ui.pages.train.form import Entered

COLUMNS = FileColumns(["Frage", "<i>Antwort</i>"], ["from", "value"], [{"Frage": "<b>Wo?</b>"}])


def editor(**source):
    return column_mapping.editor([{"path": "odd.csv", **source}], [COLUMNS])


def a_file(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return {"path": str(path)}


def test_every_role_is_a_setting_of_a_source_and_of_a_type():
    assert column_mapping.LABELS.keys() <= Source.model_fields.keys()
    named = {name for names in SETTINGS_OF_TYPE.values() for name in names}
    assert column_mapping.LABELS.keys() <= named
    fields = {name for name in Source.model_fields if name.endswith("_field")}
    assert fields - column_mapping.LABELS.keys() == {"system_prompt_field"}


def test_the_row_types_are_those_of_the_schema():
    assert set(column_mapping.TYPES) == set(Source.model_fields["type"].annotation.__args__)


def test_each_column_shows_its_role_above_the_rows_of_the_file():
    page = editor(type="instruction", instruction_field="Frage")
    assert 'aria-label="Role of Frage"' in page
    assert '<option value="instruction_field" data-types="instruction" selected>Question' in page
    assert page.count("selected>Question") == 1
    assert "&lt;b&gt;Wo?" in page
    assert "<i>" not in page


def test_a_conversation_asks_for_the_keys_of_its_messages():
    page = editor(type="conversation", message_property_mappings={"role": "from"})
    assert '<option value="from" selected>' in page
    assert 'data-map="in:content"' in page


def test_a_column_that_is_set_as_unused_is_shown_and_read_as_not_used(tmp_path):
    row = {"prompt": "a", "completion": "b", "system": "Be brief.", "history": []}
    source = a_file(tmp_path, row)
    shown = roles(source, read_columns(Home(tmp_path / "home"), source))
    assert shown["system"] == "detected:System prompt"
    assert shown["history"] == "detected:Earlier messages"
    source |= {"unused_columns": ["system", "history"]}
    found = read_columns(Home(tmp_path / "home"), source)
    assert roles(source, found).keys() == {"prompt", "completion"}
    page = column_mapping.editor([source], [found])
    assert 'data-role-of="system"' in page
    assert page.count('<option value="detected:">by its name</option>') == 2
    assert page.count("detected:") == 2
    assert "Not used: system, history." in found.mapping.reason
    assert "mapping-undo" in column_mapping.reading([source], found.mapping.reason)


def test_a_missing_column_is_named_with_its_role():
    page = editor(type="instruction", output_field="Alt")
    assert "Not in the file: Alt (Answer)." in page


def test_the_reading_names_its_origin():
    mine = column_mapping.reading([{"path": "a", "type": "text"}], "Read as text.")
    assert "mapping-undo" in mine
    assert "mapping-undo" not in column_mapping.reading([{"path": "a", "weight": 2.0}], "Text.")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"prompt": "a", "completion": "b", "id": 3},
            {"prompt": "instruction_field", "completion": "output_field"},
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "prompt_field", "chosen": "chosen_field", "rejected": "rejected_field"},
        ),
        ({"text": "a"}, {"text": "text_field"}),
        (
            {"context": "a b", "question": "b?", "answers": "b"},
            {
                "context": "detected:Context",
                "question": "detected:Question",
                "answers": "detected:Answer",
            },
        ),
        (
            {"document": "a", "summary": "b"},
            {"document": "detected:Text to summarize", "summary": "detected:Summary"},
        ),
        ({"messages": [{"role": "user", "content": "a"}]}, {"messages": "messages_field"}),
        ({"Frage": "a", "Antwort": "b"}, {}),
    ],
)
def test_the_roles_are_those_that_are_detected(tmp_path, row, expected):
    source = a_file(tmp_path, row)
    found = read_columns(Home(tmp_path / "home"), source)
    assert roles(source, found) == expected
    assert found.written == "JSON Lines, UTF-8"
    assert found.rows[0].keys() == row.keys()


def test_a_file_that_cannot_be_read_to_its_end_still_shows_its_first_rows(tmp_path):
    path = tmp_path / "cut.jsonl"
    path.write_text('{"Frage": "Wo?"}\n{"Frage": "W', encoding="utf-8")
    assert read_columns(Home(tmp_path / "home"), {"path": str(path)}).rows == [{"Frage": "Wo?"}]


@pytest.mark.parametrize("stated", [5, "Frage", {"a": 1}, [[]], None])
def test_a_wrong_value_of_the_unused_columns_is_drawn(stated):
    assert 'data-role-of="Frage"' in editor(unused_columns=stated)


@pytest.mark.parametrize("source", [{"path": "none.csv"}, {"path": 5}, {"path": "", "type": 7}])
def test_a_wrong_source_has_no_columns(tmp_path, source):
    assert read_columns(Home(tmp_path / "home"), source).columns == []


def test_messages_about_columns_use_the_words_of_the_page(forge, tmp_path):
    source = a_file(tmp_path, {"Frage": "Wo?", "Antwort": "Hier."})
    for fields in (
        {"instruction_field": "Frage"},
        {"instruction_field": "Alt"},
        {"type": "text"},
        {"unused_columns": ["Alt"]},
    ):
        sources = [source | {"type": "instruction"} | fields]
        entered = Entered(
            show_models=False, values={"dataset": source["path"], "data.sources": sources}
        )
        reply = response.reply(forge, entered)
        assert "Role of Frage" in reply.parts["mapping"], "raw rows are shown before they are read"
        for part in ("reading", "why", "problems"):
            assert "_field" not in reply.parts[part]
            assert "unused_columns" not in reply.parts[part]
        assert "error" in reply.parts["reading"]
        assert not reply.data.is_usable
