"""Checks of where a run reports to: the copy of its log, and the repository of Aim."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from modelforge.config.rules.training import requested_trackers
from modelforge.config.schema.runtime import is_address
from modelforge.errors import Finding, blocker, note
from modelforge.paths import expand_user
from modelforge.preflight.context import RunContext

LOG_FILE, REPO = "logging.log_file", "logging.repo"


def log_file_unusable(context: RunContext) -> Iterator[Finding]:
    """Refuse a copy of the log that cannot be written."""
    name = context.config.logging.log_file
    if name and (why := why_not_writable(expand_user(name))):
        remedy = "Choose another file, or leave it empty: the log is in the run folder as well."
        yield blocker("log-file", f"The log cannot be written to {name}: {why}", remedy, LOG_FILE)


def repository_unusable(context: RunContext) -> Iterator[Finding]:
    """Refuse a folder of Aim that cannot be written, and note one on another computer."""
    config, repo = context.config, context.config.logging.repo
    if not repo or "aim" not in requested_trackers(config):
        return
    if is_address(repo):
        yield note(
            "tracker-online",
            f"Metrics and settings are sent to {repo}.",
            "Leave the Aim repository empty to keep them in the run folder.",
            REPO,
        )
    elif why := why_not_writable(expand_user(repo), is_folder=True):
        remedy = "Choose another folder, or leave it empty for the run folder."
        yield blocker("tracker-folder", f"Aim cannot write to {repo}: {why}", remedy, REPO)


def why_not_writable(path: Path, *, is_folder: bool = False) -> str:
    """Return why a file, or a folder, cannot be written; empty if it can.

    It may not exist yet; the folder that contains it must.
    """
    try:
        if path.is_dir() != is_folder and path.exists():
            return f"it is {'a file' if is_folder else 'a folder'}."
        if not path.parent.is_dir():
            return f"the folder {path.parent} does not exist."
        holder = path if path.exists() else path.parent
        if path.exists() and not is_folder and not path.is_file():
            return "it is not a regular file."
        return "" if os.access(holder, os.W_OK) else f"{holder} is write-protected."
    except (OSError, ValueError) as error:
        return f"{error}."
