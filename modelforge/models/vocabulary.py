"""The number of token ids of a tokenizer, read from its tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelforge.units import MIB

_MAX_BYTES = 64 * MIB


def token_count(folder: Path) -> int | None:
    """Return the highest token id plus 1; None for a missing or unreadable tokenizer.json."""
    path = folder / "tokenizer.json"
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        tokenizer = json.loads(path.read_text("utf-8"))
        ids = [token["id"] for token in tokenizer.get("added_tokens") or []]
        highest = max([*ids, _highest(tokenizer["model"]["vocab"])])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return highest + 1 if isinstance(highest, int) and highest >= 0 else None


def _highest(vocabulary: Any) -> int:
    """Return the highest id; a Unigram vocabulary is a list in the order of the ids."""
    if isinstance(vocabulary, list):
        return len(vocabulary) - 1
    return max(vocabulary.values(), default=-1)
