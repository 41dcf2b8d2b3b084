"""The list of runs: read once, noticed when it changes, kept for the next process."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from modelforge.errors import BusyError, ConfigError
from modelforge.paths import Home
from modelforge.runs.index import Index, kept_file
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunFilter
from modelforge.runs.store import Store
from modelforge.runs.view import read_row
from tests.runs.homes import put_run


class Counted:
    """Looks at runs and remembers which."""

    def __init__(self):
        self.seen = []

    def __call__(self, folder: RunFolder):
        self.seen.append(folder.id)
        return read_row(folder)

    def take(self):
        seen, self.seen = self.seen, []
        return seen


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def look():
    return Counted()


def rows(index):
    _version, settled, moving = index.rows()
    return {row.id: row for row in (*settled, *moving)}


def test_who_looks_at_each_run_itself_does_not_have_the_rows_read_again(home, look):
    run = put_run(home.root, ending=None)
    run.process.write_text(json.dumps({"launching": time.time()}))
    run.events.unlink()
    index = Index(home, look)
    for _ in range(5):
        assert index.unsettled(thorough=True) == [run]
    assert look.take() == [run.id]
    for _ in range(3):
        rows(index)
    assert look.take() == [run.id] * 3


def test_a_settled_run_is_read_once(home, look):
    runs = [put_run(home.root, number) for number in range(3)]
    index = Index(home, look)
    assert set(rows(index)) == {run.id for run in runs}
    assert len(look.take()) == 3
    for _ in range(5):
        rows(index)
    assert look.take() == []


def test_the_next_process_reads_what_was_kept(home, look):
    for number in range(40):
        put_run(home.root, number)
    before = rows(Index(home, look))
    assert kept_file(home).is_file()
    look.take()
    assert rows(Index(home, look)) == before
    assert look.take() == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 0, "rows": []}', '{"format": 1, "rows": [["x", 1, {}]]}']
)
def test_a_kept_list_that_is_of_no_use_costs_only_time(home, look, text):
    run = put_run(home.root)
    kept_file(home).parent.mkdir(parents=True)
    kept_file(home).write_text(text)
    assert set(rows(Index(home, look))) == {run.id}


def test_new_and_deleted_runs_are_noticed(home, look):
    first = put_run(home.root, 1)
    index = Index(home, look)
    rows(index)
    second = put_run(home.root, 2, settled=False)
    assert set(rows(index)) == {first.id, second.id}
    Store(home).delete(first.id)
    assert set(rows(index)) == {second.id}


def test_notes_are_seen_by_every_server(home, look):
    run = put_run(home.root)
    index = Index(home, look)
    rows(index)
    Store(home).annotate(run.id, name="The good one", tags=["keep"])
    assert rows(index)[run.id].name == "The good one"
    assert rows(index)[run.id].tags == ("keep",)


def test_a_run_that_goes_on_again_is_noticed_without_a_word(home, look):
    """A folder that changes while the list's own does not is found in turn."""
    run = put_run(home.root)
    index = Index(home, look)
    assert index.unsettled() == []
    before = (home.runs.stat().st_atime_ns, home.runs.stat().st_mtime_ns)
    with run.events.open("a") as file:
        record = {"n": 99, "t": time.time(), "kind": "started", "data": {}}
        file.write(json.dumps(record) + "\n")
    run.path.joinpath("draft").write_text("{}")
    os.utime(home.runs, ns=before)
    assert index.unsettled(thorough=True) == [run]
    for _ in range(3):
        found = rows(index)
    assert found[run.id].state == "lost"


def test_active_and_fresh_runs_are_looked_at_every_time(home, look):
    run = put_run(home.root, ending=None)
    run.process.write_text(json.dumps({"launching": time.time()}))
    run.events.unlink()
    index = Index(home, look)
    assert rows(index)[run.id].state == "starting"
    assert index.unsettled() == [run]
    look.take()
    rows(index)
    assert look.take() == [run.id]


def test_a_waiting_run_is_read_again_only_when_it_changes(home, look):
    run = put_run(home.root, ending=None)
    run.process.unlink()
    run.events.unlink()
    long_ago = time.time() - 60
    os.utime(run.path, (long_ago, long_ago))
    os.utime(home.runs, (long_ago, long_ago))
    index = Index(home, look)
    assert rows(index)[run.id].state == "queued"
    look.take()
    rows(index)
    assert look.take() == []
    assert index.unsettled() == [run]
    (run.path / "stop").write_text("keep")
    assert rows(index)[run.id].state == "stopped"


def test_what_is_no_run_or_damaged_is_not_listed(home, look):
    run = put_run(home.root)
    (home.runs / "broken").mkdir()
    (home.runs / "broken" / "config.json").write_text("{")
    empty = put_run(home.root, 5)
    empty.config.write_text("{}")
    (home.runs / ".new-x").mkdir()
    (home.runs / "file.txt").write_text("x")
    index = Index(home, look)
    assert set(rows(index)) == {run.id}
    # Somebody may work on a run whose record nobody can read.
    assert [folder.id for folder in index.unsettled()] == [empty.id, "broken"]


def test_a_home_that_is_emptied_is_an_empty_list(home, look):
    put_run(home.root)
    index = Index(home, look)
    rows(index)
    shutil.rmtree(home.runs)
    assert rows(index) == {}


def test_rows_are_searched_filtered_and_sorted(home, look):
    put_run(home.root, 1, name="Captain one", held=[2.0], strategy="dpo")
    put_run(home.root, 2, name="captain Two", ending="failed", held=[1.0])
    put_run(home.root, 3, name="other", losses=[1.0] * 20, dataset="/data/mine.csv")
    _version, settled, _moving = Index(home, look).rows()

    def names(**wanted):
        asked = RunFilter(**wanted)
        return [row.name for row in asked.in_order(asked.matching(settled))]

    assert names() == ["Captain one", "captain Two", "other"]
    assert names(reverse=True) == ["other", "captain Two", "Captain one"]
    assert names(query="CAPTAIN two") == ["captain Two"]
    assert names(query="mine.csv") == ["other"]
    assert names(states=frozenset({"failed"})) == ["captain Two"]
    assert names(strategy="dpo") == ["Captain one"]
    assert names(data="mine.csv") == ["other"]
    assert names(has_result=False) == ["captain Two"]
    assert names(sort="loss") == ["captain Two", "Captain one", "other"]
    assert names(sort="name", reverse=True) == ["other", "captain Two", "Captain one"]
    assert names(sort="duration")[0] == "other"
    assert names(sort="size")[-1] == "captain Two"
    for bad in ({"sort": "x"}, {"states": frozenset({"x"})}):
        with pytest.raises(ConfigError):
            RunFilter(**bad)


def test_what_another_server_starts_and_stops_is_seen(stage, look):
    """A run that waited is launched by one server; another, which has listed it, is told."""
    run = put_run(stage.home.root, ending=None)
    run.process.unlink()
    run.events.unlink()
    settled = put_run(stage.home.root, 2)
    index = Index(stage.home, look)
    watching = stage.playing("obeys", index=index)
    assert watching.holder() is None
    starting = stage.playing("obeys")
    starting.start(run)
    assert watching.holder() == run
    with pytest.raises(BusyError):
        watching.require_free()
    starting.stop(run)
    stage.until(lambda: watching.holder() is None, "an end")
    assert rows(index)[run.id].state == "stopped"
    assert rows(index)[settled.id].state == "finished"


def test_a_request_is_known_however_many_runs_there_are(home, look):
    runs = [put_run(home.root, number) for number in range(5)]
    store = Store(home, index=Index(home, look))
    assert store.find_request("r3") == runs[3]
    assert store.find_request("nobody") is None
    store.delete(runs[3].id)
    assert store.find_request("r3") is None


def test_listing_many_runs_again_reads_none_of_them(home, look):
    for number in range(150):
        put_run(home.root, number, settled=False)
    long_ago = time.time() - 60
    for path in (*home.runs.iterdir(), home.runs):
        os.utime(path, (long_ago, long_ago))
    index = Index(home, look)
    assert len(rows(index)) == 150
    put_run(home.root, 150, settled=False)
    look.take()
    rows(index)
    # One is new; the others' folders are compared, and nothing in them is read.
    assert len(look.take()) == 1
