"""Measure the KL divergence of every quantization over the table's model types and the starter.

python bench/export_kl.py [MODEL ...]

Writes results/export_kl.csv, in which the figures of other models stay, and prints the tables of
docs/exports.md. The bounds of the self-test (`KL_BOUNDS`) are twice the largest values; a test
compares them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import conditions, keep, kept, recorded, starter_home

NAME = "export_kl"
STARTER = "SmolLM2-135M-Instruct"
# Random models answer at random: fewer tokens, a small vocabulary, and no evaluation rows.
RANDOM_TOKENS = 16


def main(names: Sequence[str] = ()) -> list[str]:
    """Measure models and return the lines of the tables."""
    from transformers import AutoTokenizer

    starter = starter_home() / "models" / "starter"
    tokenizer = AutoTokenizer.from_pretrained(starter)
    with recorded(NAME):
        for name in names or [STARTER, *_cases()]:
            with tempfile.TemporaryDirectory() as folder:
                rows = _measure(name, Path(folder) / name, starter, tokenizer)
            keep(NAME, [*(row for row in kept(NAME) if row["model"] != name), *rows])
    return lines()


def _cases() -> list[str]:
    from tests.export.cases import CONFIGS

    return list(CONFIGS)


def _measure(name: str, folder: Path, starter: Path, tokenizer: Any) -> list[dict[str, Any]]:
    from transformers import AutoModelForCausalLM

    from modelforge.export import trained_answers
    from modelforge.export.answers import ANSWER_TOKENS
    from modelforge.export.gguf.quantize import FILE_TYPES
    from modelforge.export.gguf.write import write_gguf
    from modelforge.export.self_test import compare_gguf
    from tests.export.cases import make_model, small_tokenizer

    folder.mkdir()
    source = folder / "model"
    if name == STARTER:
        source, model = starter, AutoModelForCausalLM.from_pretrained(starter, dtype="auto")
    else:
        tokenizer = small_tokenizer(tokenizer)
        model = make_model(name, source, tokenizer)
    trained_answers.ANSWER_TOKENS = ANSWER_TOKENS if name == STARTER else RANDOM_TOKENS
    rows = held_out() if name == STARTER else []
    answers = trained_answers.answers_of(model, tokenizer, rows, folder, lambda _share: None)
    found = []
    for file_type in FILE_TYPES:
        path = folder / "model.gguf"
        write_gguf(source, path, file_type, "a model")
        result = compare_gguf(path, file_type, answers, lambda _share: None)
        row = {"model": name, "type": file_type, "kl": result.kl, "same_text": result.same_text}
        row |= {"perplexity": result.perplexity, "trained": result.trained_perplexity}
        row |= {"cause": result.cause, "bytes": path.stat().st_size}
        found.append(row)
        print(row, flush=True)
    return found


def held_out() -> list[list[dict[str, str]]]:
    """Return ten conversations of the bundled samples."""
    import short_rows

    return [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in short_rows.pairs()[-10:]
    ]


def lines() -> list[str]:
    """Return the tables of the stored figures: the starter, and the KL of all models."""
    rows = kept(NAME)
    if not rows:
        return []
    table = [
        "| quantization | size | KL | equal texts | perplexity | largest KL | model |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    types = list(dict.fromkeys(row["type"] for row in rows))
    for file_type in types if any(row["model"] == STARTER for row in rows) else []:
        same = [row for row in rows if row["type"] == file_type]
        own = next(row for row in same if row["model"] == STARTER)
        most = max(same, key=lambda row: row["kl"])
        change = own["perplexity"] / own["trained"] - 1
        table.append(
            f"| {file_type} | {own['bytes'] / 1e6:.0f} MB | {own['kl']:.2g} "
            f"| {own['same_text']:.0f} of 20 | {own['perplexity']:.2f} ({change:+.2%}) "
            f"| {most['kl']:.2g} | {most['model']} |"
        )
    table += ["", f"| model | {' | '.join(types)} |", f"| --- |{' --- |' * len(types)}"]
    for name in dict.fromkeys(row["model"] for row in rows):
        found = {row["type"]: row["kl"] for row in rows if row["model"] == name}
        table.append(f"| {name} | {' | '.join(f'{found[kind]:.2g}' for kind in types)} |")
    return table


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(sys.argv[1:])))
