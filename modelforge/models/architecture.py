"""The architecture of a language model, read from any spelling of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelforge.units import GIB

_KEYS = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
    "decoder_layers": ("num_decoder_layers", "decoder_layers"),
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
# Model types that encode text and do not generate it.
_ENCODERS = frozenset(
    {"albert", "bert", "camembert", "canine", "convbert", "deberta", "deberta-v2", "distilbert"}
    | {"electra", "ernie", "esm", "flaubert", "funnel", "layoutlm", "longformer", "mobilebert"}
    | {"modernbert", "mpnet", "nomic_bert", "roberta", "squeezebert", "xlm-roberta", "xlnet"}
)
# Model types whose feed-forward block has two matrices and no gate.
_UNGATED = frozenset(
    {"bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt"}
    | {"nanochat", "opt", "phi", "starcoder2"}
)
_TIED_BY_DEFAULT = frozenset(
    {"bloom", "cohere", "cohere2", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2"}
    | {"gpt_bigcode", "gpt_neo", "mpt", "opt"}
)
_LEARNED_POSITIONS = frozenset({"gpt2", "gpt_bigcode", "gpt_neo", "opt"})
# Further model types without rotary position embeddings.
_OTHER_POSITIONS = frozenset({"bloom", "mpt", "t5", "mt5", "umt5", "bart", "mbart", "pegasus"})
_EMBEDDINGS = (
    *("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "shared.weight"),
    *("embed_in.weight", "tok_embeddings.weight"),
)
_CATALOG_BYTES_PER_PARAMETER = 2


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model before it is loaded; None is unknown.

    Args:
        path: the folder or Hub id to load.
        weights_gib: size of the weight files in GiB.
        tied: whether the embeddings are tied to the head.
        local: whether the weights are on this machine.
        kind: decoder, encoder, encoder-decoder or unknown.
        quantization: how the weights are stored; "" if they are not quantized.
        licence: the licence on its Hub page; "" if the Hub was not asked.
        tokens: ids that its tokenizer can give.
        broken_tensor: a weight with NaN; "" if none was found.
        shapes: the shape of every stored tensor; empty before the download.
        labels: classes of a sequence classifier.
        rope_type: scaling of its rotary position embeddings; "" if it has none of these.
        download_bytes: size of the files that a download would fetch; 0 if it is on this machine.
        generation_fields: fields of its generation config that cannot be saved.
        tokenizer: the folder of a tokenizer that is used in place of its own.
        shared_tokens: share of the tokens of that tokenizer that have the same id in its own.
    """

    name: str
    path: str
    revision: str | None
    parameters: int | None
    weights_gib: float
    has_chat_template: bool
    local: bool
    architecture: str = ""
    model_type: str = ""
    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    intermediate: int | None = None
    vocab: int | None = None
    context: int | None = None
    tied: bool = False
    head_dim: int | None = None
    experts: int | None = None
    kind: str = "decoder"
    quantization: str = ""
    remote_code: bool = False
    licence: str = ""
    generation_fields: tuple[str, ...] = ()
    labels: int = 2
    rope_type: str = "default"
    tokens: int | None = None
    broken_tensor: str = ""
    download_bytes: int = 0
    tokenizer: str | None = None
    shared_tokens: float | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def embedding_weights(self) -> int:
        """The number of parameters of the embeddings, and of a head that is not tied to them."""
        return (self.vocab or 0) * (self.hidden_size or 0) * (1 if self.tied else 2)

    @property
    def embedding_rows(self) -> int | None:
        """The number of tokens that the embeddings have a row for."""
        stored = (shape[0] for name, shape in self.shapes.items() if name.endswith(_EMBEDDINGS))
        return max(stored, default=self.vocab)

    @property
    def linear_weights(self) -> int:
        """The number of parameters without embeddings and head."""
        return max(0, (self.parameters or 0) - self.embedding_weights)

    @property
    def forward_weights(self) -> int:
        """The number of parameters that a forward pass multiplies: layers and head."""
        return self.linear_weights + (self.vocab or 0) * (self.hidden_size or 0)

    @property
    def layer_matrices(self) -> list[tuple[int, int]]:
        """(in_features, out_features) of each linear layer of one block; empty if unknown.

        Without experts: Transformers keeps them in one tensor, which adapters do not support.
        """
        matrices = _matrices(vars(self))
        return matrices[:4] if self.experts else matrices


def catalog_model_info(model: Mapping[str, Any]) -> ModelInfo:
    """Return the information of a model entry of a profile, with 16-bit weights."""
    parameters = round(model["parameters"] * 1e9)
    shape = dict(model.get("shape", {}))
    hidden_size, heads = shape.get("hidden_size"), shape.get("heads")
    if hidden_size and heads:
        shape.setdefault("head_dim", hidden_size // heads)
    shape["kv_heads"] = shape.get("kv_heads") or heads
    return ModelInfo(
        name=model["name"],
        path=model["name"],
        revision=None,
        parameters=parameters,
        weights_gib=parameters * _CATALOG_BYTES_PER_PARAMETER / GIB,
        has_chat_template=shape.get("kind", "decoder") == "decoder",
        local=False,
        **shape,
    )


def read_shape(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ModelInfo that are in config.json; unknown numbers are None."""
    nested = (config.get(key) for key in ("text_config", "llm_config", "language_config"))
    text_config = config | next((inner for inner in nested if isinstance(inner, dict)), {})
    model_type = str(config.get("model_type") or "")
    shape: dict[str, Any] = {name: _number(text_config, keys) for name, keys in _KEYS.items()}
    decoder_layers = shape.pop("decoder_layers")
    if config.get("is_encoder_decoder") and shape["layers"]:
        shape["layers"] += decoder_layers or shape["layers"]
    hidden, heads = shape["hidden_size"], shape["heads"]
    if shape["head_dim"] is None and hidden and heads:
        shape["head_dim"] = hidden // heads
    if shape["kv_heads"] is None:
        shape["kv_heads"] = 1 if text_config.get("multi_query") else heads
    if shape["intermediate"] is None and model_type in _UNGATED and hidden:
        shape["intermediate"] = 4 * hidden
    tied = text_config.get("tie_word_embeddings")
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else ""
    return {
        **shape,
        "model_type": model_type,
        "architecture": architecture,
        "tied": bool(tied) if isinstance(tied, bool) else model_type in _TIED_BY_DEFAULT,
        "kind": _kind(config, architecture, model_type),
        "quantization": _quantization(config),
        "labels": _labels(config),
        "rope_type": _rope_type(text_config, model_type),
    }


def parameters_by_shape(shape: dict[str, Any]) -> int | None:
    """Return the parameters of a dense decoder; None for an unknown shape or with experts."""
    hidden, layers, vocab = shape["hidden_size"], shape["layers"], shape["vocab"]
    if not hidden or not layers or not vocab or shape["experts"]:
        return None
    matrices = _matrices(shape)
    if not matrices:
        return None
    block = sum(inputs * outputs for inputs, outputs in matrices) + 2 * hidden
    embeddings = vocab * hidden * (1 if shape["tied"] else 2)
    positions = (shape["context"] or 0) * hidden if shape["model_type"] in _LEARNED_POSITIONS else 0
    return int(embeddings + positions + layers * block + hidden)


def _matrices(shape: Mapping[str, Any]) -> list[tuple[int, int]]:
    hidden, intermediate, head_dim = shape["hidden_size"], shape["intermediate"], shape["head_dim"]
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    if not (hidden and heads and kv_heads and head_dim and intermediate):
        return []
    query, keys = (hidden, heads * head_dim), (hidden, kv_heads * head_dim)
    attention = [query, keys, keys, (heads * head_dim, hidden)]
    up = [(hidden, intermediate)] * (1 if shape["model_type"] in _UNGATED else 2)
    return [*attention, *up, (intermediate, hidden)]


def _number(config: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            return value
    return None


def _kind(config: dict[str, Any], architecture: str, model_type: str) -> str:
    if config.get("is_encoder_decoder"):
        return "encoder-decoder"
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return "decoder"
    heads = ("ForMaskedLM", "Classification", "ForQuestionAnswering", "ForPreTraining")
    if architecture.endswith(heads) or model_type in _ENCODERS:
        return "encoder"
    return "unknown"


def _rope_type(config: dict[str, Any], model_type: str) -> str:
    """Return the scaling of the rotary embeddings, of full attention if it has one of its own."""
    if model_type in _LEARNED_POSITIONS | _OTHER_POSITIONS:
        return ""
    scaling = config.get("rope_parameters") or config.get("rope_scaling")
    scaling = scaling if isinstance(scaling, dict) else {}
    full = scaling.get("full_attention")
    own = full if isinstance(full, dict) else scaling
    return str(own.get("rope_type") or own.get("type") or "default")


def _labels(config: dict[str, Any]) -> int:
    names = config.get("id2label")
    return len(names) if isinstance(names, dict) else _number(config, ("num_labels",)) or 2


def _quantization(config: dict[str, Any]) -> str:
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return ""
    if stored.get("load_in_4bit"):
        return "4-bit"
    if stored.get("load_in_8bit"):
        return "8-bit"
    return str(stored.get("quant_method") or "quantized")
