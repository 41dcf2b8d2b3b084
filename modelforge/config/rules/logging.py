"""Rules about the log and the experiment trackers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.runtime import LOG_ENDINGS, is_address
from modelforge.config.validation_messages import shown
from modelforge.errors import Problem


@rule("logging.log_file")
def _log_file_is_whole_path(config: TrainingConfig) -> Iterator[Problem]:
    path = config.logging.log_file
    if path is None:
        return
    if not is_whole_path(path):
        yield _not_whole("logging.log_file", path, "/home/me/runs.log")
    if not path.lower().endswith(LOG_ENDINGS):
        yield Problem(
            "logging.log_file",
            f"{shown(path)} is not the name of a log file.",
            f"End it in {' or '.join(LOG_ENDINGS)}: lines are appended to it.",
        )


@rule("logging.repo")
def _repository_is_found(config: TrainingConfig) -> Iterator[Problem]:
    repo = config.logging.repo
    if repo is not None and not is_address(repo) and not is_whole_path(repo):
        yield _not_whole(
            "logging.repo", repo, "/home/me/aim, or an address such as aim://host:53800"
        )


def is_whole_path(text: str) -> bool:
    """Return whether a path does not depend on the working folder, on any system."""
    is_home = text.startswith("~")
    return is_home or PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _not_whole(where: str, path: str, example: str) -> Problem:
    what = f"{shown(path)} depends on the folder in which the program was started."
    return Problem(where, what, f"Write the whole path, for instance {example}.")
