"""What set-up has finished, kept in `.venv/.modelforge-setup.json` and compared by fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FILE = ".modelforge-setup.json"


def fingerprint(*parts: str | Path) -> str:
    """Return one short hash over texts and the contents of files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]


class Stamps:
    """The finished stages of one `.venv`; gone together with it."""

    def __init__(self, venv: Path) -> None:
        self.path = venv / FILE
        try:
            read = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            read = {}
        self._known: dict[str, Any] = read if isinstance(read, dict) else {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return what was stamped under a name."""
        return self._known.get(name, default)

    def put(self, **stamped: Any) -> None:
        """Stamp, and keep it on disk at once: a call that dies later finds it."""
        self._known.update(stamped)
        staged = self.path.with_suffix(".new")
        staged.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
        staged.replace(self.path)

    def forget(self) -> None:
        """Forget everything: the environment is made anew."""
        self._known = {}
