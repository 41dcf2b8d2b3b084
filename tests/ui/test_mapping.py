"""The form that says how rows are read: only columns that are there, in the schema's words."""

import pytest

from modelforge.config.schema.data import Source
from ui.pages.train import column_mapping

COLUMNS = {"columns": ["Frage", "<i>Antwort</i>"], "inner": ["from", "value"]}


def editor(**said):
    return column_mapping.editor([{"path": "odd.csv", **said}], [COLUMNS])


@pytest.mark.parametrize("kind", column_mapping.COLUMNS)
def test_every_kind_asks_only_for_fields_that_a_source_has(kind):
    assert set(column_mapping.COLUMNS[kind]) <= Source.model_fields.keys()
    for name in column_mapping.COLUMNS[kind]:
        assert f'data-map="{name}"' in editor(type=kind)
        assert column_mapping.label(name) in editor(type=kind)


def test_the_kinds_are_those_of_the_schema():
    assert set(column_mapping.TYPES) == set(Source.model_fields["type"].annotation.__args__)


def test_only_columns_of_the_file_can_be_chosen_and_none_is_markup():
    page = editor(type="instruction")
    assert '<option value="Frage">' in page
    assert "<i>" not in page


def test_a_conversation_asks_what_its_messages_call_things():
    page = editor(type="conversation", message_property_mappings={"role": "from"})
    assert '<option value="from" selected>' in page
    assert 'data-map="in:content"' in page


def test_a_column_that_is_not_there_is_kept_and_said():
    assert "Alt (not in the file)" in editor(type="instruction", output_field="Alt")


def test_the_reading_says_whose_choice_it_is():
    mine = column_mapping.reading([{"path": "a", "type": "text"}], "Read as text.", usable=True)
    assert "map-undo" in mine
    found = column_mapping.reading([{"path": "a", "weight": 2.0}], "Read as text.", usable=True)
    assert "map-undo" not in found
    assert "found out" in found
