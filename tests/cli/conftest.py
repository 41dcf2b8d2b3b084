"""Fixtures of the tests of the command line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def recipe(tmp_path, model, data):
    path = tmp_path / "recipe.yaml"
    settings = {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
    }
    path.write_text(json.dumps(settings), "utf-8")
    return str(path)
