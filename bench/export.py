"""Measure time and peak memory of writing a GGUF file, against llama.cpp's converter.

python bench/export.py [ROUNDS] [--shape 1.7B] [--parts]

The run is a LoRA adapter of the starter, which is merged and written as Q4_K_M, as `modelforge
export` does it; then `--shape` does the same with a random model. The last step, left out with
`--parts`, is the whole export in its own process, with its self-test; its memory is that of the
process and of llama.cpp's, whose shared pages count twice. Others' tools write the merged folder,
if they are named: MODELFORGE_LLAMA_CPP is a folder with `convert_hf_to_gguf.py`,
MODELFORGE_LIBLLAMA a `libllama.so` with `llama_model_quantize`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import shapes

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT, conditions, keep, kept, recorded, spread, starter_home, titled

from modelforge.units import GIB, MIB

NAME = "export"
STARTER = "135M"
WHOLE = "modelforge export, with self-test"
PYTHON = [sys.executable, "-c"]
MERGE = """
import sys; from pathlib import Path
from modelforge.modeling.merging.weights import merge
base, adapter, target = map(Path, sys.argv[1:4]); target.mkdir()
merge(base, adapter, target)
"""
WRITE = """
import sys; from pathlib import Path
from modelforge.export.gguf.write import write_gguf
write_gguf(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], "a model")
"""
QUANTIZE = """
import ctypes, sys
class Params(ctypes.Structure):
    _fields_ = [("threads", ctypes.c_int32), ("kind", ctypes.c_int32), ("x", ctypes.c_uint8 * 1024)]
library = ctypes.CDLL(sys.argv[1]); library.llama_backend_init()
library.llama_model_quantize_default_params.restype = Params
params = library.llama_model_quantize_default_params(); params.kind = 15
files = [name.encode() for name in sys.argv[2:4]]
sys.exit(library.llama_model_quantize(*files, ctypes.byref(params)))
"""


def main(rounds: int = 3, others: Sequence[str] = (), is_whole: bool = True) -> list[str]:
    """Measure all steps interleaved and return the lines of the report."""
    rows: list[dict[str, Any]] = []
    with recorded(NAME), tempfile.TemporaryDirectory() as folder:
        for shape in (STARTER, *others):
            place = Path(folder) / shape
            place.mkdir()
            base = _prepare(shape, place)
            for number in range(rounds if shape == STARTER else 1):
                rows += _round(shape, number, base, place)
                rows += [_whole(shape, number, base, place)] if is_whole else []
            keep(NAME, rows)
    return lines()


def _prepare(shape: str, place: Path) -> Path:
    """Return the base model of a shape; make an adapter for it in `place`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    starter = base = starter_home() / "models" / "starter"
    if shape != STARTER:
        base = place / "base"
        shapes.make(base, shapes.GPU_SHAPES[shape], starter)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    lora = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(place / "adapter", save_embedding_layers=False)
    return base


def _round(shape: str, number: int, base: Path, place: Path) -> list[dict[str, Any]]:
    merged = place / f"merged-{number}"
    command = [*PYTHON, MERGE, str(base), str(place / "adapter"), str(merged)]
    rows = [_row(shape, number, "merge", command)]
    for name in (*shapes.TOKENIZER, "generation_config.json"):
        if (base / name).exists():
            shutil.copy(base / name, merged / name)
    for step, command in _steps(merged, place):
        rows.append(_row(shape, number, step, command))
    shutil.rmtree(merged)
    return rows


def _whole(shape: str, number: int, base: Path, place: Path) -> dict[str, Any]:
    folder = _export_folder(base, place, number)
    row = _row(shape, number, WHOLE, [sys.executable, "-m", "modelforge.export", str(folder.path)])
    result = folder.result()
    if result is None or result.problem is not None:
        raise RuntimeError(f"The export failed: {result and result.problem}")
    return row


def _export_folder(base: Path, place: Path, number: int) -> Any:
    """Return the folder of an export of a run with this adapter, as the service leaves it."""
    from modelforge.forge import Forge
    from modelforge.paths import Home
    from modelforge.runs.exports import ExportRequest
    from tests.export.runs import prepared
    from tests.services.exports.conftest import put_trained

    run = put_trained(place / f"home-{number}", base)
    shutil.rmtree(run.output)
    shutil.copytree(place / "adapter", run.output)
    for name in shapes.TOKENIZER:
        shutil.copy(base / name, run.output / name)
    return prepared(Forge(Home(place / f"home-{number}")), ExportRequest(run.id, "gguf"))


def _steps(merged: Path, place: Path) -> list[tuple[str, list[str]]]:
    """Return the commands: ours, and those of llama.cpp's tools where they are named."""
    ours, theirs = place / "ours-f16.gguf", place / "theirs-f16.gguf"
    target = str(place / "ours-q4_k_m.gguf")
    steps = [
        ("q4_k_m", [*PYTHON, WRITE, str(merged), target, "q4_k_m"]),
        ("f16", [*PYTHON, WRITE, str(merged), str(ours), "f16"]),
    ]
    converter, library = (
        os.environ.get(f"MODELFORGE_{name}") for name in ("LLAMA_CPP", "LIBLLAMA")
    )
    if converter:
        command = [sys.executable, f"{converter}/convert_hf_to_gguf.py", str(merged)]
        command += ["--outfile", str(theirs), "--outtype", "f16"]
        steps.append(("convert_hf_to_gguf, f16", command))
    if library:
        source = theirs if converter else ours
        target = str(place / "theirs-q4_k_m.gguf")
        steps.append(("llama.cpp, q4_k_m", [*PYTHON, QUANTIZE, library, str(source), target]))
    return steps


def _row(shape: str, number: int, step: str, command: list[str]) -> dict[str, Any]:
    seconds, peak = _timed(command)
    row = {"shape": shape, "round": number, "step": step}
    row |= {"seconds": round(seconds, 2), "peak_mib": round(peak, 1)}
    row["bytes"] = Path(command[-2]).stat().st_size if WRITE in command else 0
    print(row, flush=True)
    return row


def _timed(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and the largest resident memory in MiB."""
    began, peak = time.monotonic(), 0.0
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{command[:3]} ended with code {process.returncode}")
    return time.monotonic() - began, peak


def _resident(pid: int) -> float:
    """Return the resident memory of a process in MiB: its highest so far, or with its children."""
    try:
        process = psutil.Process(pid)
        processes = [process, *process.children(recursive=True)]
        together = sum(one.memory_info().rss for one in processes) / MIB
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except (psutil.Error, OSError):
        return 0.0
    highest = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM 0 kB")
    return max(together, int(highest.split()[1]) / 1024)


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows = kept(NAME)
    if not rows:
        return []
    report = ["| model | step | seconds | peak memory, MiB |", "| --- | --- | --- | --- |"]
    for shape in dict.fromkeys(str(row["shape"]) for row in rows):
        own = [row for row in rows if str(row["shape"]) == shape]
        for step in dict.fromkeys(row["step"] for row in own):
            same = [row for row in own if row["step"] == step]
            seconds = spread([row["seconds"] for row in same], 1)
            peak = spread([row["peak_mib"] for row in same], 0)
            report.append(f"| {shape} | {step} | {seconds} | {peak} |")
    return [*report, "", *_bounds(rows)]


def _bounds(rows: list[dict[str, Any]]) -> list[str]:
    """Return the memory that an export may take: 1.3 times the F16 file and 1 GiB."""
    sizes = {str(row["shape"]): row["bytes"] for row in rows if row["step"] == "f16"}
    return [
        f"Allowed at {shape}: 1.3 times the F16 file ({size / MIB:,.0f} MiB) and 1 GiB, "
        f"{(1.3 * size + GIB) / MIB:,.0f} MiB."
        for shape, size in sizes.items()
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("Export to GGUF (`bench/export.py`)", NAME, lines())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    print(conditions())
    print("\n".join(main(options.rounds, options.shape, not options.parts)))
