"""A run as a zip file: written in one home, taken in by another, refused where it is not safe."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.errors import BusyError, ConfigError, DataError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.runs.portable import archive as archives
from modelforge.runs.states import RunState
from tests.runs.homes import put_run


@pytest.fixture
def there(tmp_path: Path) -> Forge:
    """The services of the computer on which runs are trained."""
    return Forge(Home(tmp_path / "there"))


@pytest.fixture
def here(tmp_path: Path) -> Forge:
    """The services of the computer that takes them in."""
    return Forge(Home(tmp_path / "here"))


@pytest.fixture
def run(there: Forge, tmp_path: Path) -> RunFolder:
    """A finished run on the starter and a file of rows."""
    folder = put_run(there.home.root, checkpoints=(2,))
    rows = tmp_path / "far" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text('{"input": "a", "output": "b"}\n', "utf-8")
    record = json.loads(folder.config.read_text("utf-8"))
    record["plan"]["model_path"] = str(there.home.starter_model)
    record["config"]["dataset"] = str(rows)
    entry = {
        "files": [str(rows)],
        "sha256": "x",
        "rows": 1,
        "mapping": record["dataset"]["mapping"],
        "source": {"path": str(rows)},
    }
    record["dataset"] = {"sources": [entry], "validation": []}
    folder.config.write_text(json.dumps(record), "utf-8")
    adapter = {"base_model_name_or_path": str(there.home.starter_model)}
    (folder.output / "adapter_config.json").write_text(json.dumps(adapter), "utf-8")
    return folder


@pytest.fixture
def packed(there: Forge, run: RunFolder, tmp_path: Path) -> Path:
    return there.archives.pack(run.id, tmp_path / "run.zip")


def rewritten(packed: Path, change: Callable[[zipfile.ZipFile], None], leave: str = "") -> Path:
    """Return a copy of an archive without one of its files, and with what `change` adds."""
    target = packed.with_name("changed.zip")
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            if member.filename != leave:
                new.writestr(member.filename, old.read(member))
        change(new)
    return target


def is_empty(forge: Forge) -> bool:
    return not forge.home.runs.is_dir() or not [
        path for path in forge.home.runs.iterdir() if not path.name.endswith(".lock")
    ]


def test_a_run_is_the_same_on_another_computer(here, run, packed):
    taken = here.archives.take_in(packed)
    view, folder = here.runs.view(taken), here.runs.folder(taken)
    assert taken == run.id
    assert view.state is RunState.FINISHED
    assert view.plan.model_path == str(here.home.starter_model)
    assert [point[1] for point in here.runs.timeline(taken).timeline.stage.train["loss"]] == []
    events, _offset = here.runs.events(taken)
    assert [event.data["loss"] for event in events if event.kind == "step"] == [3.0, 2.0, 1.0]
    name = "adapter_model.safetensors"
    assert (folder.output / name).read_bytes() == (run.output / name).read_bytes()
    adapter = json.loads((folder.output / "adapter_config.json").read_text("utf-8"))
    assert adapter["base_model_name_or_path"] == str(here.home.starter_model)
    assert (folder.checkpoints / "checkpoint-2" / "model.safetensors").is_file()
    assert not folder.process.exists()


def test_its_data_comes_with_it(here, packed, tmp_path):
    folder = here.runs.folder(here.archives.take_in(packed))
    record = json.loads(folder.config.read_text("utf-8"))
    (file,) = record["dataset"]["sources"][0]["files"]
    assert Path(file) == folder.data / "0" / "rows.jsonl"
    assert Path(file).read_text("utf-8").startswith('{"input"')
    assert record["config"]["dataset"] == file
    assert str(tmp_path / "far") not in folder.config.read_text("utf-8")


def test_a_folder_of_data_keeps_its_names(there, here, run, tmp_path):
    far = tmp_path / "far"
    (far / "inner").mkdir()
    (far / "inner" / "more.jsonl").write_text("{}\n", "utf-8")
    record = json.loads(run.config.read_text("utf-8"))
    entry = record["dataset"]["sources"][0]
    entry["files"].append(str(far / "inner" / "more.jsonl"))
    entry["source"]["path"] = record["config"]["dataset"] = str(far)
    run.config.write_text(json.dumps(record), "utf-8")
    taken = here.archives.take_in(there.archives.pack(run.id, tmp_path / "folder.zip"))
    folder = here.runs.folder(taken)
    taken_record = json.loads(folder.config.read_text("utf-8"))
    assert taken_record["config"]["dataset"] == str(folder.data / "0")
    assert (folder.data / "0" / "inner" / "more.jsonl").read_text("utf-8") == "{}\n"


def test_a_run_that_was_taken_in_can_be_packed_again(here, packed, tmp_path):
    taken = here.archives.take_in(packed)
    again = here.archives.pack(taken, tmp_path / "again.zip")
    third = Forge(Home(tmp_path / "third"))
    record = json.loads(third.runs.folder(third.archives.take_in(again)).config.read_text("utf-8"))
    assert record["config"]["dataset"].startswith(str(third.home.runs))


def test_a_known_run_is_not_replaced(here, packed):
    here.archives.take_in(packed)
    with pytest.raises(ConfigError, match="is here already"):
        here.archives.take_in(packed)


def test_an_active_run_is_not_packed(there, tmp_path):
    folder = put_run(there.home.root, 1, ending=None)
    folder.process.unlink()
    folder.events.unlink()
    with pytest.raises(BusyError, match="is queued"):
        there.archives.pack(folder.id, tmp_path / "active.zip")
    assert not (tmp_path / "active.zip").exists()


def test_a_file_is_not_replaced(there, run, tmp_path):
    (tmp_path / "kept.zip").write_text("mine", "utf-8")
    with pytest.raises(ConfigError, match="exists"):
        there.archives.pack(run.id, tmp_path / "kept.zip")
    assert (tmp_path / "kept.zip").read_text("utf-8") == "mine"


def test_missing_data_is_named_and_no_file_is_left(there, run, tmp_path):
    (tmp_path / "far" / "rows.jsonl").unlink()
    with pytest.raises(DataError, match="is missing"):
        there.archives.pack(run.id, tmp_path / "run.zip")
    assert not list(tmp_path.glob("*run.zip*"))


@pytest.mark.parametrize(
    "name",
    ["../evil", "run/../../evil", "/etc/evil", "run//evil", "C:/evil", "run\\..\\evil",
     "run/a:b", "other/evil", "run/\x1b[2J"],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_refused(here, packed, name, tmp_path):
    changed = rewritten(packed, lambda new: new.writestr(name, "x"))
    with pytest.raises(DataError, match="leaves the folder"):
        here.archives.take_in(changed)
    assert is_empty(here)
    assert not list(tmp_path.rglob("evil"))


def test_a_link_is_refused(here, packed):
    def link(new: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("run/output/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        new.writestr(info, "/etc/passwd")

    with pytest.raises(DataError, match="a link"):
        here.archives.take_in(rewritten(packed, link))
    assert is_empty(here)


def test_two_files_of_one_name_are_refused(here, packed):
    with pytest.raises(DataError, match="two files of one name"):
        here.archives.take_in(rewritten(packed, lambda new: new.writestr("run/CONFIG.json", "{}")))


def test_an_archive_that_expands_too_much_is_refused(here, packed, monkeypatch):
    monkeypatch.setattr(archives, "FREE_EXPANSION", 0)

    def bomb(new: zipfile.ZipFile) -> None:
        new.writestr("run/zeros", b"\0" * 30_000_000, zipfile.ZIP_DEFLATED)

    with pytest.raises(DataError, match="unpacked, more than"):
        here.archives.take_in(rewritten(packed, bomb))
    assert is_empty(here)


def test_too_many_files_are_refused(here, packed, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    with pytest.raises(DataError, match="up to 3"):
        here.archives.take_in(packed)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no", b"rows"])
def test_a_file_that_is_no_archive_is_named(here, tmp_path, content):
    path = tmp_path / "some.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"some\.zip"):
        here.archives.take_in(path)


def test_an_archive_cut_short_leaves_nothing(here, packed):
    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged"):
        here.archives.take_in(packed)
    assert is_empty(here)


def test_a_changed_byte_leaves_nothing(here, packed):
    content = bytearray(packed.read_bytes())
    place = content.index(b"x" * 2000)
    content[place] = 121
    packed.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        here.archives.take_in(packed)
    assert is_empty(here)


def test_a_zip_of_something_else_is_named(here, tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/rows.jsonl", "{}")
    with pytest.raises(DataError, match="not one of a run"):
        here.archives.take_in(path)


def changed_record(packed: Path, **parts: Any) -> Path:
    with zipfile.ZipFile(packed) as old:
        record = json.loads(old.read("run/config.json"))
    text = json.dumps(record | parts)
    return rewritten(packed, lambda new: new.writestr("run/config.json", text), "run/config.json")


@pytest.mark.parametrize(
    "parts",
    [
        {"dataset": {"sources": [{"files": ["/etc/passwd"], "mapping": {}}]}},
        {"dataset": {"sources": [{"files": 3}]}},
        {"config": {"task": "no such task"}},
        {"plan": {}},
        {"id": "20260101-000000-ffff"},
        {"name": None},
        {"config": None},
    ],
)
def test_a_record_that_cannot_be_used_leaves_nothing(here, packed, parts):
    with pytest.raises(DataError, match="damaged, or of a version"):
        here.archives.take_in(changed_record(packed, **parts))
    assert is_empty(here)


@pytest.mark.parametrize("places", [{"/x": "/etc"}, {"/x": "data/../.."}, {"": "run"}, {"/x": 1}])
def test_a_place_outside_of_the_run_is_refused(here, packed, places):
    with zipfile.ZipFile(packed) as old:
        manifest = json.loads(old.read("run.json"))
    text = json.dumps(manifest | {"places": places})
    changed = rewritten(packed, lambda new: new.writestr("run.json", text), "run.json")
    with pytest.raises(DataError, match="damaged"):
        here.archives.take_in(changed)
    assert is_empty(here)


def test_a_run_that_has_not_ended_is_not_queued_by_an_archive(here, packed):
    changed = rewritten(
        packed, lambda new: new.writestr("run/events.jsonl", ""), "run/events.jsonl"
    )
    with pytest.raises(DataError, match="damaged, or of a version"):
        here.archives.take_in(changed)


def test_an_archive_arrives_in_parts(here, run, packed):
    content = packed.read_bytes()
    parts = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    assert here.archives.receive(parts) == run.id
    assert not list(here.home.runs.glob("*.zip"))


def test_an_archive_that_is_larger_than_the_limit_leaves_nothing(here, packed, monkeypatch):
    monkeypatch.setattr("modelforge.services.exports.run_archives.MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(DataError, match="larger than 100 B"):
        here.archives.receive([packed.read_bytes()])
    assert is_empty(here)


def test_a_full_disk_is_named_before_anything_is_written(here, packed, monkeypatch):
    monkeypatch.setattr("modelforge.services.exports.run_archives._SPARE_BYTES", 2**60)
    with pytest.raises(DataError, match="more than the disk has free"):
        here.archives.take_in(packed)
    assert is_empty(here)
