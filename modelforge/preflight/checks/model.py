"""What preflight says of the model: can it do the task, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.errors import Finding
from modelforge.preflight.context import RunContext

# Which kinds can do a task, and what to choose instead.
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
_WAYS = {
    "encoder": "reads text but does not write it",
    "encoder-decoder": "turns one text into another and does not continue one",
}


def model_wrong_kind(case: RunContext) -> Iterator[Finding]:
    """Refuse a model that cannot do the task, by what its config.json says it is."""
    facts = case.facts
    if facts is None or facts.kind == "unknown":
        return
    kinds, wanted, remedy = KINDS[case.config.task]
    if facts.kind not in kinds:
        yield Finding(
            "blocker",
            "model-wrong-kind",
            f"{facts.name} is a {facts.architecture or facts.model_type}, which "
            f"{_WAYS[facts.kind]}; {case.config.task} needs {wanted}.",
            remedy,
            "model_name",
            "starter",
        )


def remote_code_off(case: RunContext) -> Iterator[Finding]:
    """Tell that the model's own Python code stays unused."""
    if case.facts and case.facts.remote_code:
        yield Finding(
            "note",
            "remote-code-off",
            f"{case.facts.name} brings Python code of its own; it stays unused, and Transformers' "
            "own version of the model is trained.",
            where="model_name",
        )


def no_chat_template(case: RunContext) -> Iterator[Finding]:
    """Tell that rows of chat get a template that the model has never seen."""
    facts, look = case.facts, case.look
    if case.config.model.chat_template:
        return
    if facts and not facts.has_chat_template and look and look.mapping.kind not in ("text", "span"):
        yield Finding(
            "note",
            "no-chat-template",
            f"{facts.name} has no chat template; it is given one, which is saved with the run.",
            "A model whose name ends in Instruct or Chat learns to answer sooner.",
            "model_name",
        )


def model_already_quantized(case: RunContext) -> Iterator[Finding]:
    """Tell that the weights come quantized, or refuse a way that cannot be trained."""
    facts = case.facts
    if facts is None or facts.quantization in {"", case.plan.quantization}:
        return
    if facts.quantization in {"4-bit", "8-bit"}:
        yield Finding(
            "caution",
            "model-already-quantized",
            f"{facts.name} is stored in {facts.quantization} and stays so, "
            f"though the settings say {_scheme(case)}.",
            "Choose the model's original, or the same number of bits.",
            "model_name",
        )
        return
    yield Finding(
        "blocker",
        "model-already-quantized",
        f"{facts.name} is stored as {facts.quantization}, which this version does not train.",
        "Choose the model's original; 4-bit weights are made from it here.",
        "model_name",
    )


def _scheme(case: RunContext) -> str:
    return "16 or 32 bits" if case.plan.quantization == "none" else case.plan.quantization
