"""Surogate: its options of logs, trackers and measurements."""

from __future__ import annotations

from typing import Any

from modelforge.config.importers.options import Option, Values, by, converted, no_effect, renamed
from modelforge.config.importers.report import Outcome
from modelforge.config.rules.logging import is_whole_path
from modelforge.config.schema.runtime import LOG_ENDINGS, is_address

COPY = "The log is stored in the run folder. Set logging.log_file to the whole path of a .log file."
FOLDER = "It is stored in the run folder. Set logging.repo to the whole path of a folder."


def _log_file(value: str | None, _: Values) -> Outcome:
    if value and is_whole_path(value) and value.lower().endswith(LOG_ENDINGS):
        return Outcome("renamed", {"logging.log_file": value})
    return Outcome("no-effect", why=COPY)


def _repo(value: str | None, _: Values) -> Outcome:
    if value and (is_address(value) or is_whole_path(value)):
        return Outcome("renamed", {"logging.repo": value})
    return Outcome("no-effect", why=FOLDER)


def _names(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""


OPTIONS: dict[str, Option] = {
    "report_to": converted("logging.report_to", _names, "Names with commas.", kind="names"),
    "log_file": by(_log_file, kind="text"),
    "log_gpu_util": no_effect("The GPU is logged at every step."),
    "wandb_project": renamed("logging.project"),
    "wandb_name": renamed("logging.run_name"),
    "aim_experiment": renamed("logging.experiment"),
    "aim_repo": by(_repo, kind="text"),
    "aim_name": renamed("logging.run_name"),
    "debug_time_breakdown": renamed("logging.time_breakdown", kind="bool"),
    "debug_memory_breakdown": renamed("logging.memory_breakdown", kind="bool"),
}
