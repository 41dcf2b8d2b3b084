"""What became of each option of a file of another system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from modelforge.config.schema.base import about

Result = Literal["taken", "renamed", "converted", "no-effect", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What one option becomes: settings by dotted name, and why where that is not plain.

    `lines` are the options inside it, such as those of one data set, each with an outcome.
    """

    result: Result
    settings: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    lines: tuple[tuple[str, Any, Outcome], ...] = ()


@dataclass(frozen=True)
class ReportLine:
    """One option of the file, or a default of its system that was written out."""

    line: Annotated[int | None, about("Line in the file; null for a default of the system.")]
    name: Annotated[str, about("The option, dotted inside a group.")]
    value: Any
    result: Result
    setting: Annotated[str, about("Our setting, or several with commas; empty if there is none.")]
    why: str
    is_default: Annotated[bool, about("Whether the file leaves it out.")] = False


@dataclass(frozen=True)
class Imported:
    """The settings of a file of another system, and one line for each of its options."""

    system: str
    title: Annotated[str, about("Name of the system as it writes itself.")]
    recipe: Annotated[dict[str, Any], about("Our settings, nested by group.")]
    report: tuple[ReportLine, ...]

    def count(self, result: Result) -> int:
        """Return how many options of the file have this result; defaults are not counted."""
        return sum(line.result == result and not line.is_default for line in self.report)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)
