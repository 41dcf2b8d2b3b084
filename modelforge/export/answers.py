"""What the trained model answered to the prompts of the self-test, in files.

Torch-free, so that the process that runs llama.cpp reads them as well. Logits can take gigabytes;
each prompt has a file of its own, of which only the rows in use are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelforge.paths import resource_folder

Message = dict[str, str]
PROMPTS, OWN_PROMPTS, ANSWER_TOKENS = 20, 10, 64


@dataclass(frozen=True)
class Answer:
    """A prompt as messages, text and ids, and the greedy answer, without the token that ends it.

    `messages` is empty if the model has no chat template. `end` is None if the answer was cut.
    """

    messages: list[Message]
    text: str
    prompt: list[int]
    answer: list[int]
    end: int | None


@dataclass(frozen=True)
class Answers:
    """The answers of the trained model, and what else a comparison needs.

    Attributes:
        folder: holds the logits, rows of weights, and this object as `answers.json`.
        stops: the ids that end an answer, the tokenizer's end token first, and their texts.
        begin: the text of the token of the beginning, or "".
        rows: token ids of evaluation rows, and `loss`, their mean loss per token in nats.
        added: ids of added tokens, whose embeddings are compared.
        weights: names of weights of which the first rows are compared.
        rounding: how far rounding to 16 bits moves the logits, if they are those of the model
            merged in 16 bits.
    """

    folder: Path
    prompts: list[Answer]
    stops: list[int]
    stop_texts: list[str]
    begin: str
    rows: list[list[int]]
    loss: float | None
    added: list[int]
    weights: list[str]
    rounding: float | None = None

    def logits(self, place: int) -> NDArray[np.float32]:
        """Return the logits (len(answer) + 1, vocabulary) float32 while giving an answer."""
        return np.load(logits_file(self.folder, place), mmap_mode="r")

    def choices(self, place: int) -> NDArray[np.int64]:
        """Return the tokens that the trained model prefers while giving an answer."""
        path = choices_file(self.folder, place)
        return np.load(path) if path.is_file() else self.logits(place).argmax(axis=1)

    def embeddings(self) -> NDArray[np.float32]:
        """Return the embeddings (len(added), width) float32 of the added tokens."""
        return np.load(self.folder / "embeddings.npy")

    def weight(self, place: int) -> NDArray[np.float32]:
        """Return the first rows (rows, columns) float32 of a compared weight."""
        return np.load(weight_file(self.folder, place))

    def save(self) -> None:
        """Write everything but the arrays."""
        values = asdict(self) | {"folder": str(self.folder)}
        (self.folder / "answers.json").write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Answers:
        """Return the answers in a folder."""
        values: dict[str, Any] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        prompts = [Answer(**prompt) for prompt in values["prompts"]]
        return cls(**values | {"folder": folder, "prompts": prompts})


def logits_file(folder: Path, place: int) -> Path:
    """Return the file with the logits of one answer."""
    return folder / f"logits-{place:02}.npy"


def choices_file(folder: Path, place: int) -> Path:
    """Return the file with the choices of one answer, where the logits are rounded ones."""
    return folder / f"choices-{place:02}.npy"


def weight_file(folder: Path, place: int) -> Path:
    """Return the file with the first rows of one weight."""
    return folder / f"weight-{place}.npy"


def disk_bytes(vocabulary: int) -> int:
    """Return the largest size of the answers of a model on disk."""
    return PROMPTS * (ANSWER_TOKENS + 1) * vocabulary * np.dtype(np.float32).itemsize


def conversations_of(held_out: Sequence[list[Message]]) -> list[list[Message]]:
    """Return the conversations that are answered: evaluation rows, then general questions."""
    own = [
        row[:-1]
        for row in held_out
        if len(row) > 1 and row[-1]["role"] == "assistant" and row[-2]["role"] == "user"
    ]
    file = resource_folder("assets") / "self_test.json"
    texts: list[str] = json.loads(file.read_text(encoding="utf-8"))
    general = [[{"role": "user", "content": text}] for text in texts]
    return (own[:OWN_PROMPTS] + general)[:PROMPTS]
