"""`python -m modelforge.chat`: reads requests from stdin and writes replies to stdout, as JSONL."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, TextIO

from modelforge.chat.protocol import ChatServer


def main() -> int:
    """Serve requests until stdin ends."""
    output = _reserve_stdout()

    def send(message: dict[str, object]) -> None:
        output.write(json.dumps(message, allow_nan=False) + "\n")
        output.flush()

    # Set after stdout is redirected, so that no library output gets between the JSON lines.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    ChatServer(send, make_model=_make_model).serve(sys.stdin)
    return 0


def _make_model(is_gguf: bool) -> Any:
    """Return the model of a kind; a GGUF file needs no torch."""
    if is_gguf:
        return importlib.import_module("modelforge.chat.gguf").GgufModel()
    return importlib.import_module("modelforge.chat.generate").ChatModel()


def _reserve_stdout() -> TextIO:
    """Return a private copy of stdout for JSON; everything else printed goes to stderr."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return output


if __name__ == "__main__":
    sys.exit(main())
