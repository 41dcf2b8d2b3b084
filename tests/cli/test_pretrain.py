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
    assert found["vocabulary-too-large"]["level"] == "caution"
    assert report["plan"]["pretraining"]["shape"]["layers"] == 2
    assert report["ready"]


def test_a_batch_that_is_not_whole_windows_is_refused(tmp_path, capsys):
    report, found = check(
        tmp_path, capsys, "The sea was calm.\n\n" * 4000,
        "pretraining.total_batch_tokens=1000", "compute_specs=low_end",
    )  # fmt: skip
    assert "8,192" in found["batch-not-whole"]["remedy"]
    assert not report["ready"]
