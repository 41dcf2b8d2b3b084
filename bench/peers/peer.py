"""Run another program in an environment of its own, and read the times of its steps.

Environments are made on the first call (one or two GB, some minutes), in MODELFORGE_BENCH_PEERS or
the user's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import recommended
import short_rows

HERE = Path(__file__).resolve().parent


def environment(name: str, version: str, installs: Sequence[Sequence[str]]) -> Path:
    """Return the Python of a program's environment; `installs` are arguments of `pip install`."""
    given = os.environ.get("MODELFORGE_BENCH_PEERS")
    root = Path(given) if given else Path.home() / ".cache" / "modelforge-bench"
    folder = root / name
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / f"made-{version}"
    if not done.exists():
        print(f"Making {folder}: this takes some minutes, once.", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for arguments in installs:
            pip = [str(python), "-m", "pip", "install", "--quiet", *arguments]
            subprocess.run(pip, check=True)
        done.touch()
    return python


def train(
    python: Path,
    name: str,
    settings: Mapping[str, Any],
    folder: Path,
    environ: Mapping[str, str],
    model: Path,
    files: short_rows.Files,
) -> dict[str, Any]:
    """Train with `NAME_run.py` into `folder`/peer; return the figures of the run."""
    # YAML reads JSON too.
    config, out, log = folder / "peer.yaml", folder / "peer.json", folder / "peer.log"
    config.write_text(json.dumps(settings), encoding="utf-8")
    with log.open("wb") as file:
        done = subprocess.run(
            [str(python), str(HERE / f"{name}_run.py"), str(config), str(out)],
            env=os.environ | environ | {"HF_HUB_OFFLINE": "1"},
            cwd=folder,
            stdout=file,
            stderr=file,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(log.read_text("utf-8", "replace")[-4000:])
    figures = recommended.figures_of(json.loads(out.read_text("utf-8"))["steps"])
    return figures | {"loss": recommended.evaluate(model, files, str(folder / "peer"))}


def model_for(folder: Path, model: Path) -> Path:
    """Return the model, or a copy that says it is fp32 where the processor has no bf16.

    Programs load weights in the format that the config names.
    """
    if recommended.HAS_BF16:
        return model
    copy = folder / "fp32-model"
    if not copy.exists():
        copy.mkdir()
        for file in model.iterdir():
            (copy / file.name).symlink_to(file.resolve())
        config = json.loads((model / "config.json").read_text("utf-8"))
        for name in {"dtype", "torch_dtype"} & set(config):
            config[name] = "float32"
        (copy / "config.json").unlink()
        (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy
