"""Short-row instruct data from the bundled samples, in the words of each program compared.

Rows of 39 to 131 tokens of the starter's tokenizer, 68 in the mean; the same rows, in the same
order, for everybody. The template ends with the end of a turn, so that all learn the same tokens.
"""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT

SAMPLES = ROOT / "assets" / "samples"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Files:
    """Where the rows lie: as pairs, as TRL takes them, as Alpaca rows, and those held out."""

    pairs: Path
    chats: Path
    alpaca: Path
    held_out: Path
    template: Path


def pairs() -> list[tuple[str, str]]:
    """Return every question with its answer, in an order that is always the same."""
    found = []
    for line in _lines("captain.jsonl"):
        found.append((line["prompt"], line["completion"]))
    for line in _lines("support.jsonl"):
        question, answer = line["messages"][-2:]
        found.append((question["content"], answer["content"]))
    for line in _lines("notices.jsonl"):
        found.append((f"Summarise: {line['document']}", line["summary"]))
    with (SAMPLES / "units.csv").open(newline="", encoding="utf-8") as file:
        found += [(row["instruction"], row["output"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(found)
    return found


def write(folder: Path, rows: int, held_out: int = 64) -> Files:
    """Write `rows` to train on and `held_out` others to check on; return where."""
    every = pairs()
    files = Files(
        folder / "pairs.jsonl",
        folder / "chats.jsonl",
        folder / "alpaca.json",
        folder / "held_out.jsonl",
        folder / "plain.jinja",
    )
    train, others = every[:rows], every[-held_out:]
    if rows + held_out > len(every):
        raise ValueError(f"{rows} rows and {held_out} held out are more than {len(every)}")
    _write(files.pairs, [{"input": q, "output": a} for q, a in train])
    _write(files.chats, [_chat(q, a) for q, a in train])
    _write(files.held_out, [_chat(q, a) for q, a in others])
    alpaca = [{"instruction": q, "input": "", "output": a} for q, a in train]
    files.alpaca.write_text(json.dumps(alpaca), encoding="utf-8")
    files.template.write_text(TEMPLATE, encoding="utf-8")
    return files


def _chat(question: str, answer: str) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def _lines(name: str) -> list[dict[str, object]]:
    text = (SAMPLES / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
