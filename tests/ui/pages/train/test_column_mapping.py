"""The form for the column mapping: only existing columns, labels of the schema."""

import pytest

from modelforge.config.fields import source_specs
from modelforge.config.schema.data import Source
from ui.pages.train import column_mapping
from ui.pages.train.column_mapping import FileColumns

COLUMNS = FileColumns(["Frage", "<i>Antwort</i>"], ["from", "value"])


def editor(**source):
    return column_mapping.editor([{"path": "odd.csv", **source}], [COLUMNS])


@pytest.mark.parametrize("kind", column_mapping.COLUMNS)
def test_every_row_type_asks_only_for_fields_of_a_source(kind):
    assert set(column_mapping.COLUMNS[kind]) <= Source.model_fields.keys()
    for name in column_mapping.COLUMNS[kind]:
        assert f'data-map="{name}"' in editor(type=kind)
        label = column_mapping.LABELS.get(name, source_specs()[name].label)
        assert label in editor(type=kind)


def test_the_row_types_are_those_of_the_schema():
    assert set(column_mapping.TYPES) == set(Source.model_fields["type"].annotation.__args__)


def test_only_columns_of_the_file_can_be_chosen_and_none_is_markup():
    page = editor(type="instruction")
    assert '<option value="Frage">' in page
    assert "<i>" not in page


def test_a_conversation_asks_for_the_keys_of_its_messages():
    page = editor(type="conversation", message_property_mappings={"role": "from"})
    assert '<option value="from" selected>' in page
    assert 'data-map="in:content"' in page


def test_a_missing_column_is_kept_and_marked():
    assert "Alt (not in the file)" in editor(type="instruction", output_field="Alt")


def test_the_reading_names_its_origin():
    mine = column_mapping.reading([{"path": "a", "type": "text"}], "Read as text.", is_usable=True)
    assert "mapping-undo" in mine
    detected = column_mapping.reading([{"path": "a", "weight": 2.0}], "Text.", is_usable=True)
    assert "mapping-undo" not in detected
    assert "detected" in detected


def test_the_rows_are_shown_as_they_are_in_the_file():
    columns = FileColumns(["Frage", "Antwort"], [], [["Wie hoch?", "<b>12 m</b>"]])
    page = column_mapping.editor([{"path": "odd.csv", "type": "instruction"}], [columns])
    assert "Wie hoch?" in page
    assert "&lt;b&gt;12 m" in page
