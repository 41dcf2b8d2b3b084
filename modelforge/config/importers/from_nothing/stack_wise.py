"""Stack-Wise's group `model`: a model that is trained from nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.from_nothing import stack_wise_stages as stages
from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    coming,
    no_effect,
    refused,
    renamed,
)
from modelforge.config.importers.report import Outcome
from modelforge.errors import Problem

PREFIX = "model."
# MLA.
SHAPES = "more shapes of models from nothing"
# The families that it borrows tokenizers and embeddings of, by their names on the Hub.
FAMILIES = {
    "gpt2": "openai-community/gpt2",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
}
_RATES = ("matrix", "embedding", "unembedding", "scalar")


def is_described(values: Values) -> bool:
    """Return whether a file says how the model is made."""
    return any(name.startswith(PREFIX) for name in values)


def problems(values: Values) -> Iterator[Problem]:
    """Yield sizes that contradict each other."""
    heads, shared = values.get(f"{PREFIX}n_heads"), values.get(f"{PREFIX}n_kv_heads")
    if isinstance(heads, int) and isinstance(shared, int) and shared and heads % shared:
        what = f"{heads} heads cannot be divided among {shared} heads of keys and values."
        yield Problem(f"{PREFIX}n_kv_heads", what, "Take a divisor of n_heads.")


def settings(values: Values, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the program decides about a model that a file describes; none without one.

    Args:
        values: the options of the file.
        known: the settings so far, by dotted name.
    """
    if not is_described(values):
        return {}
    found: dict[str, Any] = {
        "pretraining.enabled": True,
        "pretraining.arch": "llama",
        "adapter.enabled": False,
        "quantization.scheme": "none",
        "optim": "adamw_torch",
        **{f"optimizer.{kind}_lr": None for kind in _RATES},
    }
    if stages.grows(values) and "pretraining.depth" not in known:
        count, layers = stages.stages_of(values)
        found["pretraining.depth"] = count * layers
    if "pretraining.tie_embeddings" not in known:
        found["pretraining.tie_embeddings"] = True
    if known.get("pretraining.freeze_embeddings") and "pretraining.tokenizer" not in known:
        found["pretraining.tokenizer"] = FAMILIES["gpt2"]
    return found


def _family(value: str, values: Values) -> Outcome:
    if values.get("data.tokenizer_path"):
        return Outcome("no-effect", why="data.tokenizer_path names the tokenizer.")
    name = FAMILIES.get(value, value)
    return Outcome("converted", {"pretraining.tokenizer": name}, "Its name on the Hub.")


def _vocabulary(value: int, values: Values) -> Outcome:
    if values.get(f"{PREFIX}tokenizer_embedding.family") or values.get("data.tokenizer_path"):
        return Outcome("no-effect", why="The tokenizer that is borrowed has a size of its own.")
    return Outcome("renamed", {"pretraining.vocab_size": value})


def _attention(value: str, _: Values) -> Outcome:
    if value == "mla":
        return coming(SHAPES).read(value, {})
    if value == "kernel":
        return Outcome("refused", why="Transformers has no such model.")
    return Outcome("no-effect", why="n_heads and n_kv_heads say it.")


def _mode(value: str, _: Values) -> Outcome:
    found = {"progressive.objective": "mlm" if value == "bidirectional" else "clm"}
    if value == "bidirectional":
        why = "Attention in both directions is that of masked tokens."
        return Outcome("converted", found, why)
    return Outcome("no-effect", why="A model is causal unless tokens are masked.")


def _adapter_dim(value: int, values: Values) -> Outcome:
    if not stages.grows(values):
        return Outcome("refused", why="A model that grows has such an adapter: give training.mode.")
    return Outcome("renamed", {"pretraining.embedding_adapter_dim": value})


_SIZE: dict[str, Any] = {"kind": "int", "least": 1}
OPTIONS: dict[str, Option] = {
    "vocab_size": by(_vocabulary, **_SIZE),
    "d_model": renamed("pretraining.d_model", **_SIZE),
    "n_layers": renamed("pretraining.depth", **_SIZE),
    "n_heads": renamed("pretraining.n_heads", **_SIZE),
    "n_kv_heads": renamed("pretraining.n_kv_heads", **_SIZE),
    "d_ff": renamed("pretraining.d_ff", **_SIZE),
    "attention_type": by(_attention, choices=("standard", "gqa", "mla", "kernel")),
    "attention_mode": by(_mode, choices=("bidirectional", "causal")),
    "use_rope": refused(
        "Llama, Qwen3 and NanoChat of Transformers have rotary positions alone.", True, kind="bool"
    ),
    "rope_theta": renamed("pretraining.rope_theta", kind="number"),
    "tie_embeddings": renamed("pretraining.tie_embeddings", kind="bool"),
    "dropout": renamed("pretraining.dropout", kind="number", least=0, most=1),
    "tokenizer_embedding.family": by(_family, kind="text"),
    "tokenizer_embedding.embedding_option": no_effect(
        "The embeddings of tokens are the ones that freeze_embeddings borrows."
    ),
    "tokenizer_embedding.freeze_embeddings": renamed("pretraining.freeze_embeddings", kind="bool"),
    "tokenizer_embedding.adapter_hidden_dim": by(_adapter_dim, **_SIZE),
}
