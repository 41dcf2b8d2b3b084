"""The nested group about training a model from nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from modelforge.config.optimizers import MUON
from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    SPEED,
    Group,
    SettingsGroup,
    is_enabled,
    setting,
)
from modelforge.config.schema.progressive import Progressive

# The tokenizer that is trained on the text of the run.
TRAIN = "train"
# 256 bytes and 4 special tokens.
MIN_VOCABULARY = 260
MAX_VOCABULARY = 2**20
MAX_DEPTH = 200
MAX_WIDTH = 2**16


class Pretraining(SettingsGroup):
    """Training of a language model from random weights: its shape, tokenizer, length and batch."""

    enabled: bool = setting(False, "Train from nothing", Group.PRETRAINING, affects=BOTH)
    """Train a new model from random weights, on text, without a base model.

    The model is made in the run folder. It is a normal model folder afterwards, which can be
    fine-tuned, talked to and exported.
    """

    arch: Literal["llama", "qwen3", "nanochat"] = setting(
        "llama", "Architecture", Group.PRETRAINING, affects=BOTH
    )
    """The model class of Transformers; llama and qwen3 can be exported to GGUF.

    nanochat has no gate in the MLP and norms without weights; qwen3 alone has sliding windows.
    """

    depth: int = setting(
        6,
        "Depth",
        Group.PRETRAINING,
        ge=1,
        le=MAX_DEPTH,
        unit="layers",
        basic=True,
        affects=BOTH,
    )
    """Number of layers, from which width, heads, text, batch and rates follow."""

    aspect_ratio: int = setting(64, "Aspect ratio", Group.PRETRAINING, ge=1, le=1024, affects=BOTH)
    """Width for each layer: the width is depth × this, rounded up to whole heads."""

    head_dim: int = setting(64, "Size of a head", Group.PRETRAINING, ge=2, le=1024, affects=BOTH)
    """Size of an attention head; an even number."""

    window_pattern: str = setting(
        "L", "Window pattern", Group.PRETRAINING, min_length=1, max_length=MAX_DEPTH, affects=SPEED
    )
    """Letters that are repeated over the layers: S attends to half the context, L to all of it.

    The last layer always has the whole context. S needs the architecture qwen3.
    """

    vocab_size: int = setting(
        8192,
        "Vocabulary",
        Group.PRETRAINING,
        ge=MIN_VOCABULARY,
        le=MAX_VOCABULARY,
        unit="tokens",
        affects=BOTH,
    )
    """Number of tokens of the tokenizer that is trained: 256 bytes, 4 special tokens and merges."""

    tokenizer: str = setting(
        TRAIN, "Tokenizer source", Group.PRETRAINING, min_length=1, max_length=4096, affects=BOTH
    )
    """train makes a byte-level BPE tokenizer from your text; else a model whose one is borrowed.

    The model is a folder, the starter or a name of the Hub. Only its tokenizer is used.
    """

    d_model: int | None = setting(
        None, "Width", Group.PRETRAINING, ge=2, le=MAX_WIDTH, affects=BOTH
    )
    """Size of the hidden states; empty follows from depth and aspect ratio."""

    n_heads: int | None = setting(None, "Heads", Group.PRETRAINING, ge=1, le=1024, affects=BOTH)
    """Attention heads, a divisor of the width; empty follows from width and size of a head."""

    n_kv_heads: int | None = setting(
        None, "Heads of keys and values", Group.PRETRAINING, ge=1, le=1024, affects=BOTH
    )
    """Heads of keys and values, a divisor of the heads; empty is as many as heads."""

    d_ff: int | None = setting(
        None, "Width of the MLP", Group.PRETRAINING, ge=1, le=4 * MAX_WIDTH, affects=BOTH
    )
    """Inner size of the MLP; empty is 4 × width, with a gate 8/3 × width."""

    n_layers: int | None = setting(
        None, "Layers", Group.PRETRAINING, ge=1, le=MAX_DEPTH, unit="layers", affects=BOTH
    )
    """Number of layers, where it differs from the depth; the width still follows from the depth."""

    rope_theta: float = setting(
        10_000.0, "RoPE base", Group.PRETRAINING, gt=0, le=1e9, irrelevant_for=ALL_CACHES
    )
    """Base of the rotary position embeddings; larger ones suit longer contexts."""

    tie_embeddings: bool = setting(False, "Tie embeddings", Group.PRETRAINING, affects=MEMORY)
    """Share the weights of the embedding and of the output head."""

    dropout: float = setting(0.0, "Dropout", Group.PRETRAINING, ge=0, lt=1, affects=BOTH)
    """Share of attention weights that is dropped in training.

    On the CPU a step then takes about twice as long, and all attention weights are kept: context ×
    context numbers for each head.
    """

    freeze_embeddings: bool = setting(
        False, "Borrowed embeddings", Group.PRETRAINING, affects=MEMORY
    )
    """Take the embeddings of the model whose tokenizer is borrowed, and do not train them.

    The width of the new model has to be that of the other one.
    """

    embedding_adapter_dim: int | None = setting(
        None, "Adapter of embeddings", Group.PRETRAINING, ge=1, le=MAX_WIDTH,
        irrelevant_for=ALL_CACHES,
    )  # fmt: skip
    """Train two matrices that map borrowed embeddings of any width to that of the model.

    The number is the size between the two. Only for a model that grows, in its first stage; empty
    takes the embeddings as they are.
    """

    init_projections_to_zero: bool = setting(
        True, "Zero projections", Group.PRETRAINING, irrelevant_for=ALL_CACHES
    )
    """Start with zeros in the last matrix of attention and of the MLP.

    Each layer then passes on what it gets until it is trained.
    """

    total_batch_tokens: int = setting(
        -1,
        "Tokens of a step",
        Group.PRETRAINING,
        ge=-1,
        le=2**30,
        unit="tokens",
        irrelevant_for=ALL_CACHES,
    )
    """Tokens of an optimizer step; a multiple of batch size × context. -1 chooses them.

    The choice grows with the tokens of the training to the power of 0.383, leaves at least 256
    steps and takes at most a sixteenth of the text.
    """

    target_flops: float = setting(
        -1.0, "FLOPs of the training", Group.PRETRAINING, ge=-1, irrelevant_for=ALL_CACHES
    )
    """End after this many floating point operations, such as 1e17; -1 is not set.

    Max steps decide before it, and it decides before tokens per parameter.
    """

    target_param_data_ratio: float = setting(
        10.5, "Tokens per parameter", Group.PRETRAINING, ge=-1, irrelevant_for=ALL_CACHES
    )
    """Tokens of the training for each weight of layers and head; -1 is not set.

    20 is the ratio of Chinchilla; the text is repeated where it is shorter.
    """

    @property
    def layers(self) -> int:
        """The number of layers."""
        return self.n_layers or self.depth

    @property
    def model_tag(self) -> str:
        """The name of the model: d and its depth."""
        return f"d{self.depth}"

    @property
    def trains_tokenizer(self) -> bool:
        """Whether the tokenizer is trained on the text of the run."""
        return self.tokenizer.strip() == TRAIN


# What a training from nothing starts from, in place of the defaults of fine-tuning.
DEFAULTS: dict[str, Any] = {
    "task": "text-generation",
    "adapter.enabled": False,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "gradient_checkpointing": False,
    "group_by_length": False,
    "eval_split": 0.05,
    "optim": "normuon",
    "optimizer.muon_scale": "original",
    "optimizer.matrix_lr": 0.02,
    "optimizer.embedding_lr": 0.3,
    "optimizer.unembedding_lr": 0.004,
    "optimizer.scalar_lr": 0.02,
    # Of weights in no group with a rate of its own, and of matrices with AdamW.
    "learning_rate": 0.004,
    "optimizer.beta1": 0.8,
    "optimizer.beta2": 0.95,
    "optimizer.epsilon": 1e-10,
    "weight_decay": 0.2,
    "max_grad_norm": 0.0,
    "warmup_ratio": 0.0,
    "lr_scheduler_type": "warmup_stable_decay",
    "schedule.decay_ratio": 0.5,
}
# What growing a model starts from, with a base model or from nothing.
GROWING_DEFAULTS: dict[str, Any] = {"adapter.enabled": False}
# From nothing a growing model has the rates and the optimizer of its groups, and no horizon.
_GROWN_FROM_NOTHING: dict[str, Any] = {
    **{name: value for name, value in DEFAULTS.items() if not name.startswith("optimizer.")},
    "optim": "adamw_torch",
    "learning_rate": 5e-4,
    "weight_decay": 0.1,
}
# Settings that replace one of the defaults: that default is left out.
_REPLACES = {"schedule.decay_steps": "schedule.decay_ratio"}


def pretraining_of(values: Mapping[str, Any]) -> Pretraining | None:
    """Return the group of nested settings; None where it is off or not valid."""
    group = values.get("pretraining")
    try:
        read = Pretraining.model_validate(group or {})
    except ValidationError:
        return None
    return read if read.enabled else None


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings of a training from nothing, completed by its defaults.

    Those of growing a model are completed by theirs. Settings that are given are kept. The name of
    a model from nothing is its tag. Other settings are returned unchanged.
    """
    group = pretraining_of(values)
    result = dict(values)
    if group is not None and is_model_tag(result.get("model_name")):
        result["model_name"] = group.model_tag
    for name, value in missing_defaults(values).items():
        holder, _, inner = name.rpartition(".")
        if holder:
            result[holder] = {**_as_mapping(result.get(holder)), inner: value}
        else:
            result[name] = value
    return result


def missing_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults, by dotted name, that nested settings do not set themselves."""
    kept = {old for other, old in _REPLACES.items() if _is_set(values, other)}
    if values.get("optim", DEFAULTS["optim"]) not in MUON:
        kept.add("optimizer.matrix_lr")
    return {
        name: value
        for name, value in _defaults_of(values).items()
        if name not in kept and not _is_set(values, name)
    }


def _defaults_of(values: Mapping[str, Any]) -> dict[str, Any]:
    is_new = is_enabled(values, "pretraining")
    if not is_enabled(values, "progressive"):
        return DEFAULTS if is_new else {}
    return _GROWN_FROM_NOTHING | _grown_layers(values) if is_new else GROWING_DEFAULTS


def _grown_layers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers of a model from nothing that consists of stacks; none if not valid."""
    try:
        group = Progressive.model_validate(values.get("progressive") or {})
    except ValidationError:
        return {}
    return {"pretraining.n_layers": group.stages * group.layers_per_stage}


def is_model_tag(name: Any) -> bool:
    """Return whether a model name is empty, or the tag of a model that is made: d and a number."""
    return re.fullmatch(r"(d[0-9]+)?", str(name or "").strip()) is not None


def _is_set(values: Mapping[str, Any], name: str) -> bool:
    group, _, inner = name.rpartition(".")
    return inner in (_as_mapping(values.get(group)) if group else values)


def _as_mapping(group: Any) -> Mapping[str, Any]:
    """Return a group of settings, also one that was read, as the values that it sets."""
    if isinstance(group, SettingsGroup):
        return group.model_dump(exclude_unset=True)
    return group if isinstance(group, Mapping) else {}
