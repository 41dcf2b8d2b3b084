"""Uploads, downloads and cached models: listed with their runs, refused while needed, deleted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from modelforge.errors import BusyError, NotFoundError
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.runs.homes import put_run

ROWS = b'{"input": "q", "output": "a"}\n' * 20


@pytest.fixture
def forge(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    made = Forge(Home(tmp_path / "home"))
    yield made
    made.close()


def put_model(cache: Path, name: str, size: int = 3000) -> Path:
    """Put a model into a cache of the Hub, as its client leaves it."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    for part in (snapshot, folder / "blobs", folder / "refs"):
        part.mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "blobs" / "abc").write_bytes(b"x" * size)
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/abc"))
    return folder


def use(run, path: Path) -> None:
    """Make a run one that was trained on this file."""
    record = json.loads(run.config.read_text())
    record["dataset"] = {"sources": [{"files": [str(path)], "rows": 20}]}
    run.config.write_text(json.dumps(record))


def start(run) -> None:
    """Make a run one that is in progress."""
    run.events.write_text("")
    run.process.write_text(f'{{"launching": {time.time()}}}')


def items(forge):
    return {item.name: item for item in forge.stored.items()}


def test_files_and_models_are_listed_with_the_runs_that_use_them(forge, tmp_path):
    path = forge.datasets.upload("mine.jsonl", [ROWS], 10_000)
    forge.datasets.upload("unused.jsonl", [ROWS], 10_000)
    put_model(tmp_path / "hub", "owner/model")
    use(put_run(forge.home.root, 1, name="First"), path)
    put_run(forge.home.root, 2, name="Second", model_name="owner/model")
    found = items(forge)
    assert set(found) == {"mine.jsonl", "unused.jsonl", "owner/model"}
    assert [run.name for run in found["mine.jsonl"].runs] == ["First"]
    assert found["mine.jsonl"].bytes == len(ROWS)
    assert found["unused.jsonl"].uses == 0
    assert [run.name for run in found["owner/model"].runs] == ["Second"]
    assert found["owner/model"].bytes >= 3000


def test_files_and_models_are_deleted(forge, tmp_path):
    outside = tmp_path / "outside.jsonl"
    outside.write_bytes(ROWS)
    forge.datasets.upload("mine.jsonl", [ROWS], 10_000)
    (forge.home.uploads / "link.jsonl").symlink_to(outside)
    folder = put_model(tmp_path / "hub", "owner/model")
    other = put_model(tmp_path / "hub", "owner/other")
    assert forge.stored.delete("model", ["owner/model"]) >= 3000
    assert not folder.exists()
    assert other.exists()
    forge.stored.delete("data", ["mine.jsonl", "link.jsonl"])
    assert set(items(forge)) == {"owner/other"}
    assert outside.read_bytes() == ROWS


@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "", "starter", "sample:captain"])
def test_what_is_not_listed_is_not_deleted(forge, tmp_path, kind, name):
    kept = forge.datasets.upload("mine.jsonl", [ROWS], 10_000)
    folder = put_model(tmp_path / "hub", "owner/model")
    listed = "mine.jsonl" if kind == "data" else "owner/model"
    with pytest.raises(NotFoundError):
        forge.stored.delete(kind, [listed, name])
    assert kept.exists()
    assert folder.exists()


def test_what_a_run_in_progress_or_in_the_queue_uses_is_refused(forge, tmp_path):
    path = forge.datasets.upload("mine.jsonl", [ROWS], 10_000)
    put_model(tmp_path / "hub", "owner/model")
    active = put_run(forge.home.root, 1, name="Active", model_name="owner/model")
    start(active)
    waiting = put_run(forge.home.root, 2, name="Waiting")
    use(waiting, path)
    for part in (waiting.process, waiting.events, waiting.log):
        part.unlink()
    with pytest.raises(BusyError, match="“Active” in progress"):
        forge.stored.delete("model", ["owner/model"])
    for delete in (
        lambda: forge.stored.delete("data", ["mine.jsonl"]),
        lambda: forge.datasets.delete("mine.jsonl"),
    ):
        with pytest.raises(BusyError, match="“Waiting”"):
            delete()
    assert set(items(forge)) == {"mine.jsonl", "owner/model"}


def test_a_damaged_record_hides_nothing(forge):
    forge.datasets.upload("mine.jsonl", [ROWS], 10_000)
    run = put_run(forge.home.root, 1)
    record = json.loads(run.config.read_text()) | {"dataset": {"sources": [{}]}, "config": 3}
    run.config.write_text(json.dumps(record))
    assert set(items(forge)) == {"mine.jsonl"}
