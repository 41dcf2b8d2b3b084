"""Short instruction data from the bundled samples, in the format of each compared program.

The rows have the same order in all formats. The template writes nothing after the end token, so
that all train the same tokens. LENGTHS says how long the rows are; a test counts them.
"""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT

SAMPLES = ROOT / "assets" / "samples"
LENGTHS = "16 to 100 tokens, 43 on average"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Files:
    """Files of the rows: pairs, TRL prompts and completions, Alpaca, and evaluation rows."""

    pairs: Path
    chats: Path
    alpaca: Path
    held_out: Path
    template: Path


def pairs() -> list[tuple[str, str]]:
    """Return every question with its answer, in a fixed order."""
    rows = []
    for line in _lines("captain.jsonl"):
        rows.append((line["prompt"], line["completion"]))
    for line in _lines("support.jsonl"):
        question, answer = line["messages"][-2:]
        rows.append((question["content"], answer["content"]))
    for line in _lines("notices.jsonl"):
        rows.append((f"Summarise: {line['document']}", line["summary"]))
    with (SAMPLES / "units.csv").open(newline="", encoding="utf-8") as file:
        rows += [(row["instruction"], row["output"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    return rows


def write(folder: Path, rows: int, held_out: int = 64) -> Files:
    """Write `rows` for training and `held_out` others for evaluation."""
    available = pairs()
    files = Files(
        folder / "pairs.jsonl",
        folder / "chats.jsonl",
        folder / "alpaca.json",
        folder / "held_out.jsonl",
        folder / "plain.jinja",
    )
    train, others = available[:rows], available[-held_out:]
    if rows + held_out > len(available):
        raise ValueError(f"{rows} rows and {held_out} held out are more than {len(available)}")
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
