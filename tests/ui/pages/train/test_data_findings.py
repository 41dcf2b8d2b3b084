"""Findings of the data checks: counts, places and buttons."""

from modelforge.data.checks.run import check_file
from ui.html.markup import Markup
from ui.pages.train import data_findings


def finding(**changes):
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
    return usual | changes


def file(*findings):
    return {"findings": list(findings), "stats": {}}


def test_the_places_are_split_from_the_sentence():
    what, where = data_findings.split_places(finding())
    assert what == "12 rows have an answer equal to its question."
    assert where == "lines 40, 41, 77 and 9 more"


def test_a_sentence_without_places_stays_whole():
    assert data_findings.split_places(finding(what="Not JSON: line ends.")) == (
        "Not JSON: line ends.",
        "",
    )


def test_a_finding_shows_its_count_and_its_repair():
    page = data_findings.part([file(finding())])
    assert ">12 rows</span>" in page
    assert 'data-code="answer-is-question"' in page
    assert ">Remove them</button>" in page


def test_a_finding_without_repair_has_no_button():
    assert "<button" not in data_findings.part([file(finding(repair=None))])


def test_several_repairs_have_one_button_for_all():
    assert "repair-everything" in data_findings.part([file(finding(), finding(code="b"))])
    assert "repair-everything" not in data_findings.part([file(finding())])


def test_notes_are_repaired_one_by_one():
    notes = finding(level="note"), finding(level="note", code="b")
    page = data_findings.part([file(*notes)])
    assert "repair-everything" not in page
    assert 'data-code="b"' in page


def test_findings_on_columns_have_no_row_count():
    page = data_findings.part([file(finding(code="unknown-columns", count=1))])
    assert ">columns</span>" in page


def test_blockers_come_first_and_color_the_tab():
    files = [file(finding(), finding(code="bad", level="blocker", what="Line 3 is not JSON."))]
    assert data_findings.findings(files)[0]["code"] == "bad"
    assert "chip bad" in data_findings.count_chip(files)
    assert ">2<" in data_findings.count_chip(files)


def test_the_tab_counts_every_finding_and_has_the_color_of_the_most_severe():
    notes = [file(finding(level="note"), finding(level="note", code="b"))]
    assert data_findings.count_chip(notes).startswith('<span class="chip plain">2<')
    with_caution = [file(finding(level="note"), finding())]
    assert data_findings.count_chip(with_caution).startswith('<span class="chip warn">2<')
    assert data_findings.count_chip([file()]) == ""


def test_a_finding_counts_what_it_is_about(tmp_path):
    path = tmp_path / "odd.csv"
    rows = "".join(f"Größe {n}?;Süß {n}.\n" for n in range(30))
    path.write_bytes(f"question;answer\n{rows}Größe 1?;Anders.\n".encode("cp1252"))
    result = check_file(path).as_dict()
    codes = {each["code"]: data_findings._label(each) for each in result["findings"]}
    assert codes == {
        "guessed-encoding": "file", "other-delimiter": "file", "other-answers": "1 row"
    }  # fmt: skip
    path = tmp_path / "cut.jsonl"
    path.write_text('{"question": "a?", "answer": "b"}\n{broken\n{broken\n', encoding="utf-8")
    labels = [data_findings._label(each) for each in check_file(path).as_dict()["findings"]]
    assert labels == ["2 lines", "1 row"]


def test_the_statistics_name_scripts_and_one_character():
    stats = {"rows": 2, "skipped": 0, "mean_answer_chars": 1.0, "scripts": {"none": 1.0}}
    page = data_findings.part([{"findings": [], "stats": stats}])
    assert "1 character on average" in page
    assert "no letters 100 %" in page


def test_no_findings_are_a_sentence():
    assert "No problems" in data_findings.part([file()])


def test_text_of_files_is_never_markup():
    page = data_findings.part([file(finding(what="has <img src=x>", file="<b>.jsonl"))])
    assert "<img" not in page
    assert "<b>" not in page


def test_a_repair_says_how_many_rows_it_fixes_and_removes():
    page = data_findings.part([file(finding(fixes=3, removes=1))])
    assert "The repair fixes 3 and removes 1." in page
    assert "The repair fixes" not in data_findings.part([file(finding())])


def test_unused_columns_have_buttons_that_give_them_a_role():
    unused = finding(code="unused-columns", level="caution", repair=None)
    assert 'data-action="mapping-show"' in data_findings.part([file(unused)])
    given = data_findings.part([file(unused)], {unused["file"]: Markup("<b>roles</b>")})
    assert "<b>roles</b>" in given
    assert "mapping-show" not in given
