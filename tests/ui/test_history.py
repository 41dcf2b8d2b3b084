"""Runs, Compare and Storage as they are drawn."""

from __future__ import annotations

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.listing import Wanted
from tests.runs.homes import put_run
from ui.html import format as words
from ui.pages import compare, storage
from ui.pages.runs import table
from ui.pages.runs.page import wanted_in

FOUL = '"><script>alert(1)</script>'


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"))
    yield made
    made.close()


def test_an_empty_list_says_what_to_do(forge):
    page = forge.archive.page()
    assert "No runs yet" in table.listing(page)
    assert table.filters(page, Wanted(), "") == ""
    put_run(forge.home.root)
    assert "No run matches" in table.listing(forge.archive.page(Wanted(query="nobody")))


def test_a_line_tells_cause_size_tags_and_note(forge):
    run = put_run(forge.home.root, name="mine", ending="failed")
    forge.archive.annotate(run.id, tags=["keep"], note="Try a smaller batch.")
    drawn = table.listing(forge.archive.page())
    for told in ("failed", "Memory ran out.", "KiB", "#keep", "Try a smaller batch."):
        assert told in drawn


def test_nothing_that_people_write_becomes_markup(forge):
    runs = [put_run(forge.home.root, n, dataset=FOUL, model_name=FOUL) for n in range(2)]
    for run in runs:
        forge.archive.annotate(run.id, name=FOUL, tags=[FOUL[:30]], note=FOUL)
    page = forge.archive.page()
    parts = [
        table.listing(page),
        table.filters(page, Wanted(), ""),
        *compare.shown(forge.archive.compare([run.id for run in runs]), "step").values(),
        *storage.parts(forge.archive.storage()).values(),
    ]
    assert not any("<script" in part for part in parts)


def test_only_what_occurs_can_be_chosen(forge):
    put_run(forge.home.root, 1)
    put_run(forge.home.root, 2, ending=None)
    drawn = table.filters(forge.archive.page(), Wanted(), "failed")
    assert "Finished" in drawn
    assert "Stopped" not in drawn
    assert drawn.count('aria-pressed="true"') == 1


def test_the_rest_of_a_long_list_is_offered(forge):
    for number in range(4):
        put_run(forge.home.root, number)
    assert "2 of 4 runs" in table.more(forge.archive.page(limit=2))
    assert table.more(forge.archive.page(limit=4)) == ""


@pytest.mark.parametrize("sent", [None, [], {"sort": "x", "group": "x", "query": 3}])
def test_what_the_browser_cannot_mean_asks_for_nothing(sent):
    """What only waits is no part of the list."""
    assert wanted_in(sent) == wanted_in({})
    assert wanted_in({}).states >= {"running", "finished", "lost"}
    assert "queued" not in wanted_in({}).states


def test_groups_are_states(forge):
    assert wanted_in({"group": "failed"}).states == {"failed", "lost"}


def test_runs_are_drawn_over_each_other(forge):
    ids = [put_run(forge.home.root, number, name="same", held=[1.5, 2.0 - number]).id
           for number in range(2)]  # fmt: skip
    verdicts = [forge.aid.verdict(one) for one in ids]
    drawn = compare.shown(forge.archive.compare(ids), "tokens", verdicts)["compared"]
    assert drawn.count("<svg") == 3
    assert verdicts[0].text in drawn
    assert 'data-unit="tokens"' in drawn
    # The lower one of two is marked; runs of one name are told apart.
    assert drawn.count("lowest") == 2
    assert f"same ({ids[0]})" in drawn
    assert "All settings are the same." in drawn


def test_the_chosen_run_is_offered_however_old_it_is(forge, monkeypatch):
    runs = [put_run(forge.home.root, number) for number in range(3)]
    put_run(forge.home.root, 4, ending="failed")
    monkeypatch.setattr(table, "MOST_OFFERED", 1)
    assert [run.id for run in table.with_result(forge, "")] == [runs[0].id]
    assert [run.id for run in table.with_result(forge, runs[2].id)] == [runs[0].id, runs[2].id]
    assert [run.id for run in table.with_result(forge, "nobody")] == [runs[0].id]


def test_storage_shows_what_can_go_and_what_is_lost(forge):
    put_run(forge.home.root, 1, checkpoints=[1])
    put_run(forge.home.root, 2, checkpoints=[1], ending="failed", name="torn")
    drawn = storage.parts(forge.archive.storage())["storage"]
    assert "Checkpoints of finished runs (1 run)" in drawn
    assert "cannot go on" in drawn
    # One button for all, one for the finished run, none for the other.
    assert drawn.count('data-kind="checkpoints"') == 2
    assert storage.freed(5000) == "4.9 KiB are free now."
    assert "nothing" in storage.freed(0)


@pytest.mark.parametrize(
    ("held", "told"),
    [(None, "–"), (0, "0 B"), (1500, "1.5 KiB"), (34 * 2**20, "34 MiB"), (3 * 2**30, "3.0 GiB")],
)
def test_sizes_are_said_in_the_unit_that_suits_them(held, told):
    assert words.size(held) == told
