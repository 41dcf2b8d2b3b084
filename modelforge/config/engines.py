"""The training engine Surogate: where its program is, and which settings it does not read."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from modelforge.config.schema.config import TrainingConfig
from modelforge.config.validation_messages import join_words, shown

PROGRAM = "surogate"
# Path of the program, of the Python of its environment, or of the folder of that environment.
VARIABLE = "MODELFORGE_SUROGATE"
MODULE = "surogate.cli.main"
CAPABILITY_FROM = (8, 0)
SYSTEM, PROCESSORS = "Linux", ("x86_64", "amd64")
# Methods it trains, with the command of its program.
COMMANDS = {"sft": "sft", "dpo": "dpo"}

# Options of its own kernels and buffers, which are no settings here: its default, and its values
# where they are words.
ENGINE_OPTIONS: dict[str, tuple[Any, ...]] = {
    **{f"recompute_{part}": (True,) for part in ("swiglu", "rmsnorm", "ffn", "qkv", "att", "lora")},
    **dict.fromkeys(
        (
            *("offload_master", "offload_quants", "offload_grads", "offload_saved_tensors"),
            *("persistent_quants", "use_zero_copy", "use_write_combined", "use_fused_rope"),
            *("cpu_training", "train_router", "qlora_offload_experts", "fp4_four_over_six"),
        ),
        (False,),
    ),
    "gradient_dtype": (None, "fp32", "bf16", "e5m2"),
    "master_dtype": (None, "fp32", "bf16"),
    "fp8_amax_history": (1024,),
    "fp4_backend": ("cutlass", "cudnn"),
    "lmhead_chunks": (1,),
    "attn_bwd_chunks": (1,),
    "sequence_chunks": (1,),
    "qlora_bnb_block_size": (64, 128, 256, 512),
    "router_aux_loss_coef": (None, 0.0),
    "router_z_loss_coef": (None, 0.0),
}


def read_engine_options(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the options in lines of NAME: VALUE, and what is wrong with each other line."""
    options: dict[str, Any] = {}
    wrong = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, rest = line.partition(":")
        name = name.strip()
        if not colon:
            wrong.append(f"{shown(line)} is not of the form NAME: VALUE.")
        elif name not in ENGINE_OPTIONS:
            near = difflib.get_close_matches(name, ENGINE_OPTIONS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            wrong.append(f"{shown(name)} is no option of Surogate's engine alone.{hint}")
        elif name in options:
            wrong.append(f"{name} is given twice.")
        else:
            value = _value(rest)
            options[name] = value
            wrong += _wrong_value(name, value)
    return options, wrong


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text.strip()


def _wrong_value(name: str, value: Any) -> list[str]:
    known = ENGINE_OPTIONS[name]
    kind = type(known[-1])
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return [] if value >= 0 else [f"{name} is {value}; the least is 0."]
    if type(value) is not kind or (len(known) > 1 and value not in known):
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        allowed = join_words([str(each) for each in known if each is not None])
        return [f"{name} is {shown(value)}; it takes {words.get(kind, allowed)}."]
    return [f"{name} is {value}; the least is 1."] if kind is int and value < 1 else []


def uses_surogate(config: TrainingConfig) -> bool:
    """Return whether the run is trained by Surogate."""
    return config.hardware.engine == PROGRAM


def find_surogate(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the words of the command that starts Surogate; empty if it is not installed.

    Recipes never name the program: only the person at this computer does, in its environment.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(VARIABLE, "").strip()
    if not named:
        found = shutil.which(PROGRAM, path=environ.get("PATH"))
        return (found,) if found else ()
    path = Path(named).expanduser()
    if path.is_dir():
        places = (path / "bin" / PROGRAM, path / PROGRAM)
        path = next((place for place in places if place.is_file()), path)
    if not path.is_file() or not os.access(path, os.X_OK):
        return ()
    return (str(path), "-m", MODULE) if path.name.startswith("python") else (str(path),)
