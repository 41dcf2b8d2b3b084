"""The facts of a model that a training from nothing makes, before it is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from modelforge.config.pretraining.settings import shape_of
from modelforge.config.pretraining.shape import Architecture, ModelShape
from modelforge.config.profiles import profile_length
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, Problem
from modelforge.models.architecture import ModelInfo
from modelforge.models.resolve import has_chat_template, resolve_model, token_count
from modelforge.models.tokenizer import tokenizer_folder
from modelforge.paths import Home
from modelforge.units import GIB

SETTING = "pretraining.tokenizer"
EMBEDDINGS = "pretraining.freeze_embeddings"
_CLASSES = {
    Architecture.LLAMA: "LlamaForCausalLM",
    Architecture.QWEN3: "Qwen3ForCausalLM",
    Architecture.NANOCHAT: "NanoChatForCausalLM",
}


def new_model(config: TrainingConfig, home: Home) -> ModelInfo:
    """Return the facts of the model that the settings describe; its name is its tag.

    Raises:
        NotFoundError: the tokenizer that is borrowed is not on this computer.
        ConfigError: it has no file that can be read, or the embeddings do not fit.
    """
    group = config.pretraining
    folder: Path | None = None
    if not group.trains_tokenizer:
        folder = tokenizer_folder(group.tokenizer, home, setting=SETTING)
    tokens = token_count(folder) if folder else group.vocab_size
    shape = shape_of(group, context=context_of(config, home), vocab_size=tokens)
    if folder and group.freeze_embeddings and group.embedding_adapter_dim is None:
        _require_embeddings(resolve_model(str(folder), home), shape)
    info = info_of_shape(shape, config.model_name)
    return info if folder is None else _with_tokenizer(info, folder, tokens)


def _require_embeddings(model: ModelInfo, shape: ModelShape) -> None:
    """Raise ConfigError unless a model has embeddings of this width for all tokens."""
    has, rows = model.hidden_size, model.embedding_rows or 0
    what = remedy = ""
    if not model.shapes:
        what = f"The weights of {model.name} are not on this computer."
        remedy = "Download the model"
    elif has != shape.width:
        what = (
            f"The embeddings of {model.name} have {has} numbers for a token; the new model has a "
            f"width of {shape.width:,}."
        )
        remedy = f"Set pretraining.d_model to {has}"
    elif rows < shape.vocab_size:
        what = f"{model.name} has embeddings for {rows:,} tokens, of {shape.vocab_size:,}."
        remedy = "Choose another model in pretraining.tokenizer"
    if what:
        raise ConfigError(Problem(EMBEDDINGS, what, f"{remedy}, or set {EMBEDDINGS} to false."))


def context_of(config: TrainingConfig, home: Home | None = None) -> int:
    """Return the tokens of a window: the length that is set, else that of the profile."""
    if config.max_seq_length is not None and config.max_seq_length > 0:
        return config.max_seq_length
    return profile_length(config.compute_specs, home.profiles if home else None)


def info_of_shape(shape: ModelShape, name: str) -> ModelInfo:
    """Return the facts of a model of this shape; its weights are saved in 32 bits."""
    return ModelInfo(
        name=name,
        path=name,
        revision=None,
        parameters=shape.parameters,
        weights_gib=4 * shape.parameters / GIB,
        has_chat_template=True,
        local=True,
        architecture=_CLASSES[shape.architecture],
        model_type=shape.architecture.value,
        hidden_size=shape.width,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        intermediate=shape.mlp_width,
        vocab=shape.vocab_size,
        context=shape.context,
        tied=shape.is_tied,
        head_dim=shape.head_dim,
        tokens=shape.vocab_size,
    )


def _with_tokenizer(info: ModelInfo, folder: Path, tokens: int | None) -> ModelInfo:
    return replace(
        info, tokenizer=str(folder), tokens=tokens, has_chat_template=has_chat_template(folder)
    )
