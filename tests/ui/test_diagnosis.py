"""The doctor's list: counts, places and buttons."""

from ui.pages.train import data_findings


def finding(**told):
    usual = {
        "code": "answer-is-question",
        "level": "caution",
        "what": "12 rows have an answer equal to its question: lines 40, 41, 77 and 9 more.",
        "remedy": "Remove these rows.",
        "file": "a.jsonl",
        "count": 12,
        "places": [(40, None)],
        "repair": "Leave these rows out.",
    }
    return usual | told


def file(*found):
    return {"findings": list(found), "stats": {}}


def test_the_places_stand_below_the_sentence():
    what, where = data_findings.parted(finding())
    assert what == "12 rows have an answer equal to its question."
    assert where == "lines 40, 41, 77 and 9 more"


def test_a_sentence_without_places_stays_whole():
    assert data_findings.parted(finding(what="Not JSON: line ends.")) == (
        "Not JSON: line ends.",
        "",
    )


def test_a_finding_shows_its_count_and_the_button_that_mends_it():
    page = data_findings.part([file(finding())])
    assert ">12 rows</span>" in page
    assert 'data-code="answer-is-question"' in page
    assert ">Leave them out</button>" in page


def test_what_cannot_be_mended_has_no_button():
    assert "<button" not in data_findings.part([file(finding(repair=None))])


def test_several_that_can_be_mended_have_one_button_for_all():
    assert "mend-everything" in data_findings.part([file(finding(), finding(code="b"))])
    assert "mend-everything" not in data_findings.part([file(finding())])


def test_notes_alone_are_mended_one_by_one():
    note = finding(level="note"), finding(level="note", code="b")
    page = data_findings.part([file(*note)])
    assert "mend-everything" not in page
    assert 'data-code="b"' in page


def test_what_is_odd_about_the_columns_is_counted_in_no_rows():
    page = data_findings.part([file(finding(code="unknown-columns", count=1))])
    assert ">columns</span>" in page


def test_blockers_come_first_and_redden_the_tab():
    files = [file(finding(), finding(code="bad", level="blocker", what="Line 3 is not JSON."))]
    assert data_findings.findings(files)[0]["code"] == "bad"
    assert "chip bad" in data_findings.chip(files)
    assert ">2<" in data_findings.chip(files)


def test_notes_are_listed_but_not_counted():
    files = [file(finding(level="note"))]
    assert data_findings.chip(files) == ""
    assert "12 rows" in data_findings.part(files)


def test_nothing_odd_is_said_in_words():
    assert "Nothing odd" in data_findings.part([file()])


def test_foreign_text_is_never_markup():
    page = data_findings.part([file(finding(what="has <img src=x>", file="<b>.jsonl"))])
    assert "<img" not in page
    assert "<b>" not in page
