"""The nested group about the model: template, attention, number format and context length."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from modelforge.config.schema.base import ALL_CACHES, BOTH, MEMORY, Group, SettingsGroup, setting
from modelforge.config.schema.data import MAX_TEXT

# The largest factor that is accepted, and the largest that is chosen from the rows.
MAX_ROPE_FACTOR = 128
MAX_AUTO_ROPE_FACTOR = 6
MAX_CONTEXT = 2**24
MAX_PREFIX = 1000
_KERNEL = r"\w[\w.-]*/\w[\w.-]*(@[\w.-]+)?(:[\w.-]+)?"
_IMPLEMENTATIONS = ("sdpa", "eager", "varlen", "flash_attention_2", "flash_attention_3")
Attention = Annotated[
    str,
    StringConstraints(pattern=f"^({'|'.join(_IMPLEMENTATIONS)}|{_KERNEL})$", max_length=200),
    Field(examples=list(_IMPLEMENTATIONS)),
]


def is_hub_kernel(attention: str) -> bool:
    """Return whether an attention implementation is a kernel of the Hub."""
    return "/" in attention


class Model(SettingsGroup):
    """Chat template, system message, attention, number format and context length of the model."""

    chat_template: str | None = setting(None, "Chat template", Group.MODEL, max_length=4096)
    """How messages become text: empty for the model's own, a name, or a .jinja file.

    The names are chatml, llama3, qwen, gemma.
    """

    tokenizer: str | None = setting(
        None, "Tokenizer", Group.MODEL, min_length=1, max_length=4096, irrelevant_for=ALL_CACHES
    )
    """Folder or name of a model here whose tokenizer is used; empty uses the model's own.

    Its ids must have a row in the embeddings of the model. Where tokens have other ids than in the
    model's own tokenizer, the model has to learn them anew.
    """

    system_prompt: str | None = setting(
        None, "System message", Group.MODEL, max_length=MAX_TEXT, multiline=True
    )
    """Placed before every conversation, instead of the system message of the data."""

    response_prefix: str | None = setting(
        None, "Response prefix", Group.MODEL, max_length=MAX_PREFIX, multiline=True
    )
    """Text with which every answer begins, such as a marker that ends thinking.

    It is part of the prompt: training shows it and does not train it. It is saved in the chat
    template, so that chat, evaluation, the API server and exports begin answers with it too.
    """

    attn_implementation: Attention = setting("sdpa", "Attention", Group.MODEL, affects=BOTH)
    """The attention implementation, or OWNER/NAME of a Hub kernel; sdpa is fast everywhere.

    varlen keeps packed rows, and those of padding-free batches, apart without a mask: faster and
    with less memory, on GPUs of compute capability 8.0 or higher, without a package.
    flash_attention_2 and _3 need their package and a supported GPU. A kernel of the Hub, such as
    kernels-community/flash-attn2, is native code that is downloaded: it has to be allowed.
    """

    allow_hub_kernels: bool = setting(False, "Allow Hub kernels", Group.MODEL)
    """Allow to download the attention kernel from the Hub and to run its native code here.

    Only for kernels whose authors you trust: such code can do everything that you can.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Dtype of the weights", Group.MODEL, affects=MEMORY
    )
    """Number format in which the weights are held; auto follows the precision of the training.

    Weights that are trained in full are held in float32 with auto. bfloat16 halves their memory,
    that of their gradients and that of the optimizer, and rounds small changes away.
    """

    rope_type: Literal["none", "linear", "dynamic", "yarn"] = setting(
        "none", "Rope scaling", Group.MODEL
    )
    """Extend the context length of the model by scaling its rotary position embeddings.

    yarn keeps the model's abilities best; linear divides all positions by the factor; dynamic
    changes nothing up to the model's own context length. Chat, evaluation and exports scale too.
    """

    rope_factor: float | None = setting(
        None,
        "Rope factor",
        Group.MODEL,
        ge=1,
        le=MAX_ROPE_FACTOR,
    )
    """Factor by which the context length grows; auto is the smallest that holds the longest row.

    auto is a whole number and at most 6, unless the max context length asks for more.
    """

    max_model_len: int | None = setting(
        None,
        "Max context length",
        Group.MODEL,
        ge=1,
        le=MAX_CONTEXT,
        unit="tokens",
        affects=BOTH,
    )
    """Context length that rope scaling must reach; without scaling an upper limit of rows."""
