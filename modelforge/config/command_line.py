"""The command line that starts a run with given settings, quoted for the shell of this system."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelforge.config.resolve import flatten, nest
from modelforge.config.schema.pretraining import DEFAULTS, is_model_tag, missing_defaults
from modelforge.paths import find_home


def train_command(settings: Mapping[str, Any], home: Path) -> str:
    """Return `modelforge train` with every setting; names the home if it is not the default.

    A training from nothing is `modelforge pretrain` with its text, without that command's defaults.
    """
    values = flatten(settings)
    is_new = values.get("pretraining.enabled") is True
    words = ["modelforge", "pretrain" if is_new else "train"]
    if home != find_home().root:
        words += ["--home", str(home)]
    if is_new:
        words.append(str(values["dataset"]))
        values = _without_implied(values)
    for name, value in values.items():
        words += ["--set", f"{name}={_text(value)}"]
    return quote(words)


def quote(words: Sequence[str], *, windows: bool = os.name == "nt") -> str:
    """Return the words as one line: for a POSIX shell, or for cmd and PowerShell on Windows."""
    return subprocess.list2cmdline(words) if windows else shlex.join(words)


def _without_implied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that `modelforge pretrain` does not set itself."""
    other = {
        name: value
        for name, value in values.items()
        if name not in ("pretraining.enabled", "dataset")
        and not (name == "model_name" and is_model_tag(value))
    }
    changed = {name: value for name, value in other.items() if DEFAULTS.get(name) != value}
    implied = missing_defaults(nest({**changed, "pretraining.enabled": True}))
    return {name: value for name, value in other.items() if name in changed or name not in implied}


def _text(value: Any) -> str:
    """Return a value as `--set` reads it back."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
