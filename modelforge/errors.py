"""Errors and findings in three parts: where, what, remedy.

ForgeError              has `.problems`; shown to users without a traceback
├── ConfigError         invalid settings                             exit 2, HTTP 422
├── DataError           a data file that cannot be trained on        exit 2, HTTP 422
├── BlockedError        preflight found a blocker                    exit 2, HTTP 422
├── NotFoundError       no such run, file or model                   exit 2, HTTP 404
├── BusyError           the machine is in use (`.holder`)            exit 1, HTTP 409
├── MissingPackageError a feature whose package is not installed     exit 1, HTTP 501
└── RunError            the folder, the disk or the process failed   exit 1, HTTP 500
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

Level = Literal["blocker", "caution", "note"]


@dataclass(frozen=True)
class Problem:
    """An error; `where` is a setting, a file with its line, or a component.

    A `what` in lower case continues the sentence that `where` begins.
    """

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        text = self.sentence if self._continues_where else f"{self.where}: {self.what}"
        return f"{text} {self.remedy}".rstrip()

    @property
    def sentence(self) -> str:
        """What is wrong, as a whole sentence."""
        return f"{self.where} {self.what}" if self._continues_where else self.what

    @property
    def _continues_where(self) -> bool:
        # A name, such as rows.jsonl, begins a sentence of its own.
        first = self.what.partition(" ")[0]
        return first.isalpha() and first.islower()

    def as_dict(self) -> dict[str, str]:
        """Return the three parts as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """A result of a check.

    Args:
        code: stable name of the finding.
        where: the setting it is about, if any.
        suggested: a value of that setting that resolves the finding.
    """

    level: Level
    code: str
    what: str
    remedy: str = ""
    where: str = ""
    suggested: object = None

    def as_dict(self) -> dict[str, object]:
        """Return the finding as plain data."""
        return asdict(self)


blocker = partial(Finding, "blocker")
caution = partial(Finding, "caution")
note = partial(Finding, "note")


class ForgeError(Exception):
    """An error whose text is shown to users."""

    exit_code = 1
    http_status = 500

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(ForgeError):
    """Invalid settings; holds all problems, not only the first."""

    exit_code = 2
    http_status = 422


class DataError(ForgeError):
    """A data file that cannot be read or trained on."""

    exit_code = 2
    http_status = 422


class BlockedError(ForgeError):
    """Preflight found at least one blocker; `findings` holds all findings."""

    exit_code = 2
    http_status = 422

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = list(findings)
        super().__init__(
            [
                Problem(finding.where or finding.code, finding.what, finding.remedy)
                for finding in self.findings
                if finding.level == "blocker"
            ]
        )


class NotFoundError(ForgeError):
    """There is no run, file or model of that name."""

    exit_code = 2
    http_status = 404


class BusyError(ForgeError):
    """The machine is in use; `holder` is a run id, `chat`, `export` or `evaluation`."""

    http_status = 409

    def __init__(self, problems: Problem | Sequence[Problem], holder: str) -> None:
        super().__init__(problems)
        self.holder = holder


class MissingPackageError(ForgeError):
    """A feature needs a package that is not installed."""

    http_status = 501


class RunError(ForgeError):
    """The run folder, the disk or the process failed."""


def merge_errors(errors: Sequence[ForgeError]) -> ForgeError:
    """Return one error with the problems of all, with the class of the first."""
    if len(errors) == 1:
        return errors[0]
    # A subclass defined elsewhere may take other arguments.
    base = next(cls for cls in type(errors[0]).__mro__ if cls.__module__ == __name__)
    problems = [problem for error in errors for problem in error.problems]
    if isinstance(errors[0], BusyError):
        return BusyError(problems, errors[0].holder)
    merged: ForgeError = base(problems)
    return merged
