"""The finished stages of a virtual environment, stored in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FILE = ".modelforge-setup.json"


def fingerprint(*parts: str | Path) -> str:
    """Return a short hash of texts and file contents."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]


class StateFile:
    """The finished stages of a virtual environment, stored in it."""

    def __init__(self, venv: Path) -> None:
        self.path = venv / FILE
        try:
            read = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            read = {}
        self._values: dict[str, Any] = read if isinstance(read, dict) else {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return a stored value."""
        return self._values.get(name, default)

    def put(self, **values: Any) -> None:
        """Store values on disk at once, so that an interrupted set-up can continue."""
        self._values.update(values)
        staged = self.path.with_suffix(".new")
        staged.write_text(json.dumps(self._values, indent=1), encoding="utf-8")
        staged.replace(self.path)

    def forget(self) -> None:
        """Remove all values, because the environment is recreated."""
        self._values = {}
