"""Who holds the machine beside the runs: one chat or one export over all servers of a home."""

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
# What is said of a holder, by its kind: what it is, and how to have it let go.
KINDS = {
    "chat": ("Chat with", "Close the other ModelForge, or wait: it lets go when nobody asks."),
    "trial-run": ("The trial run of", "Stop it, or wait until it is done."),
    "export": ("The export of", "Wait until it is done."),
}


@dataclass(frozen=True)
class LeaseHolder:
    """Who holds the machine: a kind and a name, the process that answers for it, and since when."""

    kind: str
    name: str
    who: ProcessIdentity
    since: float
    token: str

    @property
    def sentence(self) -> str:
        """Who holds the machine, in words."""
        lead = KINDS.get(self.kind, (f"{self.kind.capitalize()}:", ""))[0]
        return f"{lead} {self.name} holds the machine (process {self.who.pid})."


class MachineLease:
    """One holder's side of the lease of a home. A holder whose process is gone holds nothing.

    Runs take no lease: an active run is its own sign. Whoever takes one asks for runs first,
    under the same `lock`.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self._path, self._lock = path, lock
        self._token = secrets.token_hex(8)

    def holder(self) -> LeaseHolder | None:
        """Return who holds the machine now, or None."""
        data = find_json(self._path)
        who = ProcessIdentity.from_dict(data) if data else None
        if data is None or who is None or not who.alive:
            return None
        told = {name: str(data.get(name) or "") for name in ("kind", "name", "token")}
        since = data.get("since")
        return LeaseHolder(who=who, since=since if isinstance(since, float) else 0.0, **told)

    @property
    def mine(self) -> bool:
        """Whether this side holds the machine."""
        holder = self.holder()
        return holder is not None and holder.token == self._token

    def take(self, kind: str, name: str, who: ProcessIdentity | None = None) -> None:
        """Take the machine, or tell what it is held for now; raises BusyError for another's.

        It is held for as long as `who` lives; usually that is this process.
        """
        with exclusive(self._lock):
            self.require_free()
            record = {"format": FORMAT, "kind": kind, "name": name, "token": self._token}
            who = who or ProcessIdentity.of(os.getpid())
            write_json(self._path, {**record, "since": time.time(), **who.as_dict()})

    def require_free(self) -> None:
        """Raise BusyError with the holder's name while somebody else holds the machine."""
        holder = self.holder()
        if holder is not None and holder.token != self._token:
            remedy = KINDS.get(holder.kind, ("", "Wait until it is done."))[1]
            raise BusyError(Problem("machine", holder.sentence, remedy), holder.kind)

    def give_back(self) -> None:
        """Let go of the machine; what another holds is left alone."""
        with exclusive(self._lock):
            if self.mine:
                with contextlib.suppress(OSError):
                    self._path.unlink(missing_ok=True)
