"""What comes in from the browser as a file: recipes, read like any other recipe."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from modelforge.config.recipe import load_recipe


def recipe(name: str, text: str) -> dict[str, Any]:
    """Return the answers in a recipe's text; raises ConfigError, which names the line."""
    suffix = ".json" if name.lower().endswith(".json") else ".yaml"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"recipe{suffix}"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path)
