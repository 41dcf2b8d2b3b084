"""Compare an export with the model that was trained: tokens, chat template, stop, logits and texts.

The trained model answers the prompts once; each export is then measured against its answers.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelforge.export import llama_cpp
from modelforge.paths import resource_folder

Progress = Callable[[float], None]
ANSWER_TOKENS = 64
CONTEXT = 2048
# Largest mean KL divergence per token, in nats.
KL_BOUNDS = {
    "f16": 1e-3,
    "bf16": 1e-2,
    "q8_0": 0.01,
    "q6_k": 0.03,
    "q5_k_m": 0.08,
    "q4_k_m": 0.15,
    "iq4_xs": 0.2,
}
# Largest difference of a logit of the merged model, by precision of its weights.
LOGIT_BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}


@dataclass(frozen=True)
class Answer:
    """A prompt as text and ids, the greedy answer, and the log probabilities while giving it.

    `log_probs` (len(answer) + 1, vocabulary) float32: the last row is that of the token after the
    answer.
    """

    text: str
    prompt: list[int]
    answer: list[int]
    log_probs: NDArray[np.float32]


@dataclass
class SelfTest:
    """What a self-test found. `cause` names the first part that failed, or is empty."""

    prompts: int = 0
    same_text: int = 0
    kl: float | None = None
    max_logit_difference: float | None = None
    cause: str = ""
    details: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every part passed."""
        return not self.cause

    def fail(self, cause: str, detail: str) -> None:
        """Note a part that failed."""
        self.cause = self.cause or cause
        self.details.append(detail)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self) | {"passed": self.passed}


def general_prompts() -> list[list[dict[str, str]]]:
    """Return the conversations that every export is tested with."""
    file = resource_folder("assets") / "self_test.json"
    texts: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return [[{"role": "user", "content": text}] for text in texts]


def answers_of(
    model: Any, tokenizer: Any, conversations: Sequence[list[dict[str, str]]], progress: Progress
) -> list[Answer]:
    """Return the greedy answers of a model on its device, with their log probabilities."""
    answers = []
    for place, conversation in enumerate(conversations):
        text = tokenizer.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=False
        )
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        answer = _greedy(model, prompt)
        log_probs = _log_softmax(_logits(model, prompt, answer))
        answers.append(Answer(text, prompt, answer, log_probs))
        progress((place + 1) / len(conversations))
    return answers


def compare_merged(
    model: Any, tokenizer: Any, answers: Sequence[Answer], progress: Progress
) -> SelfTest:
    """Compare a merged model with the answers of the trained one."""
    result = SelfTest(prompts=len(answers), max_logit_difference=0.0)
    for place, known in enumerate(answers):
        ids = tokenizer(known.text, add_special_tokens=False)["input_ids"]
        if ids != known.prompt:
            result.fail("tokenizer", f"Prompt {place + 1} is tokenized otherwise.")
        log_probs = _log_softmax(_logits(model, known.prompt, known.answer))
        difference = float(np.abs(log_probs - known.log_probs).max())
        result.max_logit_difference = max(result.max_logit_difference or 0.0, difference)
        result.same_text += _greedy(model, known.prompt) == known.answer
        progress((place + 1) / len(answers))
    bound = LOGIT_BOUNDS[model.dtype]
    if (result.max_logit_difference or 0.0) > bound:
        what = f"Logits differ by up to {result.max_logit_difference:.3g}; {bound:g} is allowed."
        result.fail("weights", what)
    return result


def compare_gguf(
    path: Path,
    quantization: str,
    tokenizer: Any,
    conversations: Sequence[list[dict[str, str]]],
    answers: Sequence[Answer],
    progress: Progress,
) -> SelfTest:
    """Compare a GGUF file, run by llama.cpp, with the answers of the trained model."""
    result = SelfTest(prompts=len(answers))
    _compare_templates(path, conversations, answers, result)
    divergences = []
    with llama_cpp.LlamaModel(path, CONTEXT) as model:
        if not model.ends_answer(tokenizer.eos_token_id):
            end = tokenizer.eos_token
            result.fail("end token", f"The model ends answers with {end}; this file does not stop.")
        for place, known in enumerate(answers):
            if model.tokenize(known.text) != known.prompt:
                result.fail("tokenizer", f"Prompt {place + 1} is tokenized otherwise.")
            logits = model.logits(known.prompt + known.answer)[len(known.prompt) - 1 :]
            divergences.append(_divergence(known.log_probs, _log_softmax(logits)))
            result.same_text += model.generate(known.prompt, ANSWER_TOKENS) == known.answer
            progress((place + 1) / len(answers))
    result.kl = float(np.concatenate(divergences).mean())
    if not result.kl <= KL_BOUNDS[quantization]:
        bound = KL_BOUNDS[quantization]
        what = f"The mean KL divergence per token is {result.kl:.3g}; {bound:g} is allowed."
        result.fail("weights", what)
    return result


def _compare_templates(
    path: Path,
    conversations: Sequence[list[dict[str, str]]],
    answers: Sequence[Answer],
    result: SelfTest,
) -> None:
    with llama_cpp.serve(path, CONTEXT) as address:
        for place, (conversation, known) in enumerate(zip(conversations, answers, strict=True)):
            body = json.dumps({"messages": conversation}).encode()
            request = urllib.request.Request(f"{address}/apply-template", body)
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = json.load(reply)["prompt"]
            if text != known.text:
                what = f"llama.cpp renders prompt {place + 1} as {text[:200]!r}"
                result.fail("template", f"{what}, not as {known.text[:200]!r}.")
                return


def _greedy(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt], device=model.device)
    with torch.no_grad():
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER_TOKENS, do_sample=False
        )
    answer: list[int] = output[0][len(prompt) :].tolist()
    ends = model.generation_config.eos_token_id
    stops = {ends} if isinstance(ends, int) else set(ends or [])
    return answer[:-1] if answer and answer[-1] in stops else answer


def _logits(model: Any, prompt: list[int], answer: list[int]) -> NDArray[np.float32]:
    ids = torch.tensor([prompt + answer], device=model.device)
    with torch.no_grad():
        logits = model(ids, logits_to_keep=len(answer) + 1).logits[0]
    values: NDArray[np.float32] = logits.float().cpu().numpy()
    return values


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.log_softmax(torch.from_numpy(logits), dim=-1).numpy()


def _divergence(known: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the KL divergence of each row in nats, of log probabilities of the same tokens."""
    wide = known.astype(np.float64)
    result: NDArray[np.float32] = (np.exp(wide) * (wide - other)).sum(axis=-1)
    return result
