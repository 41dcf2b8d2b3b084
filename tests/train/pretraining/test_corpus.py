"""A corpus of many files: no text is lost between them, and the order is always the same."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.train.pretraining.conftest import SETTINGS, prose

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def numbered(name: str, count: int) -> list[str]:
    """Return sentences that are different in all files."""
    lines = prose(count, seed=len(name)).splitlines()
    return [f"{name} {number}: {line}" for number, line in enumerate(lines)]


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, list[str]]:
    """Write a folder of texts and one of tables, of all formats; return the lines of each file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, tables = tmp_path / "texts", tmp_path / "tables"
    texts.mkdir()
    tables.mkdir()
    names = ("a.txt", "b.md", "c.jsonl", "d.parquet", "e.txt.gz", "f.jsonl.gz")
    lines = {name: numbered(name, 150 + 10 * at) for at, name in enumerate(names)}
    text = {name: "".join(f"{line}\n" for line in each) for name, each in lines.items()}
    rows = {
        name: "".join(json.dumps({"text": line}) + "\n" for line in each)
        for name, each in lines.items()
    }
    (texts / "a.txt").write_text(text["a.txt"], encoding="utf-8")
    (texts / "b.md").write_text(text["b.md"], encoding="utf-8")
    (tables / "c.jsonl").write_text(rows["c.jsonl"], encoding="utf-8")
    pq.write_table(pa.table({"text": lines["d.parquet"]}), tables / "d.parquet")
    (texts / "e.txt.gz").write_bytes(gzip.compress(text["e.txt.gz"].encode()))
    (tables / "f.jsonl.gz").write_bytes(gzip.compress(rows["f.jsonl.gz"].encode()))
    return lines


@pytest.fixture
def job(tmp_path: Path, bench: Any, shards: dict[str, list[str]]) -> Iterator[Any]:
    """Return the job of a run on both folders, as the services record its data."""
    from modelforge.train.job import Job

    forge = Forge(Home(tmp_path / "home"))
    folders = [str(tmp_path / name) for name in ("texts", "tables")]
    sources = {"sources": [{"path": folder} for folder in folders]}
    settings = {**SETTINGS, "dataset": folders[0], "data": sources, "compute_specs": "low_end"}
    prepared = forge.runs._launcher.prepare(Layer("test", settings))
    run = bench.prepare(model_path="d2", dataset=prepared.dataset, **SETTINGS)
    yield Job.read(run)
    forge.close()


def test_all_text_of_all_files_is_on_one_side_in_the_same_order_each_time(job, shards):
    from modelforge.train.pretraining.corpus import documents

    sides = [list(documents(job, held_out=held_out)) for held_out in (False, True)]
    assert sides == [list(documents(job, held_out=held_out)) for held_out in (False, True)]
    lines = [[line for text in side for line in text.splitlines()] for side in sides]
    assert sorted(lines[0] + lines[1]) == sorted(chain.from_iterable(shards.values()))
    assert all(lines)
    characters = sum(len(text) for side in sides for text in side)
    assert characters >= sum(len(line) for each in shards.values() for line in each)


def test_each_token_of_all_files_but_the_first_is_predicted_once(job, tmp_path):
    from modelforge.modeling.pretraining.token_file import TokenWindows, write_token_file
    from modelforge.modeling.pretraining.tokenizer import train_tokenizer
    from modelforge.train.pretraining.corpus import documents, encoder

    texts = list(documents(job, held_out=False))
    tokenizer = train_tokenizer(texts, 300, context=32, chat_template="x")
    encode, first = encoder(tokenizer), tokenizer.bos_token_id
    path = tmp_path / "train.bin"
    facts = write_token_file(path, iter(texts), encode, document_id=first, vocab_size=300)
    expected = [token for ids in encode(texts) for token in (first, *ids)]
    assert facts.tokens == len(expected) == facts.documents + sum(map(len, encode(texts)))
    windows = TokenWindows(path, 32)
    predicted = [token for window in windows for token in window["shift_labels"].tolist()]
    assert predicted == expected[1 : len(predicted) + 1]
    # Fewer than a context are left over, of all files together.
    assert 0 <= len(expected) - 1 - len(predicted) < 32
