"""Act when stdin ends: a child process that ends together with the server that started it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

PIECE_BYTES = 4096


def when_stdin_ends(act: Callable[[], object]) -> None:
    """Read stdin to its end in a thread, then call `act` there.

    The descriptor is read, not `sys.stdin`: the interpreter aborts if it has to exit while another
    thread holds the lock of that file.
    """
    threading.Thread(target=_read_and_act, args=[act], name="stdin", daemon=True).start()


def _read_and_act(act: Callable[[], object]) -> None:
    try:
        while os.read(sys.stdin.fileno(), PIECE_BYTES):
            pass
    except OSError:
        # The other side of the pipe is gone in a way that is reported as an error.
        pass
    act()
