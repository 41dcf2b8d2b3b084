"""The columns of a source: roles above the rows of the file, in the words of the page."""

import json
import re

import pytest

from modelforge.config.rules.data import SETTINGS_OF_TYPE
from modelforge.config.schema.data import Source
from modelforge.paths import Home
from tests.data.formats.workbooks import write_workbook
from ui.pages.train import column_mapping, data_actions, response
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
    assert fields == column_mapping.LABELS.keys()


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
    assert shown["system"] == column_mapping.SYSTEM_ROLE
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


def test_columns_of_ids_are_roles_by_which_rows_are_joined(tmp_path):
    path = tmp_path / "chains.jsonl"
    rows = [{"nr": n, "after": n - 1 or None, "prompt": "a", "completion": "b"} for n in (1, 2)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    source = {"path": str(path), "id_field": "nr", "parent_field": "after"}
    found = read_columns(Home(tmp_path / "home"), source)
    assert roles(source, found)["after"] == "parent_field"
    assert roles(source, found)["history"] == "detected:Earlier messages"
    assert "H2O's rows with parent ids" in found.mapping.reason
    assert len(found.rows) == 1
    page = column_mapping.editor([source], [found])
    assert re.search(r'<option value="parent_field"[^>]* selected>Id of the row before', page)


def test_every_field_of_a_source_has_a_help_line():
    keys = {"role": "from"}
    chat = {"sheet": "A", "chat_person": "Ben", "chat_pause": 2, "chat_mask": True}
    page = editor(type="conversation", message_property_mappings=keys, **chat)
    fields = re.findall(r'id="(map-[^"]+)" data-map="[^"]+" aria-describedby="([^"]+)"', page)
    assert len(fields) == page.count("data-map=") > len(column_mapping.MORE)
    for name, described in fields:
        assert re.search(rf'id="{re.escape(described)}">[A-Z][^<]+\.<', page), name


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


PAIR = {"question": "Wo?", "answer": "Hier, im dritten Regal von links.", "note": "laut", "n": 1}
MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("row", "settings", "expected"),
    [
        (PAIR, {}, {"note": ["Input", "System prompt"], "n": ["Input", "System prompt"]}),
        (
            PAIR,
            {"type": "instruction", "instruction_field": "question", "output_field": "answer"}
            | {"input_field": "note"},
            {"n": ["System prompt"]},
        ),
        (
            PAIR,
            {"system_prompt_type": "field", "system_prompt_field": "note"},
            {"n": ["Input"]},
        ),
        (
            PAIR,
            {"system_prompt_type": "fixed", "system_prompt": "x"},
            {c: ["Input"] for c in ("note", "n")},
        ),
        (
            {"messages": MESSAGES, "calls": [{"name": "f"}], "who": "me"},
            {},
            {"calls": ["Tools"], "who": ["System prompt"]},
        ),
        (
            {"Frage": "a", "Liste": json.dumps(MESSAGES)},
            {"type": "auto"},
            {"Frage": ["Question", "Answer", "Text"], "Liste": ["Conversation"]},
        ),
        (
            {"Frage": "a", "Antwort": "b"},
            {},
            {"Frage": ["Question", "Answer", "Text"], "Antwort": ["Question", "Answer", "Text"]},
        ),
        (
            {"Frage": "a", "Antwort": "b"},
            {"type": "instruction", "instruction_field": "Frage"},
            {"Antwort": ["Input", "Answer", "System prompt"]},
        ),
        ({"document": "a", "summary": "b", "more": "c"}, {}, {}),
        ({"text": "a", "more": "c"}, {}, {}),
    ],
)
def test_an_unused_column_offers_the_roles_that_are_free(tmp_path, row, settings, expected):
    source = a_file(tmp_path, row) | settings
    found = read_columns(Home(tmp_path / "home"), source)
    offered = column_mapping.fitting_roles(source, found)
    assert {name: sorted(labels.values()) for name, labels in offered.items()} == {
        name: sorted(labels) for name, labels in expected.items()
    }
    page = column_mapping.editor([source], [found])
    assert page.count('data-action="give-role"') == sum(map(len, offered.values()))


@pytest.mark.parametrize("label", ["Input", "System prompt"])
def test_a_role_that_is_given_is_read(forge, tmp_path, label):
    rows = [
        {"question": f"Wo ist {n}?", "answer": f"Im Regal {n}, links.", "note": f"Nummer {n} eilt."}
        for n in range(12)
    ]
    source = a_file(tmp_path, *rows)
    found = read_columns(Home(tmp_path / "home"), source)
    (setting,) = (n for n, text in column_mapping.fitting_roles(source, found)["note"].items()
                  if text == label)  # fmt: skip
    given = {"type": "instruction", "instruction_field": "question", "output_field": "answer"}
    given |= {setting: "note"}
    if setting == column_mapping.SYSTEM_ROLE:
        given["system_prompt_type"] = "field"
    entered = Entered(
        show_models=False, values={"dataset": source["path"], "data.sources": [source | given]}
    )
    reply = response.reply(forge, entered)
    assert reply.data.is_usable, reply.parts["reading"]
    assert f'<option value="{setting}" data-types' in reply.parts["mapping"]
    assert reply.parts["mapping"].count(f"selected>{label}<") == 1
    assert "Not used" not in reply.parts["reading"]


def test_the_checks_offer_roles_for_columns_that_may_belong_to_the_rows(forge, tmp_path):
    rows = [{"question": f"Wo {n}?", "answer": f"Dort {n}.", "hint": f"<i>{n}</i>", "id": n}
            for n in range(12)]  # fmt: skip
    source = a_file(tmp_path, *rows)
    reply = data_actions.check(forge, Entered(values={"dataset": source["path"]}))
    assert 'aria-label="Use hint as Input">hint as Input<' in reply.parts["checks"]
    assert "Use id as" not in reply.parts["checks"]


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


def test_a_file_is_read_again_only_when_it_or_its_settings_change(tmp_path, monkeypatch):
    read = []

    def count(*arguments):
        read.append(arguments)
        return read_file_rows(*arguments)

    read_file_rows = column_mapping.read_file_rows
    monkeypatch.setattr(column_mapping, "read_file_rows", count)
    path, home = tmp_path / "rows.jsonl", Home(tmp_path / "home")
    path.write_text('{"input": "a", "output": "b"}\n', "utf-8")
    source = {"path": str(path)}
    assert read_columns(home, source) == read_columns(home, source)
    assert len(read) == 1
    read_columns(home, source | {"output_field": "output"})
    assert len(read) == 2
    path.write_text('{"input": "a", "output": "b", "more": "c"}\n', "utf-8")
    assert read_columns(home, source).columns == ["input", "output", "more"]
    assert len(read) == 3


CHAT = "31.12.23, 22:00 - Ben: a\n31.12.23, 22:01 - <b>Anna: b\n31.12.23, 22:02 - Ben: c\n"


def test_the_persons_of_a_chat_export_are_offered(tmp_path):
    path = tmp_path / "chat.txt"
    path.write_text(CHAT, encoding="utf-8")
    found = read_columns(Home(tmp_path / "home"), {"path": str(path)})
    assert found.choices == {"chat_person": ["Ben", "<b>Anna"]}
    assert not found.columns
    page = column_mapping.editor([{"path": "chat.txt"}], [found])
    assert '<option value="&lt;b&gt;Anna">' in page
    assert "Who shall the model be?" in page
    assert 'data-name="chat_person" data-value="&lt;b&gt;Anna"' in page
    assert 'data-map="chat_mask"' in page
    chosen = {"path": str(path), "chat_person": "Ben", "chat_mask": "true"}
    found = read_columns(Home(tmp_path / "home"), chosen)
    assert found.columns == ["messages"]
    page = column_mapping.editor([chosen], [found])
    assert '<option value="Ben" selected>' in page
    assert '<option value="true" selected>yes' in page
    assert "Who shall the model be?" not in page


def test_the_sheets_of_a_workbook_are_offered(tmp_path):
    rows = [["prompt", "completion"], ["a", "b"]]
    path = write_workbook(tmp_path / "a.xlsx", {"Trees": rows, "Birds": rows})
    found = read_columns(Home(tmp_path / "home"), {"path": str(path)})
    assert found.choices == {"sheet": ["Trees", "Birds"]}
    page = column_mapping.editor([{"path": "a.xlsx"}], [found])
    assert '<option value="Birds">' in page
    assert "chat_person" not in page
    assert 'data-map="sheet"' not in editor()


def test_the_upload_of_a_chat_is_kept_until_a_person_is_chosen(forge):
    reply = data_actions.store_upload(forge, "chat.txt", iter([CHAT.encode()]))
    assert reply.dataset == "chat.txt"
    assert (forge.home.uploads / "chat.txt").is_file()
