"""`modelforge pretrain FILE…`: train a language model from nothing on texts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from modelforge.cli.parsing import add_settings
from modelforge.cli.targets.commands import ON


def add(
    add_command: Callable[[str, Any, str], argparse.ArgumentParser],
    train: Callable[[argparse.Namespace], int],
) -> None:
    """Add the command `pretrain`; `train` does that of a recipe."""

    def act(options: argparse.Namespace) -> int:
        options.set = [*text_settings(options.file), *options.set]
        options.recipe = options.after = None
        return train(options)

    about = "Train a language model from nothing on texts, and show progress until the run ends."
    command = add_command("pretrain", act, about)
    command.add_argument(
        "file", nargs="+", help="text to train on: a file, a folder, a dataset, or sample:NAME"
    )
    add_settings(command)
    command.add_argument("--detach", action="store_true", help="start the run in the background")
    command.add_argument("--queue", action="store_true", help="add the run to the queue")
    command.add_argument("--name", help="name of the run")
    command.add_argument("--on", metavar="TARGET", help=f"{ON}; or notebook:FILE.ipynb")


def text_settings(files: list[str]) -> list[str]:
    """Return the settings, as of `--set`, that train from nothing on these texts."""
    settings = ["pretraining.enabled=true", f"dataset={files[0]}"]
    if len(files) > 1:
        sources = json.dumps([{"path": file} for file in files])
        settings.append(f"data.sources={sources}")
    return settings
