"""Fields of a generation config that Transformers refuses to save, found without Transformers.

The same rules as `GenerationConfig.validate(strict=True)` of Transformers 5; a test compares both.
The worker asks Transformers itself (`modeling/generation_config.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelforge.paths import read_regular

FILE = "generation_config.json"
_MAX_BYTES = 1_000_000
# Fields of sampling and of beam search, with the value that is allowed without them.
_SAMPLING = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
    "typical_p": 1.0,
    "min_p": None,
    "top_h": None,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
_BEAMS = {"early_stopping": False, "length_penalty": 1.0}
_CACHE = ("cache_implementation", "cache_config")
_OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
_CACHES = frozenset(
    {"dynamic", "static", "offloaded", "offloaded_static", "quantized", "paged"}
    | {"hybrid", "hybrid_chunked", "offloaded_hybrid", "offloaded_hybrid_chunked"}
    | {"sliding_window"}
)
_ARGUMENTS = (
    *("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "synced_gpus"),
    *("assistant_model", "streamer", "negative_prompt_ids", "negative_prompt_attention_mask"),
)


def unusable_fields(folder: Path) -> list[str]:
    """Return the fields of the model's generation config that are left out when it is saved."""
    try:
        values = json.loads(read_regular(folder / FILE, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    return invalid_fields(values) if isinstance(values, dict) else []


def invalid_fields(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that contradict others or have impossible values."""
    given = {name: value for name, value in values.items() if value is not None}
    names = [name for name in _ARGUMENTS if name in given]
    if given.get("do_sample") is not True:
        names += _unlike(given, _SAMPLING)
    if given.get("num_beams", 1) == 1:
        names += _unlike(given, _BEAMS)
    elif given.get("early_stopping", False) not in (True, False, "never"):
        names.append("early_stopping")
    if given.get("return_dict_in_generate") is not True:
        names += [name for name in _OUTPUTS if given.get(name) is True]
    return sorted({*names, *_impossible(given)})


def describe(names: Sequence[str]) -> str:
    """Return a sentence about fields that are left out."""
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{', '.join(names)} of {FILE} {verb} left out of the trained model: Transformers refuses "
        f"to save {'it' if len(names) == 1 else 'them'} with the other values."
    )


def _unlike(given: Mapping[str, Any], allowed: Mapping[str, Any]) -> list[str]:
    return [name for name, value in allowed.items() if name in given and given[name] != value]


def _impossible(given: Mapping[str, Any]) -> list[str]:
    names = []
    if _number(given.get("max_new_tokens", 1)) <= 0:
        names.append("max_new_tokens")
    if _number(given.get("pad_token_id", 0)) < 0:
        names.append("pad_token_id")
    cache = given.get("cache_implementation")
    if cache is not None and cache not in _CACHES:
        names.append("cache_implementation")
    if given.get("use_cache") is False:
        names += [name for name in _CACHE if name in given]
    beams, returned = given.get("num_beams", 1), _number(given.get("num_return_sequences", 1))
    greedy = beams == 1 and not given.get("do_sample")
    if returned > 1 and (greedy or (beams != 1 and returned > _number(beams))):
        names.append("num_return_sequences")
    if "compile_config" in given:
        names.append("compile_config")
    return names


def _number(value: Any) -> float:
    """Return a number; minus infinity, which nothing allows, for anything else."""
    return float(value) if isinstance(value, (int, float)) else float("-inf")
