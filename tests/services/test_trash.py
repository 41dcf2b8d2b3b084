"""Deleted runs: restored unchanged, refused where they are needed, and removed in the end."""

from __future__ import annotations

import os
import time

import pytest

from modelforge.errors import BusyError, ConfigError, NotFoundError, RunError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs import trash
from tests.runs.homes import put_run


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"))
    yield made
    made.close()


def listed(forge):
    return [row.id for row in forge.history.page().rows]


def deleted(forge):
    return {run.id for run in forge.trash.runs()}


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_deleted_runs_are_restored_unchanged(forge):
    runs = [put_run(forge.home.root, number, checkpoints=[3]).id for number in range(3)]
    before = content(forge.home.runs / runs[0])
    forge.trash.delete(runs[:2])
    assert listed(forge) == runs[2:]
    assert deleted(forge) == set(runs[:2])
    with pytest.raises(NotFoundError):
        forge.runs.view(runs[0])
    forge.trash.restore(runs[:2])
    assert listed(forge) == runs
    assert deleted(forge) == set()
    assert content(forge.home.runs / runs[0]) == before


def test_all_runs_are_deleted_or_none(forge):
    run = put_run(forge.home.root, 1).id
    with pytest.raises(NotFoundError):
        forge.trash.delete([run, "20260101-000000-ffff"])
    assert listed(forge) == [run]
    forge.trash.delete([run])
    with pytest.raises(NotFoundError):
        forge.trash.restore([run, "20260101-000000-ffff"])
    assert deleted(forge) == {run}


@pytest.mark.parametrize("run_id", ["..", ".", "", ".deleted", "a/b", "../runs", "/etc"])
def test_an_id_that_is_a_path_leads_nowhere(forge, run_id):
    forge.trash.delete([put_run(forge.home.root, 1).id])
    for act in (forge.trash.delete, forge.trash.restore):
        with pytest.raises(NotFoundError):
            act([run_id])


def test_runs_in_progress_or_in_the_queue_are_refused_by_name(forge):
    active = put_run(forge.home.root, 1, name="Active")
    active.events.write_text("")
    active.process.write_text(f'{{"launching": {time.time()}}}')
    waiting = put_run(forge.home.root, 2, name="Waiting")
    for path in (waiting.process, waiting.events, waiting.log):
        path.unlink()
    resumes = put_run(forge.home.root, 3, name="Resumes", ending="stopped")
    resumes.process.write_text('{"pid": 999999, "birth": 1.0, "launched": 5.0}')
    forge.queue.add_resume(resumes.id)
    other = put_run(forge.home.root, 4)
    with pytest.raises(BusyError) as caught:
        forge.trash.delete([other.id, active.id, waiting.id, resumes.id])
    text = str(caught.value)
    assert "“Active” is in progress" in text
    assert "“Waiting” waits in the queue" in text
    assert "“Resumes” waits in the queue" in text
    assert deleted(forge) == set()


def test_a_run_that_others_build_on_is_refused_by_their_names(forge):
    base = put_run(forge.home.root, 1, name="Base")
    unfinished = put_run(
        forge.home.root, 2, name="Second", ending="failed", adapter={"start_from": base.id}
    )
    with pytest.raises(BusyError, match="“Base” cannot be deleted: “Second” starts from its"):
        forge.trash.delete([base.id])
    on_model = put_run(forge.home.root, 3, name="Third", model_name=str(base.output))
    with pytest.raises(BusyError, match="“Third” was trained on its model"):
        forge.trash.delete([base.id, unfinished.id])
    forge.trash.delete([base.id, unfinished.id, on_model.id])
    assert listed(forge) == []


def test_a_finished_run_keeps_nobody_from_deleting_the_adapter_it_began_with(forge):
    base = put_run(forge.home.root, 1)
    put_run(forge.home.root, 2, adapter={"start_from": base.id})
    forge.trash.delete([base.id])
    assert deleted(forge) == {base.id}


def test_old_and_too_large_trash_is_removed(forge, monkeypatch):
    runs = [put_run(forge.home.root, number, checkpoints=[1]).id for number in range(4)]
    forge.trash.delete(runs)
    folder, now = forge.home.runs / trash.FOLDER, time.time()
    ages = (60.0, 2 * trash.UNDO_S, 3 * trash.UNDO_S, trash.KEPT_S + 60)
    for run, age in zip(runs, ages, strict=True):
        os.utime(folder / run, (now - age, now - age))
    forge.trash.tend()
    assert deleted(forge) == set(runs[:3])
    # The newest two fit; only the oldest exceeds the limit.
    newest, second, _oldest = forge.trash.runs()
    monkeypatch.setattr(trash, "MAX_BYTES", newest.bytes + second.bytes)
    forge.trash._trash.expire()
    assert deleted(forge) == set(runs[:2])
    # What was deleted a minute ago can be restored, however large it is.
    monkeypatch.setattr(trash, "MAX_BYTES", 0)
    forge.trash._trash.expire()
    assert deleted(forge) == {runs[0]}


def test_the_trash_is_counted_and_emptied(forge, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("keep")
    run = put_run(forge.home.root, 1, checkpoints=[3])
    (run.path / "link").symlink_to(outside)
    kept = put_run(forge.home.root, 2)
    forge.trash.delete([run.id])
    usage = forge.storage.usage()
    held = next(kind.bytes for kind in usage.kinds if kind.kind == "deleted")
    assert held > 5000
    assert ("deleted", held, 1) in [(item.kind, item.bytes, item.runs) for item in usage.freeable]
    assert forge.storage.free("deleted") == held
    assert deleted(forge) == set()
    assert listed(forge) == [kept.id]
    assert (outside / "mine").read_text() == "keep"


def test_a_link_in_place_of_the_trash_is_not_followed(forge, tmp_path):
    outside = tmp_path / "outside" / "20260101-000000-0001"
    outside.mkdir(parents=True)
    forge.home.runs.mkdir(parents=True, exist_ok=True)
    (forge.home.runs / trash.FOLDER).symlink_to(outside.parent)
    assert forge.trash.runs() == []
    assert forge.storage.free("deleted") == 0
    run = put_run(forge.home.root, 2)
    with pytest.raises(RunError, match="is a link"):
        forge.trash.delete([run.id])
    assert run.config.exists()
    assert outside.exists()


def test_tags_are_added_to_several_runs_or_to_none(forge):
    runs = [put_run(forge.home.root, number).id for number in range(2)]
    forge.history.annotate(runs[0], tags=["old"])
    forge.history.tag(runs, ["Keep", "#good"])
    assert forge.history.row(runs[0]).tags == ("old", "keep", "good")
    assert forge.history.row(runs[1]).tags == ("keep", "good")
    with pytest.raises(ConfigError):
        forge.history.tag(runs, [f"t{number}" for number in range(10)])
    assert forge.history.row(runs[1]).tags == ("keep", "good")
