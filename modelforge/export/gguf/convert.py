"""Write a GGUF file of any architecture: with our writer, or with llama.cpp's own converter.

The converter is a script of a llama.cpp checkout that the user names in MODELFORGE_LLAMA_CPP. It
runs as its own process and with the packages of this environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from transformers import AutoConfig

from modelforge.errors import Problem, RunError
from modelforge.export.gguf.architectures import ARCHITECTURES
from modelforge.export.gguf.write import write_gguf

Progress = Callable[[float], None]
VARIABLE = "MODELFORGE_LLAMA_CPP"
SCRIPT = "convert_hf_to_gguf.py"
# What the converter writes itself.
OUT_TYPES = ("f16", "bf16", "q8_0")


def write(folder: Path, target: Path, file_type: str, name: str, progress: Progress) -> None:
    """Write the model in `folder` as `target` with one of FILE_TYPES; `name` is its name there.

    Raises:
        RunError: Neither our writer nor a converter of llama.cpp knows the model.
    """
    model_type = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
    script = converter()
    if model_type in ARCHITECTURES or script is None:
        write_gguf(folder, target, file_type, name, progress)
        return
    if file_type not in OUT_TYPES:
        raise RunError(
            Problem(
                "quantization",
                f"llama.cpp's converter, used for the type {model_type}, cannot write {file_type}.",
                f"Choose {', '.join(OUT_TYPES)}.",
            )
        )
    _convert(script, folder, target, file_type, name)
    progress(1.0)


def converter() -> Path | None:
    """Return the converter of the checkout that the user named; raises RunError if it has none."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    script = Path(named) / SCRIPT
    if not script.is_file():
        what = f"{named} has no {SCRIPT}."
        raise RunError(Problem(VARIABLE, what, "Name the folder of a llama.cpp checkout."))
    return script


def _convert(script: Path, folder: Path, target: Path, file_type: str, name: str) -> None:
    command = [sys.executable, str(script), str(folder), "--outfile", str(target)]
    command += ["--outtype", file_type, "--model-name", name]
    # Without a network: the converter asks the Hub for a description of the base model.
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=script.parent, env=environment, capture_output=True, check=False
    )
    sys.stderr.buffer.write(done.stderr)
    if done.returncode or not target.is_file():
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1][:300] if lines else f"code {done.returncode}"
        what = f"{SCRIPT} failed: {last}"
        raise RunError(Problem("gguf", what, "See the log, or export the merged model instead."))
