"""The command line that starts a run with given settings, quoted for the shell of this system."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelforge.config.resolve import flatten
from modelforge.paths import find_home


def train_command(settings: Mapping[str, Any], home: Path) -> str:
    """Return `modelforge train` with every setting; names the home if it is not the default."""
    words = ["modelforge", "train"]
    if home != find_home().root:
        words += ["--home", str(home)]
    for name, value in flatten(settings).items():
        words += ["--set", f"{name}={_text(value)}"]
    return quote(words)


def quote(words: Sequence[str], *, windows: bool = os.name == "nt") -> str:
    """Return the words as one line: for a POSIX shell, or for cmd and PowerShell on Windows."""
    return subprocess.list2cmdline(words) if windows else shlex.join(words)


def _text(value: Any) -> str:
    """Return a value as `--set` reads it back."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
