"""The memory estimate against what runs really take, cell by cell, and peers on the same cells.

    python bench/memory.py [cpu|cuda|estimates]

`cpu` runs the cells, each a short run of the worker in a process of its own, and reads the highest
resident memory of that process; cells that are in the CSV already are not run again. `estimates`
only works the estimates out anew. Model shapes other than the starter have random weights.
"""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from harness import RESULTS, ROOT, conditions, keep, starter_home, titled

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.home import Home

PLACE = ROOT / ".venv" / "bench-memory"
NAME = "memory-estimates"
MEASURED = {"cpu": RESULTS / "memory.csv", "cuda": RESULTS / "memory-cuda.csv"}
GIB = 2**30
WAYS = {"full": {"adapter.enabled": False}, "lora": {}, "4-bit": {"use_4bit": True}}
SHAPES: dict[str, dict[str, Any]] = {
    # As Qwen3-0.6B, Gemma-3-270M and a Llama of before, with fewer layers.
    "qwen3": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "tie_word_embeddings": True,
    },
    "llama": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 10,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "tie_word_embeddings": False,
    },
}
# On a card the whole of four shapes.
CARD_SHAPES: dict[str, dict[str, Any]] = {
    "0.6B": {**SHAPES["qwen3"], "num_hidden_layers": 28},
    "1.7B": {
        **SHAPES["qwen3"],
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
    },
    "8B": {
        **SHAPES["qwen3"],
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
}
# The constants of the estimate come from these cells, which are not reported.
CALIBRATED_ON = "llama"
PEERS = ("canifinetune==0.4.1", "fitscout==0.1.1")
FITSCOUT = """
import sys
from fitscout import inspect_model
from fitscout.memory.estimator import estimate_memory
model, way, batch, length, recompute = sys.argv[1:]
print(estimate_memory(inspect_model(model), method=way, micro_batch=int(batch),
      seq_len=int(length), grad_ckpt=recompute == "1", lora_rank=16).total_gb)
"""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
WORDS = [
    *("the", "small", "red", "engine", "carried", "seven", "wooden"),
    *("boxes", "over", "a", "quiet", "valley", "before", "noon"),
]


@dataclass(frozen=True)
class Cell:
    """One run: a shape, a way to train it, and what its memory depends on."""

    shape: str
    way: str
    length: int
    batch: int
    recompute: bool


def cells(device: str) -> Iterator[Cell]:
    """Yield the cells of a device: all that can be put together, on the CPU a balanced half."""
    if device == "cuda":
        four = product(("starter", *CARD_SHAPES), WAYS, (512, 2048), (1, 4), (False, True))
        yield from (Cell(*each) for each in four)
        return
    for shape, way in product(("llama", "starter", "qwen3", "gemma3"), WAYS):
        if shape == CALIBRATED_ON:
            yield Cell(shape, way, 256, 2, recompute=False)
            yield Cell(shape, way, 256, 2, recompute=True)
            continue
        yield Cell(shape, way, 128, 4, recompute=False)
        yield Cell(shape, way, 384, 1, recompute=False)
        yield Cell(shape, way, 384, 4, recompute=True)
        if shape == "starter":
            yield Cell(shape, way, 384, 4, recompute=False)


def answers(cell: Cell, rows: Path, device: str) -> dict[str, Any]:
    """Return what is asked of the app: two updates and one evaluation."""
    return {
        "task": "text-generation",
        "model_name": "starter" if cell.shape == "starter" else str(PLACE / "models" / cell.shape),
        "dataset": str(rows),
        "compute_specs": "low_end",
        "use_4bit": False,
        "per_device_train_batch_size": cell.batch,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": cell.recompute,
        "optim": "adamw_torch",
        "max_seq_length": cell.length,
        "max_steps": 2,
        "eval_steps": 2,
        "eval_split": 0.1,
        "hardware.device": device,
        **WAYS[cell.way],
    }


def prepared(device: str) -> tuple[Home, Path]:
    """Return a home with the starter model and the shapes of a device, and the rows."""
    home = Home(PLACE / "home")
    if not home.starter.exists():
        home.starter.parent.mkdir(parents=True)
        home.starter.symlink_to(starter_home() / "models" / "starter")
    shapes = CARD_SHAPES if device == "cuda" else SHAPES
    for name, shape in shapes.items():
        _made(PLACE / "models" / name, shape, home.starter)
    rows = PLACE / "rows.jsonl"
    with rows.open("w", encoding="utf-8") as file:
        for number in range(40):
            said = (WORDS[(number * 7 + each * 3) % len(WORDS)] for each in range(4000))
            file.write(json.dumps({"text": " ".join(said)}) + "\n")
    return home, rows


def _made(folder: Path, shape: dict[str, Any], tokens: Path) -> None:
    """Make a model of a shape with random weights, which read with the starter's tokenizer."""
    if (folder / "model.safetensors").exists() or (
        folder / "model.safetensors.index.json"
    ).exists():
        return
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(tokens / name, folder / name)
    kind = {name: value for name, value in shape.items() if name != "model_type"}
    config = AutoConfig.for_model(shape["model_type"], max_position_embeddings=4096, **kind, **ends)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def measured(home: Home, asked: dict[str, Any]) -> dict[str, Any]:
    """Run it and return the highest resident memory of the worker, or why there is none."""
    forge = Forge(home)
    peak, pid = 0, None
    try:
        run = forge.start(Layer("bench", asked))
        while not forge.state(run).is_over:
            try:
                pid = pid or json.loads(forge.folder(run).process.read_text("utf-8"))["pid"]
                status = Path(f"/proc/{pid}/status").read_text("utf-8")
                # It only grows, so the last one before the end is the highest.
                high = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                peak = max(peak, int(high.split()[1]))
            except (OSError, StopIteration, KeyError, ValueError):
                pass
            time.sleep(0.02)
        events, _ = forge.events(run)
        last = events[-1]
        ended = "" if last.kind == "finished" else str(last.data.get("what", last.kind))
        told = [event.data["vram_gib"] for event in events if event.data.get("vram_gib")]
        forge.delete(run)
    finally:
        forge.close()
    card = {"card_gib": round(max(told), 3)} if told else {}
    return {"peak_gib": round(peak * 1024 / GIB, 3), **card, "error": ended}


def measure(device: str) -> None:
    """Run every cell that has no figure yet; the CSV is written after each."""
    home, rows = prepared(device)
    path = MEASURED[device]
    done = _read(path)
    known = {_named(row) for row in done}
    for cell in cells(device):
        if _named(asdict(cell)) in known:
            continue
        row = {**asdict(cell), **measured(home, answers(cell, rows, device))}
        print(row, flush=True)
        done.append(row)
        keep(path.stem, done)


def _named(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in Cell.__dataclass_fields__)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def estimates(device: str) -> None:
    """Work out what we and the peers say of every measured cell, and keep it."""
    home, rows = prepared(device)
    home.footprints.unlink(missing_ok=True)
    peers = _peers()
    found = []
    forge = Forge(home)
    try:
        for row in _read(MEASURED[device]):
            cell = Cell(
                *(row["shape"], row["way"], int(row["length"]), int(row["batch"])),
                recompute=row["recompute"] == "True",
            )
            layer = Layer("bench", answers(cell, rows, device))
            formula = forge.check(layer).report
            began = time.monotonic()
            traced = forge.footprints.ask(layer).report
            took = time.monotonic() - began
            began = time.monotonic()
            forge.footprints.ask(layer)
            again = time.monotonic() - began
            if formula is None or traced is None:
                continue
            model = home.starter if cell.shape == "starter" else PLACE / "models" / cell.shape
            found.append(
                {
                    **row,
                    "formula_gib": _rounded(formula.memory_total_gib),
                    "traced_gib": _rounded(traced.memory_total_gib),
                    "trace_s": round(took, 2),
                    "again_s": round(again, 3),
                    **{name: ask(cell, model) for name, ask in peers.items()},
                }
            )
            print(found[-1], flush=True)
            keep(f"{MEASURED[device].stem}-estimates", found)
    finally:
        forge.close()


def _rounded(gib: float | None) -> float | str:
    return "" if gib is None else round(gib, 3)


def _peers() -> dict[str, Callable[[Cell, Path], str]]:
    """Return who else is asked, each in an environment of its own; without the index, nobody."""
    place = PLACE / "peers"
    python = place / "bin" / "python"
    if not (place / "bin" / "fitscout").exists():
        venv.create(place, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=False)

    def said(command: list[Any], read: Callable[[str], float]) -> str:
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=120, check=True
            )
            return f"{read(answer.stdout):.3f}"
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            return f"{type(error).__name__}: {error}"[:80]

    def canifinetune(cell: Cell, model: Path) -> str:
        way = "qlora" if cell.way == "4-bit" else cell.way
        recompute = "gradient-checkpointing" if cell.recompute else "no-gradient-checkpointing"
        command = [
            *(place / "bin" / "canifinetune", "estimate", "--model", model, "--offline", "--json"),
            *("--gpu-vram-gb", "80", "--method", way, "--seq-len", str(cell.length)),
            *("--micro-batch-size", str(cell.batch), "--target-scope", "all_linear"),
            *("--quantization", "nf4" if way == "qlora" else "none", "--base-dtype", "fp32"),
            *("--optimizer", "adamw_torch", f"--{recompute}"),
        ]
        return said(command, _total)

    def fitscout(cell: Cell, model: Path) -> str:
        way = "qlora" if cell.way == "4-bit" else cell.way
        facts = [model, way, str(cell.batch), str(cell.length), str(int(cell.recompute))]
        return said([python, "-c", FITSCOUT, *facts], float)

    return {"canifinetune_gib": canifinetune, "fitscout_gib": fitscout}


def _total(text: str) -> float:
    """Return the total that canifinetune names, its safety margin left out."""
    found: list[dict[str, Any]] = []

    def look(thing: Any) -> None:
        for each in thing.values() if isinstance(thing, dict) else []:
            look(each)
        if isinstance(thing, dict) and "total_estimated_gb" in thing:
            found.append(thing)

    look(json.loads(text))
    return float(found[0]["total_estimated_gb"] - found[0].get("safety_margin_gb", 0.0))


def lines(device: str) -> list[str]:
    """Return the lines about one device, from what lies in the CSV."""
    every = _read(RESULTS / f"{MEASURED[device].stem}-estimates.csv")
    reported = [row for row in every if row["shape"] != CALIBRATED_ON and not row["error"]]
    if not reported:
        return []
    peak = "card_gib" if device == "cuda" else "peak_gib"
    table = [
        (
            f"{len(reported)} cells: {', '.join(dict.fromkeys(r['shape'] for r in reported))}; "
            "full, LoRA and 4-bit; the constants come from other cells (the shape "
            f"{CALIBRATED_ON}, in the CSV and not counted here, and the starter at 4 x 256), "
            "and were rounded when the first cells of the starter and qwen3 had been seen; those "
            "of gemma3 had not. Peaks are the highest "
            f"{'memory reserved on the card' if device == 'cuda' else 'resident memory'} of the "
            "worker."
        ),
        "",
        "| who | mean error | worst over | worst under |",
        "| --- | --- | --- | --- |",
    ]
    names = {"traced_gib": "traced (aim ≤ 8 %, never 3 % under)", "formula_gib": "formula"}
    names |= {"canifinetune_gib": "canifinetune 0.4.1", "fitscout_gib": "fitscout 0.1.1"}
    for column, name in names.items():
        try:
            off = [float(row[column]) / float(row[peak]) - 1 for row in reported]
        except ValueError:
            table.append(f"| {name} | does not run: {reported[0][column]} | | |")
            continue
        mean = statistics.mean(abs(each) for each in off)
        table.append(
            f"| {name} | {100 * mean:.1f} % | {100 * max(off):+.1f} % | {100 * min(off):+.1f} % |"
        )
    first = statistics.median(float(row["trace_s"]) for row in reported)
    again = max(float(row["again_s"]) for row in reported)
    return [
        *table,
        "",
        f"- A trace takes {first:.1f} s (median), an answer that is known at most {again:.3f} s.",
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    told = [*lines("cpu"), "", *lines("cuda")]
    return titled("The memory estimate (`bench/memory.py`)", NAME, told)


def main() -> list[str]:
    """Measure what is missing on the CPU, ask everybody, and return the lines of the report."""
    measure("cpu")
    estimates("cpu")
    return lines("cpu")


if __name__ == "__main__":
    print(conditions())
    asked = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    if asked in MEASURED:
        measure(asked)
    device = "cuda" if asked == "cuda" else "cpu"
    estimates(device)
    print("\n".join(lines(device)))
