"""What became of each of our settings in a file for another system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from modelforge.config.schema.base import about

Result = Literal["written", "converted", "not-needed", "left-out"]


@dataclass(frozen=True)
class Written:
    """What one setting becomes: options of the system by dotted name, and why if it is not plain.

    Attributes:
        is_lost: Whether the system cannot say it, so that the training may differ.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    is_lost: bool = False

    @property
    def result(self) -> Result:
        """The result, as the report shows it."""
        if self.is_lost:
            return "left-out"
        if not self.options:
            return "not-needed"
        return "converted" if self.why else "written"


@dataclass(frozen=True)
class ExportLine:
    """One of our settings, or a part of one, and what it becomes."""

    setting: Annotated[str, about("Our setting, dotted inside a group.")]
    value: Any
    result: Annotated[Result, about("left-out: the system cannot say it.")]
    option: Annotated[str, about("The options of the system, with commas; empty if none.")]
    why: str


@dataclass(frozen=True)
class Exported:
    """A file for another system, and one line for each of our settings."""

    system: str
    title: Annotated[str, about("Name of the system as it writes itself.")]
    file_name: Annotated[str, about("The usual name of such a file.")]
    text: Annotated[str, about("The content of the file.")]
    command: Annotated[str, about("What trains with the file; FILE stands for its path.")]
    report: tuple[ExportLine, ...]
    data: Annotated[str, about("Files with rows that it reads beside itself, with commas.")] = ""
    files: Annotated[Mapping[str, str], about("Further files beside it: name and content.")] = (
        field(default_factory=dict)
    )

    @property
    def left_out(self) -> tuple[ExportLine, ...]:
        """The settings that the system cannot say."""
        return tuple(line for line in self.report if line.result == "left-out")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)
