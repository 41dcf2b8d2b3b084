"""Measure a GGUF file with llama.cpp against the answers of the trained model.

A process of its own, since an error in llama.cpp can end it:
`python -m modelforge.export.gguf.check FILE ANSWERS [ADAPTER]`. It prints JSON lines: `stage`
before each stage, `share` while it computes, and at the end `measured` or `problem`. It ends when
its stdin ends.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelforge.errors import ForgeError
from modelforge.export import llama_cpp
from modelforge.export.answers import Answer, Answers
from modelforge.export.gguf.tensors import tensor_differences
from modelforge.stdin import when_stdin_ends

OPEN, TEMPLATE, TOKENS, COMPUTE = "open", "template", "tokens", "compute"
# Context for templates, for which nothing is computed.
_SMALL_CONTEXT = 256


@dataclass
class Measured:
    """What llama.cpp makes of a file. Lists of places count prompts from 0.

    Attributes:
        vocabulary: number of tokens, and `known_vocabulary` that of the trained model.
        template: the first prompt text that differs, as llama.cpp renders it.
        other_ids: prompts with other token ids.
        end_token: the token that the file names as the end of an answer.
        not_ending: ids that end an answer of the trained model, but not here.
        same_text: prompts with the same greedy text.
        kl: mean KL divergence per token in nats.
        same_choices: share of tokens for which both models choose the same next token.
        loss: mean loss per token of the evaluation rows.
        weights, embeddings: relative differences, see `tensor_differences`.
    """

    vocabulary: int = 0
    known_vocabulary: int = 0
    template: str | None = None
    template_place: int = 0
    other_ids: list[int] = field(default_factory=list)
    end_token: int = -1
    not_ending: list[int] = field(default_factory=list)
    same_text: int = 0
    kl: float | None = None
    same_choices: float | None = None
    loss: float | None = None
    weights: float | None = None
    embeddings: float | None = None


def measure(path: Path, answers: Answers, adapter: Path | None) -> Measured:
    """Return what llama.cpp makes of a file.

    Raises:
        RunError: llama.cpp cannot open the file.
        ValueError: The file is damaged.
    """
    result = Measured(known_vocabulary=answers.logits(0).shape[1])
    _print(stage=OPEN)
    if adapter is None:
        result.weights, result.embeddings = tensor_differences(path, answers)
    lengths = [len(known.prompt) + len(known.answer) for known in answers.prompts]
    context = -(-max([*lengths, *map(len, answers.rows)]) // 256) * 256
    with llama_cpp.LlamaModel(path, context, adapter) as model:
        _measure_tokens(model, answers, result)
        if result.vocabulary == result.known_vocabulary:
            _print(stage=COMPUTE)
            _measure_logits(model, answers, result)
        begin = answers.begin if model.adds_begin else ""
    _print(stage=TEMPLATE)
    _compare_templates(path, answers, begin, result)
    return result


def divergence(known: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    """Return the KL divergence in nats of the logits of one token."""
    first, second = llama_cpp.log_softmax(known), llama_cpp.log_softmax(other)
    return float((np.exp(first) * (first - second)).sum())


def main(arguments: list[str]) -> None:
    """Measure a file and print the result."""
    when_stdin_ends(lambda: os._exit(1))
    path, folder, *adapter = map(Path, arguments)
    try:
        result = measure(path, Answers.load(folder), adapter[0] if adapter else None)
    except ForgeError as error:
        _print(problem=error.problems[0].what)
    except (OSError, ValueError, IndexError, KeyError, OverflowError) as error:
        # What GGUFReader raises for files that end too early.
        _print(problem=f"The file is damaged: {error}")
    else:
        _print(measured=asdict(result))


def _measure_tokens(model: llama_cpp.LlamaModel, answers: Answers, result: Measured) -> None:
    _print(stage=TOKENS)
    result.vocabulary, result.end_token = model.vocabulary, model.end_token
    result.not_ending = [token for token in answers.stops if not model.ends_answer(token)]
    result.other_ids = [
        place
        for place, known in enumerate(answers.prompts)
        if model.tokenize(known.text, add_special=not known.messages) != known.prompt
    ]


def _measure_logits(model: llama_cpp.LlamaModel, answers: Answers, result: Measured) -> None:
    divergences, chosen = [], []
    for place, known in enumerate(answers.prompts):
        rows = model.logits(known.prompt + known.answer, len(known.prompt) - 1)
        expected, preferred = answers.logits(place), rows.argmax(axis=1)
        divergences += [divergence(*pair) for pair in zip(expected, rows, strict=True)]
        chosen += (preferred == expected.argmax(axis=1)).tolist()
        result.same_text += same_text(known, preferred == answers.choices(place))
        _print(share=(place + 1) / (len(answers.prompts) + len(answers.rows)))
    result.kl, result.same_choices = float(np.mean(divergences)), float(np.mean(chosen))
    if answers.rows:
        total = sum(model.loss(ids) for ids in answers.rows)
        result.loss = total / sum(len(ids) - 1 for ids in answers.rows)


def same_text(known: Answer, same: NDArray[np.bool_]) -> bool:
    """Return whether the greedy text is the known one.

    `same` (len(answer) + 1,) is true where a token of the answer, or the one after it, is chosen.
    The one after a cut answer does not count.
    """
    return bool(same[: len(known.answer) + (known.end is not None)].all())


def _compare_templates(path: Path, answers: Answers, begin: str, result: Measured) -> None:
    """Compare the texts of llama.cpp's server, which leaves out what it adds as a token."""
    if not answers.prompts[0].messages:
        return
    with llama_cpp.serve(path, _SMALL_CONTEXT) as address:
        for place, known in enumerate(answers.prompts):
            text = _rendered(address, known)
            if text not in (known.text, known.text.removeprefix(begin)):
                result.template, result.template_place = text, place
                return


def _rendered(address: str, known: Answer) -> str:
    body = json.dumps({"messages": known.messages}).encode()
    request = urllib.request.Request(f"{address}/apply-template", body)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return str(json.load(reply)["prompt"])
    except urllib.error.HTTPError as error:
        with error:
            return error.read(1000).decode("utf-8", "replace")


def _print(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
