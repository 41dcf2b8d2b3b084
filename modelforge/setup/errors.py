"""Set-up errors: one sentence with the cause and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

NO_NETWORK = (
    "NewConnectionError|NameResolutionError|name resolution|getaddrinfo|ConnectTimeout|"
    "Network is unreachable|Connection refused|ProxyError|Read timed out|Max retries"
)
# Pattern in the output, cause, remedy. The first match applies.
CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"No space left on device|Errno 28|WinError 112", "the disk is full", "free about 6 GiB"),
    (r"ensurepip", "this Python has no ensurepip", "install its venv package (python3-venv)"),
    (NO_NETWORK, "the package index cannot be reached", "check the network"),
    (r"CERTIFICATE_VERIFY_FAILED", "a certificate was rejected", "check the clock and the proxy"),
    (r"do not match the hashes", "a download was damaged", "clear pip's cache"),
    (r"Permission denied|Errno 13|WinError 5\b", "", "make this folder writable"),
)
PIP_ERROR = re.compile(r"^ERROR: (?!Exception:|ResolutionImpossible:)(.+)$")
RAISED = re.compile(r"^((?:\w+\.)*\w+(?:Error|Exception): .+)$")


class SetupError(Exception):
    """Set-up cannot continue. The message is one sentence for the user."""


class UsageError(SetupError):
    """A command, option or extra that does not exist."""


class CommandError(SetupError):
    """A command of a stage has failed."""

    def __init__(self, title: str, lines: Sequence[str], log: Path) -> None:
        super().__init__(explain(title, lines, log))
        self.reason, _remedy = find_reason(lines)


def explain(title: str, lines: Sequence[str], log: Path) -> str:
    """Return a sentence about a failed stage: its title, the cause and the remedy."""
    reason, remedy = find_reason(lines)
    return (
        f"Set-up stopped at {title}: {reason}; {remedy}, then run the same command again "
        f"(finished stages are kept; the output is in {log})."
    )


def find_reason(lines: Sequence[str]) -> tuple[str, str]:
    """Return why a command failed by its output, and the remedy."""
    output = "\n".join(lines)
    for pattern, cause, advice in CAUSES:
        if re.search(pattern, output):
            return cause or _last_error(lines), advice
    return _last_error(lines), "see the log"


def _last_error(lines: Sequence[str]) -> str:
    """Return pip's last error, else the last exception, else the last line."""
    texts = [line.strip() for line in lines if line.strip()]
    for pattern in (PIP_ERROR, RAISED):
        if errors := [match[1] for line in texts if (match := pattern.match(line))]:
            return errors[-1].rstrip(".;")[:300]
    return texts[-1].rstrip(".;")[:300] if texts else "it ended without output"
