"""Sources: where they lie, several at once, and the rows that a run is given."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from modelforge.config.schema.data import Source
from modelforge.data.checks.summary import sha256_of, summarize
from modelforge.data.sources.load import dataset_record, iterate_rows, load_sources, source_entries
from modelforge.data.sources.locate import fetched_path, find_source_files
from modelforge.errors import DataError, NotFoundError
from modelforge.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def pairs(path: Path, count: int, name: str = "q") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"input": f"{name} {n}", "output": f"a {n}"} for n in range(count)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_file_a_sample_and_an_upload_are_one_file(tmp_path, home):
    path = pairs(tmp_path / "rows.jsonl", 3)
    upload = pairs(home.uploads / "mine.jsonl", 3)
    assert find_source_files(Source(path=str(path)), home) == [path]
    assert find_source_files(Source(path="mine.jsonl"), home) == [upload]
    assert find_source_files(Source(path="sample:captain"), home)[0].is_file()
    with pytest.raises(NotFoundError):
        find_source_files(Source(path="nowhere.jsonl"), home)


def test_a_folder_is_its_tables_and_its_texts_only_without_any(tmp_path, home):
    folder = tmp_path / "data"
    first, second = pairs(folder / "a.jsonl", 3), pairs(folder / "deep" / "b.json", 3)
    pairs(folder / ".hidden" / "c.jsonl", 3)
    (folder / "README.md").write_text("# About")
    (folder / "picture.png").write_bytes(b"x")
    (folder / "link.jsonl").symlink_to(first)
    assert find_source_files(Source(path=str(folder)), home) == [first, second]
    first.unlink()
    second.unlink()
    assert [file.name for file in find_source_files(Source(path=str(folder)), home)] == [
        "README.md"
    ]


def test_texts_that_are_not_read_beside_tables_are_named(tmp_path, home):
    folder = tmp_path / "data"
    pairs(folder / "a.jsonl", 3)
    (folder / "README.md").write_text("# About")
    assert "texts-unread" not in [each.code for each in found_in(folder, home)]
    for name in ("one.txt", "two.txt.gz", "three.md", "four.txt"):
        (folder / name).write_text("A text.")
    (found,) = [each for each in found_in(folder, home) if each.code == "texts-unread"]
    assert found.level == "caution"
    assert found.what == (
        "4 text files of data will not be read, as it has tables: "
        "four.txt, one.txt, three.md and others."
    )


def found_in(folder, home):
    return load_sources([Source(path=str(folder))], home)[0].summary.findings


def test_a_folder_without_data_is_refused(tmp_path, home):
    with pytest.raises(DataError, match="has no data files"):
        find_source_files(Source(path=str(tmp_path)), home)


def test_a_hub_dataset_is_read_once_it_is_downloaded(home):
    source = Source(path="hub:tatsu-lab/alpaca", subset="en", split="train[:10%]")
    with pytest.raises(NotFoundError) as caught:
        find_source_files(source, home)
    (problem,) = caught.value.problems
    assert "modelforge data fetch tatsu-lab/alpaca --subset en --split train[:10%]" in str(problem)
    path = fetched_path(home, "tatsu-lab/alpaca", "en", "train[:10%]")
    pairs(path, 3)
    assert path.parent == home.root / "datasets"
    assert find_source_files(source, home) == [path]


def test_fetched_files_never_share_a_name_nor_leave_their_folder(home):
    asked = [
        ("a/b", None, None),
        ("a/b", "c", None),
        ("a/b", None, "c"),
        ("a/b", None, "train[:5]"),
        ("a/b", None, "train[5:]"),
        ("a/b", "../../x", None),
        ("a/b", "..", ".."),
    ]
    found = [fetched_path(home, *each) for each in asked]
    assert len(set(found)) == len(found)
    assert {path.parent for path in found} == {home.root / "datasets"}
    assert all(path.resolve() == path for path in found)
    assert fetched_path(home, "a/b", None, None) == fetched_path(home, "a/b", None, "train")
    for name in (
        "a..b",
        "a--b",
        "a.",
        "a.git",
        "../x",
        "a/..",
        "a/b/c",
        "",
        "a b",
        "/etc/passwd",
        "a\\b",
        "a/b\n",
    ):
        with pytest.raises(NotFoundError):
            fetched_path(home, name, None, None)


def test_several_files_are_summarized_as_one(tmp_path, home):
    first, second = pairs(tmp_path / "d" / "a.jsonl", 20), pairs(tmp_path / "d" / "b.jsonl", 15)
    with second.open("a") as file:
        file.write('\n{"input": "q", "output": ""}')
    (loaded,) = load_sources([Source(path=str(tmp_path / "d"))], home)
    assert loaded.summary.rows == 35
    assert loaded.summary.name == "d (2 files)"
    assert loaded.summary.size_bytes == first.stat().st_size + second.stat().st_size
    messages = {found.code: found.what for found in loaded.summary.findings}
    assert "line 16 (b.jsonl)" in messages["empty-answer"]
    assert "(b.jsonl)" in messages["duplicate-rows"]
    each = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    assert loaded.summary.sha256 == sha256_of([first, second])
    assert loaded.summary.sha256 == hashlib.sha256("\n".join(each).encode()).hexdigest()


def test_the_settings_of_a_source_reach_the_summary(tmp_path, home):
    path = tmp_path / "odd.csv"
    path.write_text("frage,antwort\n" + "\n".join(f"q {n},a {n}" for n in range(12)))
    renamed = Source(path=str(path), instruction_field="frage", output_field="antwort")
    (loaded,) = load_sources([renamed], home)
    assert loaded.summary.rows == 12
    assert "as set" in loaded.mapping.reason
    with pytest.raises(DataError):
        load_sources([Source(path=str(path))], home)


def test_a_limited_summary_reads_no_more(tmp_path, home):
    path = pairs(tmp_path / "rows.jsonl", 300)
    (loaded,) = load_sources([Source(path=str(path))], home, limit=5)
    assert (loaded.summary.rows, loaded.summary.sha256) == (5, "")


def test_the_problems_of_all_sources_are_reported_at_once(tmp_path, home):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{")
    with pytest.raises(NotFoundError) as caught:
        load_sources([Source(path="gone.csv"), Source(path=str(bad))], home)
    assert len(caught.value.problems) == 2


def mixed(tmp_path: Path, home: Home, *fields: dict[str, object]) -> dict[str, object]:
    sources = []
    for number, each in enumerate(fields):
        path = pairs(tmp_path / f"{number}.jsonl", 100, f"source {number}")
        sources.append(Source(path=str(path), **each))
    supplies = load_sources(sources, home)
    record = json.loads(json.dumps(dataset_record(supplies)))
    given = Counter(place for place, _ in iterate_rows(record, 42))
    assert [given[place] for place in range(len(supplies))] == [each.rows for each in supplies]
    return record


def test_the_share_of_rows_follows_the_weights(tmp_path, home):
    record = mixed(tmp_path, home, {}, {"weight": 2}, {"weight": 0.5}, {"samples": 20})
    assert Counter(place for place, _ in iterate_rows(record, 42)) == {0: 100, 1: 200, 2: 50, 3: 20}


def test_the_same_record_and_seed_give_the_same_rows(tmp_path, home):
    record = mixed(tmp_path, home, {"samples": 30, "weight": 1.5}, {"weight": 0.3})
    assert list(iterate_rows(record, 1)) == list(iterate_rows(record, 1))
    assert list(iterate_rows(record, 1)) != list(iterate_rows(record, 2))


def test_samples_count_over_all_files_of_a_folder(tmp_path, home):
    pairs(tmp_path / "d" / "a.jsonl", 50, "a")
    pairs(tmp_path / "d" / "b.jsonl", 50, "b")
    supplies = load_sources([Source(path=str(tmp_path / "d"), samples=10)], home)
    rows = [row for _, row in iterate_rows(dataset_record(supplies), 3)]
    assert len(rows) == 10
    assert {row["messages"][0]["content"][0] for row in rows} == {"a", "b"}


def test_evaluation_rows_have_their_own_sources(tmp_path, home):
    train = load_sources([Source(path=str(pairs(tmp_path / "a.jsonl", 5)))], home)
    check = load_sources([Source(path=str(pairs(tmp_path / "b.jsonl", 3)))], home)
    record = dataset_record(train, check)
    assert len(list(iterate_rows(record, 1))) == 5
    assert len(list(iterate_rows(record, 1, "validation"))) == 3
    assert record["sources"][0]["source"] == {"path": str(tmp_path / "a.jsonl")}


def test_the_record_of_an_older_run_still_opens(tmp_path):
    path = pairs(tmp_path / "old.jsonl", 12)
    seen = summarize(path)
    mapping = {"kind": "pair", "fields": {"prompt": "input", "answer": "output"}, "reason": ""}
    record = {"path": str(path), "sha256": seen.sha256, "rows": 12, "mapping": mapping}
    assert source_entries(record, "validation") == []
    assert [row for _, row in iterate_rows(record, 42)][:12] == seen.examples[:12]


def test_a_bare_name_of_the_hub_is_read_once_it_is_downloaded(tmp_path):
    home = Home(tmp_path)
    source = Source(path="owner/trees", subset="en")
    with pytest.raises(NotFoundError) as caught:
        find_source_files(source, home)
    (problem,) = caught.value.problems
    assert problem.what == "owner/trees is not a file here and has not been downloaded."
    assert problem.remedy.endswith("modelforge data fetch owner/trees --subset en")
    path = fetched_path(home, "owner/trees", "en", None)
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_source_files(source, home) == [path]
    assert find_source_files(Source(path="hub:owner/trees", subset="en"), home) == [path]
    with pytest.raises(NotFoundError, match="Check the path"):
        find_source_files(Source(path="owner/trees.jsonl"), home)
