"""Addresses of object storage, and the names of their copies."""

from __future__ import annotations

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.sources.library import delete_dataset, find_dataset
from modelforge.data.sources.locate import find_source_files, missing_download
from modelforge.data.sources.remote import remote_path
from modelforge.errors import NotFoundError
from modelforge.paths import Home
from tests.config.problems import find_problems


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_addresses_are_told_from_other_paths():
    remote = remote_path("S3://my-bucket/a b/rows.csv.gz")
    assert remote is not None
    assert (remote.scheme, remote.bucket, remote.key) == ("s3", "my-bucket", "a b/rows.csv.gz")
    assert not remote.is_folder
    for path in ("gs://my-bucket", "gs://my-bucket/", "gs://my-bucket/sets", "s3://my-bucket/a.b"):
        found = remote_path(path)
        assert found is not None
        assert found.is_folder, path
    for path in ("rows.csv", "hub:a/b", "https://s3/rows.csv", "s3:/b/rows.csv", "s3://"):
        assert remote_path(path) is None


def test_copies_never_share_a_name_nor_leave_their_folder(home):
    addresses = [
        "s3://bucket/a/b.csv",
        "s3://bucket/a__b.csv",
        "gs://bucket/a/b.csv",
        "s3://bucket/a/b.csv/",
        "s3://bucket/a/b",
        "s3://bucket/a.b",
        "s3://bucket/" + "x" * 900 + "/b.csv",
        "s3://bucket/" + "x" * 901 + "/b.csv",
        "s3://bucket/" + "y" * 900 + ".csv",
    ]
    copies = [remote_path(address).copy_in(home) for address in addresses]
    assert len(set(copies)) == len(copies)
    assert {copy.parent for copy in copies} == {home.datasets}
    assert all(len(copy.name) < 240 for copy in copies)
    assert copies[0].suffix == copies[-1].suffix == ".csv"


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAEXAMPLE:secret@bucket/rows.csv",
        "gs://me@bucket/rows.csv",
        "s3://",
        "s3:///rows.csv",
        "s3://bucket/../rows.csv",
        "gs://b c/rows.csv",
    ],
)
def test_an_address_with_keys_or_without_a_bucket_is_refused(address):
    base = {"task": "text-generation", "model_name": "m", "compute_specs": "low_end"}
    (problem,) = find_problems({**base, "dataset": address})
    assert problem.where == "dataset"
    sources = {"sources": [{"path": address}]}
    (problem,) = find_problems({**base, "dataset": "a", "data": sources})
    assert problem.where == "data.sources[0].path"
    assert "secret" not in str(problem)


def test_a_downloaded_folder_is_listed_and_deleted_as_one(home):
    remote = remote_path("s3://bucket/sets/")
    source = Source(path=str(remote))
    assert missing_download(source, home) == "s3://bucket/sets/"
    with pytest.raises(NotFoundError):
        find_source_files(source, home)
    folder = remote.copy_in(home)
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jsonl", "deep/b.jsonl"):
        (folder / name).write_text('{"text": "a"}\n')
    assert missing_download(source, home) is None
    assert len(find_source_files(source, home)) == 2
    found = find_dataset(folder.name, home)
    assert (found.kind, found.size_bytes) == ("fetched", 28)
    delete_dataset(folder.name, home)
    assert not folder.exists()
