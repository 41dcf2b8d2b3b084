"""What preflight says of the model: can it do the task, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.errors import Finding
from modelforge.preflight.case import Case


def model_wrong_kind(case: Case) -> Iterator[Finding]:
    """Refuse a model that does not write text for a task that wants text written."""
    facts = case.facts
    if facts is None or case.config.task != "text-generation":
        return
    reads = {
        "encoder": "reads text but does not write it",
        "encoder-decoder": "turns one text into another and does not continue one",
    }
    if facts.kind in reads:
        yield Finding(
            "blocker",
            "model-wrong-kind",
            f"{facts.name} is a {facts.architecture or facts.model_type}, which "
            f"{reads[facts.kind]}; text-generation needs a decoder.",
            "Choose a decoder, for instance the starter model or Qwen/Qwen3-0.6B.",
            "model_name",
            "starter",
        )


def remote_code_off(case: Case) -> Iterator[Finding]:
    """Tell that the model's own Python code stays unused."""
    if case.facts and case.facts.remote_code:
        yield Finding(
            "note",
            "remote-code-off",
            f"{case.facts.name} brings Python code of its own; it stays unused, and Transformers' "
            "own version of the model is trained.",
            where="model_name",
        )


def no_chat_template(case: Case) -> Iterator[Finding]:
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


def model_already_quantized(case: Case) -> Iterator[Finding]:
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


def _scheme(case: Case) -> str:
    return "16 or 32 bits" if case.plan.quantization == "none" else case.plan.quantization
