"""Generation configs as people publish them: what can be saved is kept, the rest is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.models.generation_fields import invalid_fields

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

HOSTILE: list[tuple[dict[str, Any], list[str]]] = [
    ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, ["temperature", "top_p"]),
    ({"top_k": 20, "min_p": 0.1}, ["min_p", "top_k"]),
    ({"typical_p": 0.9, "epsilon_cutoff": 0.1}, ["epsilon_cutoff", "typical_p"]),
    ({"length_penalty": 2.0, "early_stopping": True}, ["early_stopping", "length_penalty"]),
    ({"num_beams": 4, "early_stopping": "soon"}, ["early_stopping"]),
    ({"num_return_sequences": 3}, ["num_return_sequences"]),
    ({"num_beams": 2, "num_return_sequences": 3}, ["num_return_sequences"]),
    ({"pad_token_id": -1}, ["pad_token_id"]),
    ({"max_new_tokens": 0}, ["max_new_tokens"]),
    ({"use_cache": False, "cache_implementation": "static"}, ["cache_implementation"]),
    ({"cache_implementation": "no-such"}, ["cache_implementation"]),
    ({"compile_config": {"mode": "default"}}, ["compile_config"]),
    ({"output_scores": True}, ["output_scores"]),
    ({"logits_processor": []}, ["logits_processor"]),
    ({"do_sample": True, "temperature": 0.6, "top_k": 20}, []),
    ({"num_beams": 4, "length_penalty": 2.0, "early_stopping": True}, []),
    ({"early_stopping": False, "top_k": 50, "eos_token_id": [1, 2]}, []),
]


@pytest.mark.parametrize(("values", "dropped"), HOSTILE)
def test_only_the_fields_that_cannot_be_saved_are_left_out(
    values: dict[str, Any], dropped: list[str], tmp_path: Path
):
    from modelforge.modeling.generation_config import keep_valid

    values = {"eos_token_id": 2, **values}
    generation, names = keep_valid(values)
    assert names == dropped
    generation.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text("utf-8"))
    kept = {name: value for name, value in values.items() if name not in dropped}
    defaults = {"early_stopping": False, "top_k": 50, "do_sample": False}
    assert {name: saved.get(name, defaults.get(name)) for name in kept} == kept


@pytest.mark.parametrize(("values", "dropped"), HOSTILE)
def test_preflight_names_the_same_fields_without_transformers(
    values: dict[str, Any], dropped: list[str]
):
    assert invalid_fields(values) == dropped


@pytest.mark.parametrize("text", ["{", "[1]", "\ufffd", ""])
def test_an_unreadable_file_counts_as_missing(text: str, tmp_path: Path):
    from modelforge.modeling.generation_config import load_generation_config

    (tmp_path / "generation_config.json").write_text(text, encoding="utf-8")
    (tmp_path / "config.json").write_text('{"eos_token_id": 7, "num_labels": 3, "top_k": 5}')
    generation, notes = load_generation_config(str(tmp_path), revision=None, local_files_only=True)
    assert generation.eos_token_id == 7
    assert [code for code, _text in notes] == ["generation-fields-dropped"]
    assert "top_k" in notes[0][1]
