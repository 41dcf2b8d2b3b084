"""Data of object storage: downloaded from a server of our own, with the clients of pyarrow."""

from __future__ import annotations

import shutil

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.sources.load import load_sources
from modelforge.data.sources.remote import remote_path
from modelforge.errors import DataError, NotFoundError, RunError
from modelforge.paths import Home
from tests.train.tools.storage import KEY, PUBLIC, serve_storage

pytestmark = pytest.mark.torch
SECRET = "sEcReT/sEcReT"
ROWS = b'{"input": "a", "output": "b"}\n' * 12


@pytest.fixture(scope="module")
def server():
    with serve_storage() as server:
        yield server


@pytest.fixture
def storage(server, monkeypatch, tmp_path):
    """The server, with the keys that it accepts in the environment."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    server.objects = {"my-bucket": {"sets/rows.jsonl": ROWS}, PUBLIC: {"rows.jsonl": ROWS}}
    server.breaks_after = -1
    return server


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def fetch(home):
    """Download an address, and return the progress that was shown."""
    from modelforge.train.tools.fetch_remote import fetch

    def run(address: str) -> list[str]:
        shown: list[str] = []
        remote = remote_path(address)
        assert remote is not None
        fetch(remote, home, lambda **facts: shown.append(facts["text"]))
        return shown

    return run


def summary(address: str, home: Home):
    return load_sources([Source(path=address)], home)[0].summary


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_file_is_downloaded_and_read_like_one_here(storage, home, fetch, scheme):
    address = f"{scheme}://{PUBLIC}/rows.jsonl"
    with pytest.raises(NotFoundError, match=f"modelforge data fetch {address}"):
        summary(address, home)
    shown = fetch(address)
    assert shown[-1] == "Downloading rows.jsonl: 360 B of 360 B"
    assert summary(address, home).rows == 12


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_folder_is_all_data_files_below_it(storage, home, fetch, scheme):
    storage.objects[PUBLIC] = {
        "sets/a.jsonl": ROWS,
        "sets/deep/b.jsonl": ROWS,
        "sets/.hidden/c.jsonl": ROWS,
        "sets/picture.png": b"x",
        "other/d.jsonl": ROWS,
    }
    address = f"{scheme}://{PUBLIC}/sets/"
    fetch(address)
    found = summary(address, home)
    assert (found.rows, found.name.endswith("(2 files)")) == (24, True)
    storage.objects[PUBLIC].pop("sets/a.jsonl")
    fetch(address)
    assert summary(address, home).rows == 12, "the earlier copy is replaced"


def test_keys_of_the_environment_open_what_is_not_public(storage, home, fetch, monkeypatch):
    address = "s3://my-bucket/sets/rows.jsonl"
    fetch(address)
    assert summary(address, home).rows == 12
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    with pytest.raises(NotFoundError, match="denies the access") as caught:
        fetch(address)
    assert "aws configure" in caught.value.problems[0].remedy


def test_public_data_needs_no_keys(storage, home, fetch, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fetch(f"s3://{PUBLIC}/rows.jsonl")
    with pytest.raises(NotFoundError, match="denies the access"):
        fetch("s3://my-bucket/sets/rows.jsonl")


def test_keys_are_neither_shown_nor_stored(storage, home, fetch):
    addresses = ("s3://my-bucket/none.jsonl", "s3://no-bucket/a.jsonl", "s3://no-bucket/a/")
    shown = []
    for address in addresses:
        with pytest.raises(NotFoundError, match="has no file or folder") as caught:
            fetch(address)
        shown.append(str(caught.value))
    shown += fetch("s3://my-bucket/sets/rows.jsonl")
    kept = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    for key in (KEY, SECRET):
        assert key not in "".join(shown)
        assert key.encode() not in kept


def test_a_folder_without_data_is_refused(storage, fetch):
    storage.objects[PUBLIC] = {"sets/picture.png": b"x"}
    with pytest.raises(DataError, match="no data files"):
        fetch(f"s3://{PUBLIC}/sets/")


def test_a_broken_download_leaves_the_earlier_copy(storage, home, fetch):
    address = f"s3://{PUBLIC}/rows.jsonl"
    fetch(address)
    storage.breaks_after = 10
    with pytest.raises(NotFoundError, match=address):
        fetch(address)
    assert summary(address, home).rows == 12
    assert [path.name for path in home.datasets.iterdir()] == [f"s3__{PUBLIC}__rows.jsonl"]


def test_names_from_the_storage_stay_in_the_folder(storage, home, fetch):
    storage.objects[PUBLIC] = {
        "sets/a\\b:c?.jsonl": ROWS,
        "sets/x/" + "n" * 300 + ".jsonl": ROWS,
    }
    address = f"s3://{PUBLIC}/sets/"
    fetch(address)
    assert summary(address, home).rows == 24
    folder = home.datasets / f"s3__{PUBLIC}__sets__folder"
    assert all(path.is_relative_to(folder) for path in home.datasets.rglob("*.jsonl"))


def test_too_little_space_is_seen_before_the_download(storage, fetch, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("modelforge.train.tools.fetch_remote.shutil.disk_usage", lambda _: free)
    with pytest.raises(RunError, match="has 360 B; the disk has 1,000 B free"):
        fetch(f"s3://{PUBLIC}/rows.jsonl")


def test_a_storage_that_cannot_be_reached_is_named(storage, fetch, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(NotFoundError, match="cannot be reached"):
        fetch(f"s3://{PUBLIC}/rows.jsonl")
