"""Say in one sentence why a stage of the set-up failed, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

NO_NETWORK = (
    "NewConnectionError|NameResolutionError|name resolution|getaddrinfo|ConnectTimeout|"
    "Network is unreachable|Connection refused|ProxyError|Read timed out|Max retries"
)
# What the output shows → what went wrong, what to do. The first that is found wins.
CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"No space left on device|Errno 28|WinError 112", "the disk is full", "free some 6 GiB"),
    (r"ensurepip", "this Python has no ensurepip", "install its venv package (python3-venv)"),
    (NO_NETWORK, "the package index was not reached", "check the network"),
    (r"CERTIFICATE_VERIFY_FAILED", "a certificate was refused", "check clock and proxy"),
    (r"do not match the hashes", "a download was damaged", "clear pip's cache"),
    (r"Permission denied|Errno 13|WinError 5\b", "", "make this folder writable for you"),
)
PIP_ERROR = re.compile(r"^ERROR: (?!Exception:|ResolutionImpossible:)(.+)$")
RAISED = re.compile(r"^((?:\w+\.)*\w+(?:Error|Exception): .+)$")


class SetupError(Exception):
    """Set-up cannot go on; the text is one sentence for people."""


def explain(title: str, lines: Sequence[str], log: Path) -> str:
    """Return the sentence about a stage that ended badly: what failed, why, what to do."""
    output = "\n".join(lines)
    reason = _last_error(lines)
    remedy = "look into the log"
    for pattern, cause, advice in CAUSES:
        if re.search(pattern, output):
            reason, remedy = cause or reason, advice
            break
    return (
        f"Set-up stopped at {title}: {reason}; {remedy}, then give the same command again "
        f"(finished stages are kept, the whole output is in {log})."
    )


def _last_error(lines: Sequence[str]) -> str:
    """Return pip's last error line, else the last exception, else the last line there is."""
    spoken = [line.strip() for line in lines if line.strip()]
    for pattern in (PIP_ERROR, RAISED):
        if errors := [found[1] for line in spoken if (found := pattern.match(line))]:
            return errors[-1].rstrip(".;")[:300]
    return spoken[-1].rstrip(".;")[:300] if spoken else "it ended without a word"
