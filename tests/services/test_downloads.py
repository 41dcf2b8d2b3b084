"""Downloads of models with the real client of the Hub, from a stand-in on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from modelforge.errors import BusyError, ConfigError, NotFoundError
from modelforge.forge import Forge
from modelforge.models import hub_download
from modelforge.paths import Home
from tests.models.hubs import Hub
from tests.models.test_resolve import LLAMA

PATIENCE_S = 60.0
NAME = "owner/model"
SHARDS = {
    f"model-0000{number}-of-00002.safetensors": save({name: np.full((300, 1000), number, "f4")})
    for number, name in ((1, "a"), (2, "b"))
}
SHARD = len(next(iter(SHARDS.values())))
INDEX = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
FILES = {
    "config.json": json.dumps(LLAMA).encode(),
    "tokenizer.json": b"{}",
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    **SHARDS,
}
TOTAL = sum(map(len, FILES.values()))
# Not needed to train: other formats, and files of other programs.
UNUSED = {"pytorch_model.bin": b"x" * 9000, "picture.png": b"p"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    made = Hub()
    made.models[NAME] = FILES | UNUSED
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    template = f"{made.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    yield made
    made.close()


@pytest.fixture
def forge(tmp_path, hub):
    made = Forge(Home(tmp_path / "home"))
    yield made
    made.close()


def wait(forge, until):
    deadline = time.monotonic() + PATIENCE_S
    while not until(forge.downloads.current()):
        assert time.monotonic() < deadline, forge.downloads.current()
        time.sleep(0.02)
    return forge.downloads.current()


def end(forge):
    return wait(forge, lambda current: current.state != "running")


def test_the_size_is_known_before_and_the_model_is_here_after(forge, hub, tmp_path):
    facts = forge.preflight.model(NAME)
    assert not facts.local
    # Config and index are fetched with the first look at the model.
    assert facts.download_bytes == 2 * SHARD + len(FILES["tokenizer.json"])
    assert not any(path.endswith(".safetensors") for path in hub.asked)
    forge.downloads.start(NAME)
    current = end(forge)
    assert current.state == "finished", current.problem
    assert current.done == current.total == TOTAL
    assert forge.preflight.model(NAME).local
    assert not any(name in path for name in UNUSED for path in hub.asked)
    with pytest.raises(ConfigError, match="stored on this computer already"):
        forge.downloads.start(NAME)
    assert [item.name for item in forge.stored.items()] == [NAME]


def test_a_download_reports_progress_is_cancelled_and_continues(forge, hub, tmp_path):
    hub.pace, hub.hold_at = 800_000, int(1.8 * SHARD)
    forge.downloads.start(NAME)
    with pytest.raises(BusyError, match="is being downloaded"):
        forge.downloads.start(NAME)
    current = wait(forge, lambda current: current.done > 1.1 * SHARD)
    assert current.done < current.total
    wait(forge, lambda current: current.seconds_left)
    with pytest.raises(BusyError, match="is being downloaded"):
        forge.stored.delete("model", [NAME])
    forge.downloads.cancel()
    assert forge.downloads.current().state == "cancelled"
    received = hub.sent
    assert not list(tmp_path.rglob("*.incomplete"))
    assert not forge.preflight.model(NAME).local
    hub.pace = hub.hold_at = None
    forge.downloads.start(NAME)
    assert end(forge).state == "finished"
    assert hub.sent - received <= SHARD + 1000
    assert forge.preflight.model(NAME).local


def test_a_broken_connection_continues_where_it_broke(forge, hub):
    hub.cut_at = SHARD // 2
    forge.downloads.start(NAME)
    assert end(forge).state == "finished"
    assert hub.cut_at is None
    assert hub.sent <= TOTAL + hub_download.CHUNK_BYTES


def test_a_hub_that_fails_is_explained(forge, hub):
    forge.preflight.model(NAME)
    hub.down = True
    forge.downloads.start(NAME)
    current = end(forge)
    assert current.state == "failed"
    assert "the Hub answered 503" in current.problem.what


def test_a_process_that_dies_fails_in_words_and_leaves_no_partial_file(forge, hub, tmp_path):
    hub.pace = 100_000
    forge.downloads.start(NAME)
    wait(forge, lambda current: list(tmp_path.rglob("*.incomplete")) and current.done)
    forge.downloads._process._process.kill()
    assert "ended unexpectedly" in end(forge).problem.what
    wait(forge, lambda _: not list(tmp_path.rglob("*.incomplete")))


def test_a_model_that_does_not_fit_on_the_disk_is_refused(forge, monkeypatch):
    monkeypatch.setattr(hub_download, "free_bytes", lambda: 1000)
    with pytest.raises(ConfigError, match="of disk space are free"):
        forge.downloads.start(NAME)
    assert forge.downloads.current() is None


def test_an_unknown_model_is_refused(forge):
    with pytest.raises(NotFoundError):
        forge.downloads.start("owner/absent")


def test_free_space_is_that_of_the_disk_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "a" / "b"))
    assert hub_download.free_bytes() > 0
    assert not Path(tmp_path / "a").exists()
