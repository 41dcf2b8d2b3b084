"""Checks of the model: its kind, its own code, its chat template and its quantization."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from modelforge.config.schema.model import is_hub_kernel
from modelforge.data.chat_templates import template_text
from modelforge.errors import DataError, Finding, blocker, caution, note
from modelforge.models.generation_fields import describe
from modelforge.preflight.context import RunContext

# What Transformers 5.17 works with.
KERNELS = "kernels>=0.16,<0.17"
# Per task: suitable kinds, their description, and a remedy.
KINDS = {
    "text-generation": (
        ("decoder",),
        "a decoder",
        "Choose a decoder, for instance the starter model or Qwen/Qwen3-0.6B.",
    ),
    "summarization": (
        ("decoder", "encoder-decoder"),
        "a decoder or an encoder-decoder",
        "Choose an encoder-decoder, for instance google/flan-t5-small, or the starter model.",
    ),
    "extractive-question-answering": (
        ("decoder", "encoder"),
        "an encoder or a decoder",
        "Choose an encoder, for instance distilbert/distilbert-base-cased, or the starter model.",
    ),
}
_LIMITATIONS = {
    "encoder": "cannot generate text",
    "encoder-decoder": "converts one text to another and cannot continue a conversation",
}


def model_wrong_kind(context: RunContext) -> Iterator[Finding]:
    """Refuse a model whose architecture cannot do the task."""
    model = context.model
    if model is None or model.kind == "unknown":
        return
    kinds, wanted, remedy = KINDS[context.config.task]
    if model.kind not in kinds:
        yield blocker(
            "model-wrong-kind",
            f"{model.name} is a {model.architecture or model.model_type}, which "
            f"{_LIMITATIONS[model.kind]}; {context.config.task} needs {wanted}.",
            remedy,
            "model_name",
            "starter",
        )


def remote_code_unused(context: RunContext) -> Iterator[Finding]:
    """Note that the Python code of the model is not used."""
    if context.model and context.model.remote_code:
        yield note(
            "remote-code-off",
            f"{context.model.name} contains Python code. It is not used; the implementation of "
            "Transformers is trained.",
            where="model_name",
        )


def generation_fields_dropped(context: RunContext) -> Iterator[Finding]:
    """Note fields of the generation config that cannot be saved with the trained model."""
    fields = context.model.generation_fields if context.model else ()
    if fields:
        yield note("generation-fields-dropped", describe(fields), where="model_name")


def hub_kernel(context: RunContext) -> Iterator[Finding]:
    """Refuse an attention kernel of the Hub that cannot be downloaded."""
    kernel = context.plan.attn_implementation
    if not is_hub_kernel(kernel):
        return
    if "kernels" not in context.machine.packages:
        what = f"The kernel {kernel} needs the package kernels, which is not installed."
        remedy = f'Run `{sys.executable} -m pip install "{KERNELS}"`, or choose sdpa.'
    elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        what = f"HF_HUB_OFFLINE prevents the download of the kernel {kernel}."
        remedy = "Unset it, or choose sdpa."
    else:
        return
    yield blocker("kernel-unavailable", what, remedy, "model.attn_implementation", "sdpa")


def rope_scaling(context: RunContext) -> Iterator[Finding]:
    """Refuse to scale positions that the model does not have, or scales itself."""
    model, wanted = context.model, context.config.model.rope_type
    if wanted == "none" or model is None or model.rope_type == "default":
        return
    what = f"{model.name} has no rotary position embeddings"
    if model.rope_type:
        what = f"{model.name} scales its rotary position embeddings itself ({model.rope_type})"
    yield blocker(
        "rope-unsupported",
        f"{what}, so its context length cannot be extended by {wanted}.",
        "Set the rope scaling to none, or choose another model.",
        "model.rope_type",
        "none",
    )


def chat_template_file(context: RunContext) -> Iterator[Finding]:
    """Refuse a chat template whose file cannot be read."""
    try:
        template_text(context.config.model.chat_template)
    except DataError as error:
        for problem in error.problems:
            yield blocker("chat-template-file", problem.what, problem.remedy, "model.chat_template")


def no_chat_template(context: RunContext) -> Iterator[Finding]:
    """Note that a model without a chat template gets one."""
    model, summary = context.model, context.summary
    if context.config.model.chat_template or not model or model.has_chat_template or not summary:
        return
    if summary.mapping.kind not in ("text", "span", "segments"):
        yield note(
            "no-chat-template",
            f"{model.name} has no chat template; one is added and saved with the run.",
            "A model whose name ends in Instruct or Chat learns to answer sooner.",
            "model_name",
        )


def model_already_quantized(context: RunContext) -> Iterator[Finding]:
    """Report weights that are stored quantized, and refuse formats that cannot be trained."""
    model = context.model
    if model is None or model.quantization in {"", context.plan.quantization}:
        return
    if model.quantization in {"4-bit", "8-bit"}:
        wanted = context.plan.quantization
        yield caution(
            "model-already-quantized",
            f"{model.name} is stored in {model.quantization} and stays so, "
            f"although the settings select {'16 or 32 bits' if wanted == 'none' else wanted}.",
            "Choose the unquantized model, or the same number of bits.",
            "model_name",
        )
        return
    yield blocker(
        "model-already-quantized",
        f"{model.name} is stored as {model.quantization}, which cannot be trained.",
        "Choose the unquantized model; it can be quantized to 4 bits when it is loaded.",
        "model_name",
    )
