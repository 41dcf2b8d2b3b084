"""`modelforge train RECIPE --on notebook:FILE.ipynb`: write the run as a notebook."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelforge.cli.output import DONE, escape_control
from modelforge.cli.parsing import write_file
from modelforge.errors import ConfigError, Problem
from modelforge.units import human_bytes

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge

PREFIX = "notebook:"
SUFFIX = ".ipynb"


def write(options: argparse.Namespace, forge: Forge, layers: Sequence[Layer]) -> int:
    """Write a notebook that trains a recipe. Raises ConfigError."""
    from modelforge.services.layers import COMMAND, RECIPE

    path = Path(options.on.removeprefix(PREFIX))
    if path.suffix != SUFFIX:
        what = f"{str(path)[:80]!r} is not the name of a notebook."
        raise ConfigError(Problem("--on", what, f"Write {PREFIX}FILE{SUFFIX}."))
    own = [layer for layer in layers if layer.name in (RECIPE, COMMAND)]
    made = forge.notebooks.make(layers, own, options.name or "")
    write_file(path, made.text, is_new=True)
    sizes = {name: human_bytes(size) for name, size in made.sizes.items()}
    if options.json:
        print(json.dumps({"file": str(path), "bytes": len(made.text), "parts": made.sizes}))
        return DONE
    parts = ", ".join(f"{name} {size}" for name, size in sizes.items())
    print(escape_control(f"{path}: written, {human_bytes(len(made.text))} ({parts})."))
    print(
        "Run it on Colab or Kaggle; `modelforge runs import` takes in the zip that it gives back."
    )
    return DONE
