"""The GPU lease: one chat, trial run, export, evaluation or served model at a time in a home."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from modelforge.errors import BusyError, Problem
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.process.identity import ProcessIdentity
from modelforge.runs.process.lock import exclusive

FORMAT = 1
# Description of a holder by its kind, and how to free the GPU.
KINDS = {
    "chat": (
        "Chat with",
        "Close the other ModelForge server, or wait: an idle chat ends by itself.",
    ),
    "trial-run": ("The trial run of", "Stop it, or wait until it is done."),
    "export": ("The export of", "Wait until it is done."),
    "evaluation": (
        "The evaluation of",
        "Wait until it is done, or stop it: `modelforge evaluations list` shows it.",
    ),
    "serving": (
        "The API server of",
        "Stop it on the Export page or, in its terminal, with Ctrl+C, or wait until it is idle.",
    ),
}


@dataclass(frozen=True)
class LeaseHolder:
    """The holder of the lease: its kind, its name, its process, and its start in Unix seconds."""

    kind: str
    name: str
    who: ProcessIdentity
    since: float
    token: str

    @property
    def sentence(self) -> str:
        """Who uses the GPU, as a sentence."""
        lead = KINDS.get(self.kind, (f"{self.kind.capitalize()}:", ""))[0]
        return f"{lead} {self.name} is using this computer (process {self.who.pid})."


class MachineLease:
    """The lease of a home, from the side of one holder. It ends with the process of the holder.

    Runs do not take the lease: an active run blocks the GPU by its state. Other holders check for
    active runs first, under the same `lock`.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self._path, self._lock = path, lock
        self._token = secrets.token_hex(8)

    def holder(self) -> LeaseHolder | None:
        """Return the current holder, or None."""
        data = find_json(self._path)
        who = ProcessIdentity.from_dict(data) if data else None
        if data is None or who is None or not who.alive:
            return None
        texts = {name: str(data.get(name) or "") for name in ("kind", "name", "token")}
        since = data.get("since")
        return LeaseHolder(who=who, since=since if isinstance(since, float) else 0.0, **texts)

    @property
    def mine(self) -> bool:
        """Whether this side holds the lease."""
        holder = self.holder()
        return holder is not None and holder.token == self._token

    def take(self, kind: str, name: str, who: ProcessIdentity | None = None) -> None:
        """Take the lease, or change its kind and name; raises BusyError if another holds it.

        It is held until the process `who` ends, by default this process.
        """
        with exclusive(self._lock):
            self.require_free()
            record = {"format": FORMAT, "kind": kind, "name": name, "token": self._token}
            who = who or ProcessIdentity.of(os.getpid())
            write_json(self._path, {**record, "since": time.time(), **who.as_dict()})

    def require_free(self) -> None:
        """Raise BusyError while another side holds the lease."""
        holder = self.holder()
        if holder is not None and holder.token != self._token:
            remedy = KINDS.get(holder.kind, ("", "Wait until it is done."))[1]
            raise BusyError(Problem("machine", holder.sentence, remedy), holder.kind)

    def release(self) -> None:
        """Release the lease if this side holds it."""
        with exclusive(self._lock):
            if self.mine:
                with contextlib.suppress(OSError):
                    self._path.unlink(missing_ok=True)
