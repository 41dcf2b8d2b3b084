"""Compare an export with the model that was trained: tokens, chat template, stop, logits and texts.

The trained model answers the prompts once; each export is then measured against its answers. An
export needs no answers of its own: it is given the text of the trained model, and writes the same
greedy text exactly if it prefers the same token at every place.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelforge.errors import ForgeError, Problem
from modelforge.export.answers import Answers
from modelforge.export.float32 import compute_in_float32
from modelforge.export.gguf import check
from modelforge.export.gguf.check import Measured
from modelforge.export.gguf.tensors import direction_difference, relative_difference
from modelforge.export.trained_answers import embeddings, logits, render, stop_ids, token_ids
from modelforge.modeling.merging.weights import shards_of
from modelforge.paths import PROJECT_ROOT

Progress = Callable[[float], None]
# Largest mean KL divergence per token, in nats: twice that of healthy exports (docs/exports.md).
# That of F16 is wider than the measured 2.1e-5: llama.cpp rounds otherwise on other processors.
KL_BOUNDS = {
    "f16": 1e-3,
    "bf16": 0.023,
    "q8_0": 0.009,
    "q6_k": 0.023,
    "q5_k_m": 0.173,
    "q4_k_m": 0.135,
    "iq4_xs": 0.46,
}
# Largest difference of a logit of the merged model, by precision of its weights.
LOGIT_BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}
# Largest relative difference of weights that are the same up to rounding. Weights that went through
# 4 bits differ by about 0.09, those of unrelated models by about 1.4.
WEIGHT_BOUND, OTHER_BASE_BOUND = 0.04, 0.5
# Largest 1 - cosine of the embeddings of added tokens; 4 bits make about 0.005.
EMBEDDING_BOUND = 0.1
# Share of equal choices under which the models are unrelated.
RELATED = 0.5

TRUNCATED, VOCABULARY, TEMPLATE, END = "truncated file", "vocabulary", "template", "end token"
MERGE, BASE, PRECISION, CRASH = "merge into 4-bit", "wrong base", "quantization", "llama.cpp"
REMEDIES = {
    TRUNCATED: "Check that the disk has space and no errors, then export it again.",
    VOCABULARY: "Export with the tokenizer of the run. If tokens were added, their embeddings must "
    "be trained and saved with the adapter (modules_to_save).",
    TEMPLATE: "Export with the chat template of the run. If llama.cpp cannot render it, choose a "
    "simpler one and train again, or export the merged model.",
    END: "Export with the end token that the run was trained with: it must be the end token of the "
    "tokenizer.",
    MERGE: "Merge into the base model in 16 or 32 bits, not into one loaded in 4 bits.",
    BASE: "Merge into exactly the base model and revision that the run was trained on.",
    PRECISION: "Choose a quantization with more bits.",
    CRASH: "Export it again, or export the merged model; the log has the error of llama.cpp.",
}
# Quantization → what has more bits.
_MORE_BITS = {
    "q8_0": "Choose f16, which has more bits.",
    **dict.fromkeys(("q6_k", "q5_k_m"), "Choose q8_0 or f16, which have more bits."),
    **dict.fromkeys(("q4_k_m", "iq4_xs"), "Choose q5_k_m, q6_k or q8_0, which have more bits."),
}
# What to do if rounding the merged weights changes texts: of a merged model, of a file in BF16.
ROUNDED = "For the same texts export the adapter, or merge in 32 bits (`--precision float32`)."
ROUNDED_GGUF = "F16 has three more bits for what the training has changed."
# The likely cause of a crash, by the stage in which it happened.
_CRASHES = {
    check.OPEN: TRUNCATED,
    check.TOKENS: VOCABULARY,
    check.TEMPLATE: TEMPLATE,
    check.COMPUTE: CRASH,
}
# Parts of llama.cpp's errors about files that are whole, but do not fit together.
_VOCABULARY_ERRORS = ("vocab", "tokenizer", "token_embd", "pre-tokenizer", "output.weight")


@dataclass
class SelfTest:
    """What a self-test found. `cause` is the likely cause of the first failure, or empty."""

    prompts: int = 0
    same_text: int = 0
    kl: float | None = None
    max_logit_difference: float | None = None
    # How far rounding the merged weights of the trained model to 16 bits moves its logits.
    rounding: float | None = None
    perplexity: float | None = None
    trained_perplexity: float | None = None
    caution: str = ""
    cause: str = ""
    remedy: str = ""
    details: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every part passed."""
        return not self.cause

    def warn_of_rounding(self, rounding: float | None, remedy: str = ROUNDED) -> None:
        """Note how far rounding alone moves the trained model; a caution if its texts change."""
        self.rounding = rounding
        if rounding is not None and self.same_text < self.prompts:
            texts = f"{self.prompts - self.same_text} of {self.prompts} texts"
            what = f"Rounding the merged weights to 16 bits changes {texts} of the trained model."
            self.caution = f"{what} {remedy}"

    def fail(self, cause: str, detail: str) -> None:
        """Note a part that failed."""
        if not self.cause:
            self.cause, self.remedy = cause, REMEDIES[cause]
        self.details.append(detail)

    def problem(self) -> Problem | None:
        """Return the failure as a problem; None if every part passed."""
        if self.passed:
            return None
        what = f"{' '.join(self.details[:3])} Likely cause: {self.cause}."
        return Problem("self-test", what, self.remedy)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        values = asdict(self) | {"passed": self.passed}
        # JSON has neither NaN nor infinity; `details` names them.
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in values.items()
        }


def compare_merged(folder: Path, answers: Answers, device: str, progress: Progress) -> SelfTest:
    """Compare the model in a folder with the answers of the trained one."""
    result = SelfTest(prompts=len(answers.prompts))
    try:
        _judge_weights(_weight_difference(folder, answers), result)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (SafetensorError, OSError, EOFError, ForgeError) as error:
        result.fail(TRUNCATED, f"The export cannot be read: {_first_line(error)}.")
        return result
    except (RuntimeError, ValueError) as error:
        result.fail(VOCABULARY, f"The export cannot be loaded: {_first_line(error)}.")
        return result
    return compare_model(model.to(device), tokenizer, answers, progress, result)


def compare_model(
    model: Any,
    tokenizer: Any,
    answers: Answers,
    progress: Progress,
    result: SelfTest | None = None,
) -> SelfTest:
    """Compare a loaded model with the answers of the trained one; add to `result`."""
    result = result or SelfTest(prompts=len(answers.prompts))
    compute_in_float32(model.eval())
    _compare_tokenizer(model, tokenizer, answers, result)
    rows = model.get_input_embeddings().weight.shape[0]
    if rows != answers.logits(0).shape[1]:
        count = answers.logits(0).shape[1]
        result.fail(VOCABULARY, f"It has {rows:,} tokens; the trained model has {count:,}.")
        return result
    difference = direction_difference(embeddings(model, answers.added), answers.embeddings())
    _judge_embeddings(difference if answers.added else None, result)
    differences, choices = [], []
    for place, known in enumerate(answers.prompts):
        found = logits(model, known.prompt + known.answer, len(known.answer) + 1)
        expected = answers.logits(place)
        differences.append(np.abs(found - expected).max())
        same = found.argmax(axis=1) == answers.choices(place)
        choices += same.tolist()
        result.same_text += check.same_text(known, same)
        progress((place + 1) / len(answers.prompts))
    # Of NumPy, since the largest of Python ignores what is not a number.
    largest = result.max_logit_difference = float(np.max(differences))
    result.warn_of_rounding(answers.rounding)
    if not largest <= (bound := LOGIT_BOUNDS.get(model.dtype, LOGIT_BOUNDS[torch.bfloat16])):
        what = f"Logits differ by up to {largest:.3g}; {bound:g} is allowed."
        result.fail(MERGE if np.mean(choices) > RELATED else BASE, what)
    return result


def compare_gguf(
    path: Path,
    quantization: str,
    answers: Answers,
    progress: Progress,
    adapter: Path | None = None,
) -> SelfTest:
    """Compare a GGUF file, and a LoRA adapter for it, with the answers of the trained model."""
    result = SelfTest(prompts=len(answers.prompts))
    found = _measure(path, answers, adapter, progress, result)
    if found is None:
        return result
    _judge_tokens(found, answers, result)
    if found.template is not None:
        known = answers.prompts[found.template_place].text
        what = f"llama.cpp renders prompt {found.template_place + 1} as {found.template[:200]!r}"
        result.fail(TEMPLATE, f"{what}, not as {known[:200]!r}.")
    _judge_end(found, answers, result)
    _judge_weights(found.weights, result)
    result.same_text, result.kl = found.same_text, found.kl
    result.warn_of_rounding(answers.rounding, ROUNDED_GGUF)
    if found.loss is not None and answers.loss is not None:
        result.perplexity = float(np.exp(found.loss))
        result.trained_perplexity = float(np.exp(answers.loss))
    if found.kl is not None and not found.kl <= (bound := KL_BOUNDS[quantization]):
        what = f"The mean KL divergence per token is {found.kl:.3g} nats; {bound:g} is allowed."
        is_related = (found.same_choices or 0.0) > RELATED
        result.fail(PRECISION if is_related else BASE, what)
        if result.cause == PRECISION:
            result.remedy = _MORE_BITS.get(quantization, "Export the merged model or the adapter.")
    return result


def _measure(
    path: Path, answers: Answers, adapter: Path | None, progress: Progress, result: SelfTest
) -> Measured | None:
    """Run llama.cpp in a process of its own; return what it measured, or note why it did not."""
    command = [sys.executable, "-m", "modelforge.export.gguf.check", str(path), str(answers.folder)]
    command += [str(adapter)] if adapter else []
    log, line, stage = answers.folder / "check.log", {}, check.OPEN
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        assert process.stdout is not None, "the process was started with pipes"
        for raw in process.stdout:
            line = _parsed(raw)
            stage = line.get("stage", stage)
            progress(line.get("share", 0.0))
    if "measured" in line:
        return Measured(**line["measured"])
    if problem := line.get("problem"):
        is_whole = any(word in problem for word in _VOCABULARY_ERRORS) and "bounds" not in problem
        result.fail(VOCABULARY if is_whole else TRUNCATED, problem)
    else:
        last = (log.read_text("utf-8", "replace").strip().splitlines() or [""])[-1][:300]
        what = f"llama.cpp ended with code {process.returncode} (stage: {stage}). {last}"
        result.fail(_CRASHES[stage], what.strip())
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def _parsed(raw: bytes) -> dict[str, Any]:
    """Return a line of the process; llama.cpp prints others."""
    try:
        line = json.loads(raw)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


def _judge_tokens(found: Measured, answers: Answers, result: SelfTest) -> None:
    if found.vocabulary != found.known_vocabulary:
        what = f"It has {found.vocabulary:,} tokens; the trained model has"
        result.fail(VOCABULARY, f"{what} {found.known_vocabulary:,}.")
    if found.other_ids:
        count, first = len(found.other_ids), found.other_ids[0] + 1
        what = f"{count} of {len(answers.prompts)} prompts have other tokens, first prompt {first}."
        result.fail(VOCABULARY, what)
    _judge_embeddings(found.embeddings, result)


def _judge_end(found: Measured, answers: Answers, result: SelfTest) -> None:
    texts = dict(zip(answers.stops, answers.stop_texts, strict=True))
    names = " or ".join(texts.values())
    if found.end_token not in texts:
        result.fail(END, f"The trained model ends answers with {names}; the file names another.")
    if found.not_ending:
        missing = " and ".join(texts[token] for token in found.not_ending)
        result.fail(END, f"Answers end with {missing}, at which llama.cpp does not stop.")


def _judge_weights(difference: float | None, result: SelfTest) -> None:
    if difference is None or difference <= WEIGHT_BOUND:
        return
    what = f"Weights differ by {difference:.1%} from those of the trained model;"
    cause = MERGE if difference <= OTHER_BASE_BOUND else BASE
    result.fail(cause, f"{what} {WEIGHT_BOUND:.0%} is allowed.")


def _judge_embeddings(difference: float | None, result: SelfTest) -> None:
    if difference is not None and not difference <= EMBEDDING_BOUND:
        what = "Embeddings of added tokens are not those of the trained model"
        result.fail(VOCABULARY, f"{what} (1 - cosine: {difference:.2f}).")


def _compare_tokenizer(model: Any, tokenizer: Any, answers: Answers, result: SelfTest) -> None:
    texts = dict(zip(answers.stops, answers.stop_texts, strict=True))
    for place, known in enumerate(answers.prompts):
        if known.messages and (text := render(tokenizer, known.messages)) != known.text:
            what = f"Prompt {place + 1} is rendered as {text[:200]!r}"
            result.fail(TEMPLATE, f"{what}, not as {known.text[:200]!r}.")
            break
        if token_ids(tokenizer, known.text, bool(known.messages)) != known.prompt:
            result.fail(VOCABULARY, f"Prompt {place + 1} has other tokens.")
            break
    if missing := set(texts) - set(stop_ids(model, tokenizer)):
        names = " and ".join(texts[token] for token in sorted(missing))
        result.fail(END, f"Answers end with {names}, at which the export does not stop.")


def _weight_difference(folder: Path, answers: Answers) -> float | None:
    """Return the largest relative difference of the compared weights in a folder."""
    places = {key: place for place, key in enumerate(answers.weights)}
    differences = []
    for shard in shards_of(folder):
        with safe_open(shard.path, framework="pt") as file:
            for key in set(shard.keys) & places.keys():
                known = answers.weight(places[key])
                rows: torch.Tensor = file.get_slice(key)[: known.shape[0]]
                differences.append(relative_difference(rows.float().numpy(), known))
    return float(np.max(differences)) if differences else None
