"""`modelforge pretrain`."""

from __future__ import annotations

import json

from modelforge.cli.main import main
from modelforge.cli.parsing import parse_settings
from modelforge.cli.pretrain import text_settings


def test_several_texts_are_sources():
    values = parse_settings(text_settings(["a.txt", "b"]))
    assert values["dataset"] == "a.txt"
    assert values["data.sources"] == [{"path": "a.txt"}, {"path": "b"}]
    assert values["pretraining.enabled"] == "true"
    assert "data.sources" not in parse_settings(text_settings(["a.txt"]))


def check(tmp_path, capsys, text, *changes):
    path = tmp_path / "text.txt"
    path.write_text(text)
    settings = [*text_settings([str(path)]), *changes]
    options = [part for change in settings for part in ("--set", change)]
    main(["check", "--json", "--home", str(tmp_path / "home"), *options])
    report = json.loads(capsys.readouterr().out)
    return report, {found["code"]: found for found in report["findings"]}


def test_a_text_is_compared_with_context_vocabulary_and_length(tmp_path, capsys):
    _, found = check(tmp_path, capsys, "The sea was calm.\n", "pretraining.depth=2")
    assert found["text-too-short"]["level"] == "blocker"
    assert found["vocabulary-too-large"]["level"] == "blocker"
    report, found = check(
        tmp_path, capsys, "The sea was calm tonight.\n\n" * 4000, "pretraining.depth=2"
    )
    assert found["text-repeated"]["level"] == "caution"
    epochs = report["plan"]["pretraining"]["tokens"] / report["plan"]["pretraining"]["text_tokens"]
    assert f"read {epochs:.0f} times; beyond 4 times" in found["text-repeated"]["what"]
    assert found["vocabulary-too-large"]["level"] == "caution"
    assert report["plan"]["pretraining"]["shape"]["layers"] == 2
    assert report["ready"]


def test_a_remedy_is_one_that_helps(tmp_path, capsys):
    _, found = check(tmp_path, capsys, "The sea was calm.\n", "pretraining.depth=2")
    short, vocabulary = found["text-too-short"], found["vocabulary-too-large"]
    assert "about 6 tokens; one context of" in short["what"]
    assert (short["remedy"], short["suggested"]) == ("Add text.", None)
    assert "it can fill at most 294" in vocabulary["what"]
    assert vocabulary["suggested"] == 260
    lines = "The sea was calm.\n" * 20
    _, found = check(tmp_path, capsys, lines, "max_seq_length=512", "pretraining.vocab_size=260")
    short = found["text-too-short"]
    assert short["suggested"] < 340 / 2
    assert f"set max_seq_length to {short['suggested']}" in short["remedy"]


def test_a_missing_task_of_core_is_named(tmp_path, capsys):
    task = {"label": "birds", "icl_task_type": "schema", "dataset_uri": "birds.jsonl"}
    (tmp_path / "core.yaml").write_text(json.dumps({"icl_tasks": [task]}))
    (tmp_path / "eval_meta_data.csv").write_text("Eval Task,Random baseline\nbirds,50\n")
    bundle = f"evaluation.core_bundle={tmp_path}"
    report, _ = check(tmp_path, capsys, "The sea was calm.\n\n" * 4000, bundle)
    (problem,) = report["problems"]
    assert problem["where"] == "evaluation.core_bundle"
    assert "task birds: eval_data/birds.jsonl does not exist." in problem["what"]
    assert problem["remedy"] == "Add the file, or remove the task."
    assert not report["ready"]


def test_what_the_other_lengths_would_be_is_in_the_report(tmp_path, capsys):
    text = "The sea was calm tonight.\n\n" * 4000
    changes = ("max_steps=300", "pretraining.target_flops=1e15")
    report, _ = check(tmp_path, capsys, text, *changes)
    others = report["other_steps"]
    assert report["length_by"] == "max_steps"
    assert list(others) == ["pretraining.target_flops", "pretraining.target_param_data_ratio"]
    assert others == report["plan"]["pretraining"]["other_steps"]
    (flops,) = [
        each for each in report["plan"]["changes"] if each["where"] == "pretraining.target_flops"
    ]
    assert f"{others['pretraining.target_flops']:,} steps" in flops["reason"]
    settings = text_settings([str(tmp_path / "text.txt")])
    options = [part for change in (*settings, *changes) for part in ("--set", change)]
    main(["check", "--home", str(tmp_path / "home"), *options])
    printed = capsys.readouterr().out
    assert f"by max_steps; pretraining.target_flops {others['pretraining.target_flops']:,}" in (
        " ".join(printed.split())
    )


def test_conversations_are_refused_before_the_start(tmp_path, capsys):
    sources = json.dumps([{"path": str(tmp_path / "text.txt")}, {"path": "sample:captain"}])
    report, found = check(
        tmp_path, capsys, "The sea was calm tonight.\n\n" * 4000, f"data.sources={sources}"
    )
    assert found["wrong-kind"]["where"] == "data.sources[1]"
    assert "a training from nothing trains on plain text" in found["wrong-kind"]["what"]
    assert not report["ready"]


def test_fp8_on_the_processor_is_refused(tmp_path, capsys):
    report, found = check(
        tmp_path, capsys, "The sea was calm tonight.\n\n" * 4000,
        "quantization.fp8_training=true", "hardware.device=cpu",
    )  # fmt: skip
    assert found["fp8-training-card"]["level"] == "blocker"
    assert "compute capability 8.9" in found["fp8-training-card"]["what"]
    assert not report["ready"]


def test_a_batch_that_is_not_whole_windows_is_refused(tmp_path, capsys):
    report, found = check(
        tmp_path, capsys, "The sea was calm.\n\n" * 4000,
        "pretraining.total_batch_tokens=1000", "compute_specs=low_end",
    )  # fmt: skip
    assert "8,192" in found["batch-not-whole"]["remedy"]
    assert not report["ready"]
