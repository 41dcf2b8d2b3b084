"""What can go wrong, said in three parts: where, what, remedy.

ForgeError              has `.problems`; reaches people without a traceback
├── ConfigError         answers that cannot become a config          exit 2, HTTP 422
├── DataError           a data file that cannot be learned from      exit 2, HTTP 422
├── BlockedError        preflight found a blocker                    exit 2, HTTP 422
├── NotFoundError       no such run, file or model                   exit 2, HTTP 404
├── BusyError           another holds the machine (`.holder`)        exit 1, HTTP 409
├── MissingPackageError a feature whose package is not installed     exit 1, HTTP 501
└── RunError            the folder, the disk or the process failed   exit 1, HTTP 500
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["blocker", "caution", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `where` is a setting's name, a file with its line, or a part."""

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        told = self.sentence if self._continues_where else f"{self.where}: {self.what}"
        return " ".join(part for part in (told, self.remedy) if part)

    @property
    def sentence(self) -> str:
        """What is wrong as a whole sentence; one that goes on from its place begins with it."""
        return f"{self.where} {self.what}" if self._continues_where else self.what

    @property
    def _continues_where(self) -> bool:
        return self.what[:1].islower()

    def as_dict(self) -> dict[str, str]:
        """Return the three parts by name, as REST and `--json` give them."""
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """One thing that preflight has to say. `code` is stable; `where` may name a setting.

    A `suggested` value is what the setting `where` should become to be rid of the finding.
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


class ForgeError(Exception):
    """A failure that is told to people as it stands."""

    exit_code = 1
    http_status = 500

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(ForgeError):
    """Answers that cannot become a config; holds every problem, not the first."""

    exit_code = 2
    http_status = 422


class DataError(ForgeError):
    """A data file that cannot be read or learned from."""

    exit_code = 2
    http_status = 422


class BlockedError(ForgeError):
    """Preflight found at least one blocker; `findings` holds all it had to say."""

    exit_code = 2
    http_status = 422

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = list(findings)
        super().__init__(
            [
                Problem(found.where or found.code, found.what, found.remedy)
                for found in self.findings
                if found.level == "blocker"
            ]
        )


class NotFoundError(ForgeError):
    """There is no run, file or model of that name."""

    exit_code = 2
    http_status = 404


class BusyError(ForgeError):
    """Somebody else holds the machine; `holder` is a run's id, or `chat` or `export`."""

    http_status = 409

    def __init__(self, problem: Problem, holder: str) -> None:
        super().__init__(problem)
        self.holder = holder


class MissingPackageError(ForgeError):
    """A feature was asked for whose package is not installed."""

    http_status = 501


class RunError(ForgeError):
    """The run folder, the disk or the process failed."""


def merge_errors(errors: Sequence[ForgeError]) -> ForgeError:
    """Return one error with the problems of all, of the first one's kind in the tree above."""
    if len(errors) == 1:
        return errors[0]
    kind = next(kind for kind in type(errors[0]).__mro__ if kind.__module__ == __name__)
    problems = [problem for error in errors for problem in error.problems]
    raised: ForgeError = kind(problems)
    return raised
