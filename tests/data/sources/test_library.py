"""What data is at hand, and what may be deleted of it."""

from __future__ import annotations

import os

import pytest

from modelforge.data.sources.library import (
    delete_dataset,
    find_dataset,
    list_datasets,
    load_samples,
)
from modelforge.errors import ConfigError, NotFoundError
from modelforge.paths import Home


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.uploads.mkdir(parents=True)
    (home.root / "datasets").mkdir()
    return home


def test_an_empty_home_still_has_the_samples(tmp_path):
    assert [kept.kind for kept in list_datasets(Home(tmp_path))] == ["sample"] * len(load_samples())


def test_uploads_and_fetched_data_come_first_and_the_newest_before_all(home):
    old = home.uploads / "old.csv"
    old.write_text("input,output\na,b\n", "utf-8")
    os.utime(old, (1, 1))
    (home.root / "datasets" / "owner--name.parquet").write_bytes(b"PAR1")
    (home.uploads / ".staged-1").write_text("half", "utf-8")
    found = list_datasets(home)
    assert [kept.name for kept in found[:2]] == ["owner--name.parquet", "old.csv"]
    assert [kept.kind for kept in found[:3]] == ["fetched", "upload", "sample"]
    assert found[1].dataset == "old.csv"
    assert found[1].size_bytes == old.stat().st_size


@pytest.mark.parametrize("name", ["../old.csv", "/etc/passwd", "", ".", "no\0thing", "absent.csv"])
def test_an_unknown_dataset_name_is_not_found(home, name):
    (home.root / "old.csv").write_text("x", "utf-8")
    with pytest.raises(NotFoundError):
        find_dataset(name, home)
    with pytest.raises(NotFoundError):
        delete_dataset(name, home)
    assert (home.root / "old.csv").is_file()


def test_uploads_can_be_deleted_and_samples_cannot(home):
    (home.uploads / "mine.csv").write_text("input,output\na,b\n", "utf-8")
    delete_dataset("mine.csv", home)
    assert not (home.uploads / "mine.csv").exists()
    with pytest.raises(ConfigError, match="cannot be deleted"):
        delete_dataset("sample:captain", home)
    assert find_dataset("sample:captain", home).path.is_file()
