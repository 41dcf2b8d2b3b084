"""Measure the KL divergence of every quantization over the table's model types and the starter.

python bench/export_kl.py [MODEL ...]

A model is the starter, a case of tests/export/cases.py, or the folder with an adapter of the
starter. Writes results/export_kl.csv, in which the figures of other models stay, and prints the
tables of docs/exports.md. The bounds of the self-test (`KL_BOUNDS`) are twice the largest values; a
test compares them.
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
TRAINED = f"{STARTER}, trained"
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
                rows = _measure(name, Path(folder) / "work", starter, tokenizer)
            others = [row for row in kept(NAME) if row["model"] != rows[0]["model"]]
            keep(NAME, [*others, *rows])
    return lines()


def _cases() -> list[str]:
    from tests.export.cases import CONFIGS

    return list(CONFIGS)


def _measure(name: str, folder: Path, starter: Path, tokenizer: Any) -> list[dict[str, Any]]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from modelforge.export import trained_answers
    from modelforge.export.answers import ANSWER_TOKENS
    from modelforge.export.gguf.quantize import FILE_TYPES
    from modelforge.export.gguf.write import write_gguf
    from modelforge.export.self_test import compare_gguf
    from modelforge.modeling.merging.weights import merge
    from tests.export.cases import make_model, small_tokenizer

    folder.mkdir()
    source = folder / "model"
    is_starter = name not in _cases()
    if is_starter:
        source, model = starter, AutoModelForCausalLM.from_pretrained(starter, dtype="auto")
    else:
        tokenizer = small_tokenizer(tokenizer)
        model = make_model(name, source, tokenizer)
    if is_starter and name != STARTER:
        model, source = PeftModel.from_pretrained(model, name), folder / "merged"
        source.mkdir()
        merge(starter, Path(name), source, precision="float16")
        tokenizer.save_pretrained(source)
        name = TRAINED
    trained_answers.ANSWER_TOKENS = ANSWER_TOKENS if is_starter else RANDOM_TOKENS
    rows = held_out() if is_starter else []
    answers = trained_answers.answers_of(model, tokenizer, rows, folder, lambda _share: None)
    del model
    found = []
    for file_type in FILE_TYPES:
        path = folder / "model.gguf"
        write_gguf(source, path, file_type, "a model")
        result = compare_gguf(path, file_type, answers, lambda _share: None)
        row = {"model": name, "type": file_type, "kl": result.kl, "same_text": result.same_text}
        row |= {"prompts": result.prompts}
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
    for file_type in types:
        same = [row for row in rows if row["type"] == file_type]
        own = next((row for row in same if row["model"] == STARTER), None)
        if own is None:
            continue
        most = max(same, key=lambda row: row["kl"])
        loss = "not measured"
        if own["trained"]:
            change = own["perplexity"] / own["trained"] - 1
            loss = f"{own['perplexity']:.2f} ({change:+.2%})"
        table.append(
            f"| {file_type} | {own['bytes'] / 1e6:.0f} MB | {own['kl']:.2g} "
            f"| {own['same_text']:.0f} of {own['prompts']:.0f} | {loss} "
            f"| {most['kl']:.2g} | {most['model']} |"
        )
    table += ["", f"| model | {' | '.join(types)} |", f"| --- |{' --- |' * len(types)}"]
    for name in dict.fromkeys(row["model"] for row in rows):
        found = {row["type"]: f"{row['kl']:.2g}" for row in rows if row["model"] == name}
        table.append(f"| {name} | {' | '.join(found.get(kind, '') for kind in types)} |")
    return table


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(sys.argv[1:])))
