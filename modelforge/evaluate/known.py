"""What is known of the contestants: losses and answers, kept as lines of `answers.jsonl`.

A line is written as soon as its batch is computed, so that a stopped evaluation loses nothing, and
no evaluation of the same run computes it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from modelforge.modeling.inference import Decoding, Generated, Labelled, Loss

Known = dict[tuple[str, str], dict[str, Any]]


class KnownResults:
    """Losses and answers by contestant and key; new ones are appended to a file.

    `setting` names what a number depends on besides model and tokens: device and precision.
    """

    def __init__(self, path: Path, earlier: Iterable[Path], setting: str) -> None:
        self._path, self._setting = path, setting
        self._known: Known = {}
        for file in (*earlier, path):
            for line in _lines(file):
                self._known[line["contestant"], line["key"]] = line
        # A line that was cut off by the end of the process is completed, and ignored.
        self._separator = "\n" if _ends_within_a_line(path) else ""

    def loss_key(self, row: Labelled, prefix: Sequence[int] = ()) -> str:
        """Return the key of the loss of a sequence behind a prefix."""
        return self._key("loss", list(prefix), row.ids, row.labels)

    def answer_key(self, prompt: list[int], decoding: Decoding, prefix: Sequence[int] = ()) -> str:
        """Return the key of the greedy answer to a prompt behind a prefix."""
        how = [sorted(decoding.stops), decoding.max_new_tokens]
        return self._key("answer", list(prefix), prompt, how)

    def text_key(self, kind: str, *parts: Any) -> str:
        """Return the key of something else that was computed, such as the answer of a span."""
        return self._key(kind, *parts)

    def loss(self, contestant: str, key: str) -> Loss | None:
        """Return a loss that is known."""
        line = self._known.get((contestant, key))
        return Loss(line["nats"], line["tokens"]) if line else None

    def answer(self, contestant: str, key: str) -> Generated | None:
        """Return an answer that is known."""
        line = self._known.get((contestant, key))
        return Generated(line["ids"], line["cut"]) if line else None

    def text(self, contestant: str, key: str) -> str | None:
        """Return a text that is known."""
        line = self._known.get((contestant, key))
        return line["text"] if line else None

    def add_losses(self, contestant: str, losses: Iterable[tuple[str, Loss]]) -> None:
        """Keep losses, each with its key."""
        rows = [{"key": key, "nats": loss.nats, "tokens": loss.tokens} for key, loss in losses]
        self._add(contestant, rows)

    def add_answers(self, contestant: str, answers: Iterable[tuple[str, Generated, str]]) -> None:
        """Keep answers, each with its key and its text."""
        rows = [
            {"key": key, "ids": answer.ids, "cut": answer.is_cut, "text": text}
            for key, answer, text in answers
        ]
        self._add(contestant, rows)

    def add_text(self, contestant: str, key: str, text: str, loss: Loss) -> None:
        """Keep a text with its loss."""
        row = {"key": key, "text": text, "nats": loss.nats, "tokens": loss.tokens}
        self._add(contestant, [row])

    def _add(self, contestant: str, rows: list[dict[str, Any]]) -> None:
        lines = [{"contestant": contestant, **row} for row in rows]
        self._known.update({(contestant, line["key"]): line for line in lines})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(self._separator + text)
        self._separator = ""

    def _key(self, kind: str, *parts: Any) -> str:
        text = json.dumps([kind, self._setting, *parts])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8", "replace").split("\n")
    except OSError:
        return
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("key"), str) and "contestant" in line:
            yield line


def _ends_within_a_line(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return bool(content) and not content.endswith(b"\n")
