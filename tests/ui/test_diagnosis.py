"""The doctor's list: counts, places and buttons."""

from ui import diagnosis


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
    what, where = diagnosis.parted(finding())
    assert what == "12 rows have an answer equal to its question."
    assert where == "lines 40, 41, 77 and 9 more"


def test_a_sentence_without_places_stays_whole():
    assert diagnosis.parted(finding(what="Not JSON: line ends.")) == ("Not JSON: line ends.", "")


def test_a_finding_shows_its_count_and_the_button_that_mends_it():
    page = diagnosis.part([file(finding())])
    assert ">12 rows</span>" in page
    assert 'data-code="answer-is-question"' in page
    assert ">Leave them out</button>" in page


def test_what_cannot_be_mended_has_no_button():
    assert "<button" not in diagnosis.part([file(finding(repair=None))])


def test_several_that_can_be_mended_have_one_button_for_all():
    assert "mend-everything" in diagnosis.part([file(finding(), finding(code="b"))])
    assert "mend-everything" not in diagnosis.part([file(finding())])


def test_notes_alone_are_mended_one_by_one():
    note = finding(level="note"), finding(level="note", code="b")
    page = diagnosis.part([file(*note)])
    assert "mend-everything" not in page
    assert 'data-code="b"' in page


def test_what_is_odd_about_the_columns_is_counted_in_no_rows():
    page = diagnosis.part([file(finding(code="unknown-columns", count=1))])
    assert ">columns</span>" in page


def test_blockers_come_first_and_redden_the_tab():
    files = [file(finding(), finding(code="bad", level="blocker", what="Line 3 is not JSON."))]
    assert diagnosis.findings(files)[0]["code"] == "bad"
    assert "chip bad" in diagnosis.chip(files)
    assert ">2<" in diagnosis.chip(files)


def test_notes_are_listed_but_not_counted():
    files = [file(finding(level="note"))]
    assert diagnosis.chip(files) == ""
    assert "12 rows" in diagnosis.part(files)


def test_nothing_odd_is_said_in_words():
    assert "Nothing odd" in diagnosis.part([file()])


def test_foreign_text_is_never_markup():
    page = diagnosis.part([file(finding(what="has <img src=x>", file="<b>.jsonl"))])
    assert "<img" not in page
    assert "<b>" not in page
