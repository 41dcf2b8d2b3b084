"""The self-test of models that take no conversation: encoder-decoders and extractive QA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel

from modelforge.config.methods import Head
from modelforge.export.answers import ANSWER_TOKENS, conversations_of
from modelforge.export.float32 import compute_in_float32
from modelforge.export.self_test import BASE, LOGIT_BOUNDS, VOCABULARY, SelfTest

Progress = Callable[[float], None]
MAX_TOKENS = 512


@dataclass(frozen=True)
class Output:
    """What a model made of an input: the ids it chose, and its log probabilities (rows, ids)."""

    input_ids: list[int]
    chosen: list[int]
    log_probs: torch.Tensor


def outputs_of(model: Any, tokenizer: Any, head: Head, progress: Progress) -> list[Output]:
    """Return what a model makes of the general prompts."""
    compute_in_float32(model.eval())
    texts = [conversation[0]["content"] for conversation in conversations_of([])]
    outputs = []
    for place, text in enumerate(texts):
        # Any other text is a passage to search for the answer.
        pair = (texts[place - 1],) if head == "span" else ()
        inputs = tokenizer(
            text, *pair, return_tensors="pt", truncation=True, max_length=MAX_TOKENS
        ).to(model.device)
        with torch.no_grad():
            outputs.append(_ANSWERS[head](model, inputs))
        progress((place + 1) / len(texts))
    return outputs


def compare_outputs(
    model: Any, tokenizer: Any, head: Head, known: Sequence[Output], progress: Progress
) -> SelfTest:
    """Compare a model with the outputs of the trained one."""
    result = SelfTest(prompts=len(known), max_logit_difference=0.0)
    largest = 0.0
    for place, (mine, theirs) in enumerate(
        zip(outputs_of(model, tokenizer, head, progress), known, strict=True)
    ):
        if mine.input_ids != theirs.input_ids:
            result.fail(VOCABULARY, f"Prompt {place + 1} is tokenized otherwise.")
        elif mine.log_probs.shape == theirs.log_probs.shape:
            difference = (mine.log_probs - theirs.log_probs).abs().max()
            largest = max(largest, float(difference))
        result.same_text += mine.chosen == theirs.chosen
    result.max_logit_difference = largest
    bound = LOGIT_BOUNDS[model.dtype]
    if largest > bound or not result.same_text:
        what = f"Logits differ by up to {largest:.3g}; {bound:g} is allowed."
        result.fail(BASE, what)
    return result


def _generated(model: Any, inputs: Any) -> Output:
    output = model.generate(
        **inputs,
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        num_beams=1,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.stack(output.logits, dim=1)[0]
    chosen = output.sequences[0].tolist()
    return Output(inputs["input_ids"][0].tolist(), chosen, _log_softmax(logits))


def _span(model: Any, inputs: Any) -> Output:
    # PEFT's own class for this head leaves out token_type_ids.
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    output = inner(**inputs)
    logits = torch.stack((output.start_logits[0], output.end_logits[0]))
    chosen = logits.argmax(dim=-1).tolist()
    return Output(inputs["input_ids"][0].tolist(), chosen, _log_softmax(logits))


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(dim=-1).cpu()


_ANSWERS: dict[Head, Callable[[Any, Any], Output]] = {"seq2seq": _generated, "span": _span}
