"""A spare's time until its run: probes are answered beside the ear, which stays on the pipe."""

from __future__ import annotations

import json
import queue
import threading
from typing import Any, TextIO

from modelforge.train.probes import Probes

LET_GO_S = 1.0


class Waiting:
    """Answers probes in a thread of its own, one at a time, until a run comes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._speaking = threading.Lock()
        self._asked: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._pending = 0
        self._is_over = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None

    def say(self, what: dict[str, Any]) -> None:
        """Say one thing to the server, unless a run has come."""
        line = json.dumps(what, default=str) + "\n"
        with self._speaking:
            if not self._is_over.is_set():
                self._out.write(line)
                self._out.flush()

    def probe(self, probe: dict[str, Any]) -> None:
        """Have a probe answered as soon as those before it are."""
        with self._speaking:
            self._pending += 1
            self._idle.clear()
        self._asked.put(probe)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="probes", daemon=True)
            self._thread.start()

    def end(self) -> bool:
        """Say nothing more; return whether no probe is at work."""
        with self._speaking:
            self._is_over.set()
        self._asked.put(None)
        return self._idle.is_set()

    def wait(self, limit_s: float = LET_GO_S) -> bool:
        """Wait until the probe at work has noticed the end; return whether it has."""
        return self._idle.wait(limit_s)

    def _work(self) -> None:
        probes = Probes()
        while (probe := self._asked.get()) is not None:
            if not self._is_over.is_set():
                probes.answer(probe, self.say, lambda: not self._is_over.is_set())
            with self._speaking:
                self._pending -= 1
                if not self._pending:
                    self._idle.set()
