"""The shape of a language model, read out of the many spellings of config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SPELLINGS = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
    "writers": ("num_decoder_layers", "decoder_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "intermediate": (
        *("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size"),
        *("hidden_dim", "encoder_ffn_dim"),
    ),
    "vocab": ("vocab_size", "padded_vocab_size"),
    "context": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "head_dim": ("head_dim", "d_kv"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
}
# Families that read a whole text and do not write one.
_ENCODERS = frozenset(
    {"albert", "bert", "camembert", "canine", "convbert", "deberta", "deberta-v2", "distilbert"}
    | {"electra", "ernie", "esm", "flaubert", "funnel", "layoutlm", "longformer", "mobilebert"}
    | {"modernbert", "mpnet", "nomic_bert", "roberta", "squeezebert", "xlm-roberta", "xlnet"}
)
# Two matrices in the feed-forward part instead of three.
_PLAIN = frozenset(
    {"bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt"}
    | {"opt", "phi", "starcoder2"}
)
_TIED_BY_DEFAULT = frozenset(
    {"bloom", "cohere", "cohere2", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2"}
    | {"gpt_bigcode", "gpt_neo", "mpt", "opt"}
)
_LEARNED_POSITIONS = frozenset({"gpt2", "gpt_bigcode", "gpt_neo", "opt"})


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model before it is loaded; None is unknown.

    `path` is what to load: a folder or a Hub id. `kind` is decoder, encoder, encoder-decoder or
    unknown; `quantization` says how the weights are stored ("" for plain ones),
    `licence` is what its page says, where it was asked.
    """

    name: str
    path: str
    revision: str | None
    architecture: str
    model_type: str
    parameters: int | None
    hidden_size: int | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    intermediate: int | None
    vocab: int | None
    context: int | None
    weights_gib: float
    has_chat_template: bool
    tied: bool
    local: bool
    head_dim: int | None = None
    experts: int | None = None
    kind: str = "decoder"
    quantization: str = ""
    remote_code: bool = False
    licence: str = ""

    @property
    def embedding_weights(self) -> int:
        """The weights of the embeddings and of a head that is not tied to them."""
        return (self.vocab or 0) * (self.hidden_size or 0) * (1 if self.tied else 2)

    @property
    def linear_weights(self) -> int:
        """The weights of everything but embeddings and head."""
        return max(0, (self.parameters or 0) - self.embedding_weights)

    @property
    def layer_matrices(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each linear layer of one block; empty when the shape is unknown.

        Experts are left out: Transformers keeps them in one tensor, which no adapter reaches.
        """
        matrices = _matrices(
            self.model_type,
            self.hidden_size,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.intermediate,
        )
        return matrices[:4] if self.experts else matrices


def read_shape(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ModelFacts that config.json tells; unknown numbers are None."""
    text = {**raw, **_nested(raw)}
    model_type = str(raw.get("model_type") or "")
    shape: dict[str, Any] = {name: _number(text, keys) for name, keys in _SPELLINGS.items()}
    writers = shape.pop("writers")
    if raw.get("is_encoder_decoder") and shape["layers"]:
        shape["layers"] += writers or shape["layers"]
    hidden, heads = shape["hidden_size"], shape["heads"]
    if shape["head_dim"] is None and hidden and heads:
        shape["head_dim"] = hidden // heads
    if shape["kv_heads"] is None:
        shape["kv_heads"] = 1 if text.get("multi_query") else heads
    if shape["intermediate"] is None and model_type in _PLAIN and hidden:
        shape["intermediate"] = 4 * hidden
    tied = text.get("tie_word_embeddings")
    architectures = raw.get("architectures") or [""]
    return {
        **shape,
        "model_type": model_type,
        "architecture": str(architectures[0]),
        "tied": bool(tied) if isinstance(tied, bool) else model_type in _TIED_BY_DEFAULT,
        "kind": _kind(raw, str(architectures[0]), model_type),
        "quantization": _quantization(raw),
    }


def parameters_by_shape(shape: dict[str, Any]) -> int | None:
    """Count the weights of a plain decoder; None for an unknown shape or a mixture of experts."""
    hidden, layers, vocab = shape["hidden_size"], shape["layers"], shape["vocab"]
    if not hidden or not layers or not vocab or shape["experts"]:
        return None
    names = ("model_type", "hidden_size", "heads", "kv_heads", "head_dim", "intermediate")
    matrices = _matrices(*(shape[name] for name in names))
    if not matrices:
        return None
    block = sum(inputs * outputs for inputs, outputs in matrices) + 2 * hidden
    embeddings = vocab * hidden * (1 if shape["tied"] else 2)
    positions = (shape["context"] or 0) * hidden if shape["model_type"] in _LEARNED_POSITIONS else 0
    return int(embeddings + positions + layers * block + hidden)


def _matrices(
    model_type: str,
    hidden: int | None,
    heads: int | None,
    kv_heads: int | None,
    head_dim: int | None,
    intermediate: int | None,
) -> list[tuple[int, int]]:
    if not (hidden and heads and kv_heads and head_dim and intermediate):
        return []
    attention = [
        (hidden, heads * head_dim),
        (hidden, kv_heads * head_dim),
        (hidden, kv_heads * head_dim),
        (heads * head_dim, hidden),
    ]
    up = [(hidden, intermediate)] * (1 if model_type in _PLAIN else 2)
    return [*attention, *up, (intermediate, hidden)]


def _nested(raw: dict[str, Any]) -> dict[str, Any]:
    for key in ("text_config", "llm_config", "language_config"):
        if isinstance(raw.get(key), dict):
            return dict(raw[key])
    return {}


def _number(text: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    for key in keys:
        value = text.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            return value
    return None


def _kind(raw: dict[str, Any], architecture: str, model_type: str) -> str:
    if raw.get("is_encoder_decoder"):
        return "encoder-decoder"
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return "decoder"
    heads = ("ForMaskedLM", "Classification", "ForQuestionAnswering", "ForPreTraining")
    if architecture.endswith(heads) or model_type in _ENCODERS:
        return "encoder"
    return "unknown"


def _quantization(raw: dict[str, Any]) -> str:
    stored = raw.get("quantization_config")
    if not isinstance(stored, dict):
        return ""
    if stored.get("load_in_4bit"):
        return "4-bit"
    if stored.get("load_in_8bit"):
        return "8-bit"
    return str(stored.get("quant_method") or "quantized")
