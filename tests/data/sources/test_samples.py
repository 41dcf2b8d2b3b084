import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from modelforge.config import TrainingConfig
from modelforge.data.canonical.convert import read_canonical
from modelforge.data.canonical.qa import QA_PROMPT
from modelforge.data.checks.summary import summarize
from modelforge.data.sources.library import Sample, find_dataset_file, load_samples
from modelforge.errors import NotFoundError
from modelforge.paths import Home, resource_folder

SAMPLES = {sample.name: sample for sample in load_samples()}
FEWEST = {"brief": 80, "notices": 120, "general": 120}


def _question(row: dict[str, Any]) -> str:
    if "context" in row:
        return QA_PROMPT.format(**row)
    turns = row.get("messages") or row["prompt"]
    return next(turn["content"] for turn in turns if turn["role"] == "user")


def answers(sample: Sample) -> list[str]:
    rows = read_canonical(sample.path, summarize(sample.path).mapping)
    return [turn["content"] for row in rows for turn in row["messages"] if turn["role"] != "user"]


def test_every_task_and_strategy_has_a_sample_in_its_own_format() -> None:
    names = ["captain", "units", "support", "brief", "notices", "board", "general"]
    assert list(SAMPLES) == names
    assert {sample.task for sample in SAMPLES.values()} == set(
        get_args(TrainingConfig.model_fields["task"].annotation)
    )
    assert {way for sample in SAMPLES.values() for way in sample.strategies} == set(
        get_args(TrainingConfig.model_fields["strategy"].annotation)
    )
    assert [summarize(sample.path).mapping.kind for sample in SAMPLES.values()] == [
        "pair",
        "instruction",
        "messages",
        "preference",
        "summary",
        "span",
        "messages",
    ]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_large_enough_and_has_no_findings(name: str) -> None:
    seen = summarize(SAMPLES[name].path)
    assert seen.rows == SAMPLES[name].rows >= FEWEST.get(name, 220)
    assert (seen.findings, seen.skipped, seen.mapping.unused) == ([], 0, [])


@pytest.mark.parametrize("name", SAMPLES)
def test_the_demo_question_is_not_in_the_sample_and_prompts_are_unique(name: str) -> None:
    sample = SAMPLES[name]
    rows = read_canonical(sample.path, summarize(sample.path).mapping)
    asked = [_question(row).lower() for row in rows]
    assert len(set(asked)) == len(asked)
    assert sample.question.lower() not in asked


def test_every_completion_of_the_captain_sample_is_in_character() -> None:
    replies = answers(SAMPLES["captain"])
    assert all(text.startswith("Ahoy! ") for text in replies)
    assert all(text.endswith("Fair winds, Captain Brindle.") for text in replies)
    assert max(len(text.split()) for text in replies) <= 40


def test_the_converter_sample_answers_with_a_number_and_a_unit() -> None:
    replies = answers(SAMPLES["units"])
    assert all(re.fullmatch(r"\d+(\.\d{1,2})? \S+", text) for text in replies)


@pytest.mark.parametrize(
    ("name", "script", "function"),
    [
        ("units", "samples", "text"),
        ("notices", "notices", "summaries"),
        ("board", "notices", "questions"),
    ],
)
def test_a_generated_sample_is_up_to_date_with_its_script(
    monkeypatch: pytest.MonkeyPatch, name: str, script: str, function: str
) -> None:
    scripts = Path(__file__).resolve().parents[3] / "scripts"
    monkeypatch.setattr(sys, "path", [str(scripts), *sys.path])
    write = getattr(importlib.import_module(script), function)
    assert write() == SAMPLES[name].path.read_text(encoding="utf-8")


def test_the_board_sample_answers_from_its_notices() -> None:
    rows = list(read_canonical(SAMPLES["board"].path, summarize(SAMPLES["board"].path).mapping))
    answered = [row for row in rows if row["answers"]]
    assert 0.05 < 1 - len(answered) / len(rows) < 0.2
    for row in answered:
        (answer,) = row["answers"]
        assert row["context"][answer["start"] :].startswith(answer["text"])


def test_the_support_sample_is_consistent() -> None:
    replies = "\n".join(answers(SAMPLES["support"]))
    assert set(re.findall(r"0800 [\d ]*\d", replies)) == {"0800 555 0142"}
    assert set(re.findall(r"\S+@\S+\.example", replies)) == {"help@tallowandpine.example"}
    assert set(re.findall(r"until (\d+ [ap]m)", replies)) == {"6 pm"}
    assert set(re.findall(r"within (?:the )?(\d+ days)", replies)) == {"30 days"}
    assert len(re.findall("Hello, Nora from Tallow & Pine here", replies)) == 221


def test_the_general_sample_has_none_of_the_general_prompts() -> None:
    prompts = json.loads((resource_folder("assets") / "general_prompts.json").read_text("utf-8"))
    asked = {_words(entry["prompt"]) for entry in prompts}
    sample = SAMPLES["general"]
    rows = read_canonical(sample.path, summarize(sample.path).mapping)
    assert len(asked) == 100
    assert not asked & {_words(_question(row)) for row in rows}


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_the_chosen_completion_is_always_much_shorter() -> None:
    sample = SAMPLES["brief"]
    for row in read_canonical(sample.path, summarize(sample.path).mapping):
        better, worse = (row[part][0]["content"] for part in ("chosen", "rejected"))
        assert len(better.split()) <= 3 < 20 < len(worse.split())


def test_a_sample_an_upload_and_a_path_are_found(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.uploads.mkdir(parents=True)
    (home.uploads / "mine.jsonl").write_text("{}")
    elsewhere = tmp_path / "else.csv"
    elsewhere.write_text("a")
    assert find_dataset_file("sample:captain", home) == SAMPLES["captain"].path
    assert find_dataset_file("mine.jsonl", home) == home.uploads / "mine.jsonl"
    assert find_dataset_file(str(elsewhere), home) == elsewhere


@pytest.mark.parametrize(
    "dataset",
    [
        "sample:pirate",
        "sample:../captain",
        "none.jsonl",
        "../runs/x.jsonl",
        "a\0b",
        "~nobody/x",
        "x" * 5000,
    ],
)
def test_a_missing_dataset_is_reported_with_a_remedy(tmp_path: Path, dataset: str) -> None:
    home = Home(tmp_path)
    home.uploads.mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x.jsonl").write_text("{}")
    with pytest.raises(NotFoundError) as caught:
        find_dataset_file(dataset, home)
    (problem,) = caught.value.problems
    assert problem.where == "dataset"
    assert problem.remedy
    assert len(problem.what) < 300


def test_a_folder_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is a folder"):
        find_dataset_file(str(tmp_path), Home(tmp_path))
