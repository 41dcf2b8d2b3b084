"""The row editor of the data card shows a row by its number, and writes copies."""

from __future__ import annotations

import json

import pytest

from modelforge.errors import NotFoundError
from ui.pages.train import row_editor


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"question": f"<b>q{n}</b>", "answer": f"a{n}", "n": n} for n in range(1, 5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


@pytest.fixture
def functions(forge):
    return {each.__name__: each for each in row_editor.functions(forge)}


def test_a_row_is_shown_with_its_place_and_its_columns(functions, path):
    reply = functions["show_row"]({"sources": [{"path": path}], "row": 3})
    part = reply.parts["row-editor"]
    assert "rows.jsonl, line 3" in part
    assert "&lt;b&gt;q3&lt;/b&gt;" in part
    assert "<b>q3" not in part
    assert 'value="3"' in part
    assert part.count("data-row-column") == 3
    assert part.count("JSON") == 1


@pytest.mark.parametrize(("row", "shown"), [(-4, 1), (99, 4), ("x", 1)])
def test_a_number_outside_of_the_data_shows_the_nearest_row(functions, path, row, shown):
    reply = functions["show_row"]({"sources": [{"path": path}], "row": row})
    assert f'value="{shown}"' in reply.parts["row-editor"]


def test_edits_are_shown_at_their_row(functions, path):
    request = {"sources": [{"path": path}], "row": 2, "changed": {"2": {"answer": "New."}}}
    assert "New." in functions["show_row"](request).parts["row-editor"]
    assert "Undo changes" in functions["show_row"](request).parts["row-editor"]
    out = functions["show_row"]({**request, "left_out": [2]}).parts["row-editor"]
    assert "Use it again" in out
    assert "Save the row" not in out


def test_copies_take_the_place_of_the_sources(functions, forge, path):
    stated = [{"path": path, "weight": 2.0, "encoding": "utf-8"}, {"path": "sample:captain"}]
    reply = functions["edit_rows"]({"sources": stated, "left_out": [1, 2]})
    edited, other = reply.sources
    assert edited["path"].startswith("rows.edited-")
    assert edited["weight"] == 2.0
    assert "encoding" not in edited
    assert other == stated[1]
    assert reply.toast == "The next run uses a copy: 2 rows left out."
    rows = (forge.home.uploads / edited["path"]).read_text("utf-8").splitlines()
    # With weight 2 each row has two numbers.
    assert [json.loads(row)["n"] for row in rows] == [2, 3, 4]


def test_without_edits_the_sources_stay(functions, path):
    stated = [{"path": path}]
    assert functions["edit_rows"]({"sources": stated, "left_out": []}).sources == stated


def test_a_row_that_does_not_exist_is_refused(functions, path):
    with pytest.raises(NotFoundError):
        functions["edit_rows"]({"sources": [{"path": path}], "left_out": [5]})


@pytest.mark.parametrize(
    "request_", [None, {"left_out": "1", "changed": 3}, {"left_out": [True, -1, "2"], "seed": "x"}]
)
def test_wrong_requests_have_no_edits(request_):
    assert not row_editor.read_edits(request_).numbers
    assert row_editor.read_seed(request_) == 42
