"""`python -m modelforge.chat`: reads requests from stdin and writes replies to stdout, as JSONL."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from modelforge.chat.protocol import ChatServer
from modelforge.modeling.hub_kernels import block_hub_kernels

EXIT_TIMEOUT_S = 5.0


def main() -> int:
    """Serve requests until stdin ends."""
    output = _reserve_stdout()

    def send(message: dict[str, object]) -> None:
        output.write(json.dumps(message, allow_nan=False) + "\n")
        output.flush()

    # Set after stdout is redirected, so that no library output gets between the JSON lines.
    block_hub_kernels()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    ChatServer(send, make_model=_make_model).serve(_requests(sys.stdin))
    return 0


def _requests(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines; after the last one, the process has a limited time to end."""
    yield from lines
    # The server may have been killed. A prompt that is being read cannot be stopped.
    exit_timer = threading.Timer(EXIT_TIMEOUT_S, os._exit, [0])
    exit_timer.daemon = True
    exit_timer.start()


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
