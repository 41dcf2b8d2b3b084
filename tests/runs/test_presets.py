"""Presets: names, files, bounds, and the four operations."""

import errno
from pathlib import Path

import pytest

from modelforge.errors import ConfigError, NotFoundError, RunError
from modelforge.runs.presets import MAX_PRESETS, PresetService


@pytest.fixture
def presets(tmp_path):
    return PresetService(tmp_path / "presets")


def own(presets):
    """Return the presets of the user; those that ship with the program come after them."""
    return [preset for preset in presets.all() if not preset.is_shipped]


def names(presets):
    return [preset.name for preset in own(presets)]


def test_a_preset_is_a_recipe_without_data_that_is_listed_renamed_and_deleted(presets, tmp_path):
    assert own(presets) == []
    settings = {"lora_r": 8, "data.padding_free": True, "learning_rate": 1e-4}
    presets.save("  Long   answers ", settings)
    nested = {"lora_r": 8, "data": {"padding_free": True}, "learning_rate": 1e-4}
    assert presets.read("Long answers").settings == nested
    assert [file.name for file in (tmp_path / "presets").iterdir()] == ["Long answers.yaml"]
    presets.rename("Long answers", "Größer (2)")
    presets.rename("Größer (2)", "größer (2)")
    assert names(presets) == ["größer (2)"]
    assert presets.save("GRÖSSER (2)", {"lora_r": 4}).name == "größer (2)"
    presets.delete("größer (2)")
    with pytest.raises(NotFoundError, match="no preset"):
        presets.delete("größer (2)")
    with pytest.raises(NotFoundError, match="There is no preset “gone”"):
        presets.read("gone")


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../x", "a/b", "a\\b", "x.yaml", ".hidden", "con", "LPT1", "a\nb/", "-x",
     "x" * 61, "a\x00b", "a:b", "~", "_x"],
)  # fmt: skip
def test_a_name_that_is_not_safe_as_a_file_is_refused(presets, tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        presets.save(name, {"lora_r": 8})
    assert caught.value.problems[0].where == "name"
    assert not list(tmp_path.rglob("*.yaml"))
    with pytest.raises(NotFoundError):
        presets.read(name)
    with pytest.raises(NotFoundError):
        presets.delete(name)


def test_every_problem_of_the_settings_is_named_and_nothing_is_stored(presets):
    wrong = {"lora_r": 0, "lora_rank": 4, "dataset": "x.jsonl", "data": {"sources": []}}
    with pytest.raises(ConfigError) as caught:
        presets.save("wrong", wrong)
    found = {problem.where for problem in caught.value.problems}
    assert found == {"lora_r", "lora_rank", "dataset", "data.sources"}
    with pytest.raises(ConfigError, match="no settings"):
        presets.save("empty", {})
    assert own(presets) == []
    # What only another setting forbids is stored: the other one may change.
    presets.save("8-bit", {"use_8bit": True})


def test_names_differ_by_more_than_case_and_are_not_replaced_by_accident(presets):
    presets.save("one", {"lora_r": 8})
    with pytest.raises(ConfigError, match="There is a preset “one”"):
        presets.save("One", {"lora_r": 16}, replace=False)
    assert presets.save("One", {"lora_r": 16}).name == "one"
    presets.save("two", {"lora_r": 2})
    with pytest.raises(ConfigError, match="There is a preset “one”"):
        presets.rename("two", "ONE")
    assert (names(presets), presets.read("one").settings) == (["one", "two"], {"lora_r": 16})


def test_a_rename_that_the_disk_refuses_keeps_the_preset(presets, monkeypatch):
    presets.save("one", {"lora_r": 16})

    def refuse(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    for name in ("two", "ONE"):
        with pytest.raises(RunError, match="disk"):
            presets.rename("one", name)
    assert presets.read("one").settings == {"lora_r": 16}


def test_the_number_of_presets_is_bounded(presets):
    for number in range(MAX_PRESETS):
        presets.save(f"p{number}", {"lora_r": 8})
    with pytest.raises(ConfigError, match="There are 100 presets"):
        presets.save("one more", {"lora_r": 8})
    presets.save("p7", {"lora_r": 4})


@pytest.mark.parametrize("content", ["lora_rank: 4", "lora_r: [", "- a", "dataset: x", "#" * 2**21])
def test_a_broken_file_is_listed_with_its_problem(presets, tmp_path, content):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.yaml").write_text(content, "utf-8")
    (tmp_path / "presets" / "good.yaml").write_text("lora_r: 4", "utf-8")
    good, mine = own(presets)
    assert (good.problem, good.settings) == ("", {"lora_r": 4})
    assert mine.problem
    assert mine.settings == {}
    presets.delete("mine")
    assert names(presets) == ["good"]
