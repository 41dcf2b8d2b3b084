"""Typed replies of the server to the browser.

Every server function, the live stream of a run and the streams of JSON lines send these classes.
`python scripts/js_types.py` writes their shapes to `assets/js/types.d.ts` for the type check of
the JavaScript.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_json

from modelforge.errors import ForgeError, Problem

JsonObject = dict[str, Any]
CardState = Literal["done", "open", "wrong", "plain"]
SettingsKind = Literal["recipe", "foreign", "data"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Base of all replies: HTML by the name of the part it replaces, and a message."""

    parts: dict[str, str] = field(default_factory=dict)
    toast: str = ""
    is_error: bool = False


@dataclass(frozen=True, kw_only=True)
class PollReply(Reply):
    """Parts that keep changing while `poll` is true."""

    poll: bool = False


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data of the form: an id of its content, its size, and the tab to open first."""

    key: str
    rows: int
    is_large: bool
    sources: list[JsonObject]
    is_usable: bool
    open_tab: Literal["columns", "checks"]


@dataclass(frozen=True, kw_only=True)
class TrainReply(Reply):
    """The result of checking the form of the Train page.

    Settings are keyed by their name. `trace_key` names the plan if its memory can still be traced;
    `trial_run` is the id of the trial run in progress and `active` that of the run in progress;
    `is_busy` is whether a run uses the computer; `cautions` counts the blockers and cautions.
    """

    profile: str
    values: dict[str, str]
    origins: dict[str, str]
    hidden: list[str]
    errors: dict[str, str]
    hints: dict[str, str]
    can_start: bool
    can_queue: bool
    has_plan: bool
    exceeds_memory: bool
    is_busy: bool
    cautions: int
    trace_key: str
    trial_run: str | None
    cards: dict[str, CardState]
    data: DataFacts | None
    active: str | None = None


@dataclass(frozen=True, kw_only=True)
class StartReply(Reply):
    """The id of the started run, or why the GPU is in use."""

    run: str | None = None
    busy: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrialRunReply(PollReply):
    """The state of a trial run."""

    id: str


@dataclass(frozen=True, kw_only=True)
class PageReply(Reply):
    """A page to save as an HTML file."""

    html: str


@dataclass(frozen=True, kw_only=True)
class RecipeReply(Reply):
    """The settings of a recipe file."""

    recipe: JsonObject


@dataclass(frozen=True, kw_only=True)
class SweepFormReply(Reply):
    """The form that starts a sweep; `can_start` is whether it has settings to start with."""

    can_start: bool


@dataclass(frozen=True, kw_only=True)
class SettingsKindReply(Reply):
    """What a file holds: a recipe, settings of another program, or data."""

    kind: SettingsKind


@dataclass(frozen=True, kw_only=True)
class ImportReply(Reply):
    """Settings of another program as a form; `is_read` is whether they could be read."""

    is_read: bool
    title: str
    recipe: JsonObject = field(default_factory=dict)
    values: JsonObject = field(default_factory=dict)
    profile: str | None = None


@dataclass(frozen=True, kw_only=True)
class NotebookReply(Reply):
    """A notebook that trains the form: what is inside as HTML, or the `problem` with the form."""

    shown: str = ""
    text: str = ""
    file_name: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class SettingsExportReply(Reply):
    """Settings as a file of another system.

    `shown` is HTML: the choice of a system and what it cannot say. Without `text` they cannot be
    exported. `settings` is what an archive is made of, which `is_archive` asks for.
    """

    shown: str
    text: str = ""
    file_name: str = ""
    settings: JsonObject = field(default_factory=dict)
    is_archive: bool = False


@dataclass(frozen=True, kw_only=True)
class PresetsReply(Reply):
    """The stored presets: name, and problem if the file cannot be used; the shipped ones."""

    presets: list[dict[str, str]]
    shipped: list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class PresetReply(Reply):
    """The settings of a preset as a recipe, and the own values and the profile beside it.

    `changes` is HTML: what it changes in the form.
    """

    recipe: JsonObject
    values: JsonObject = field(default_factory=dict)
    profile: str | None = None
    changes: str = ""


@dataclass(frozen=True, kw_only=True)
class RepairReply(Reply):
    """The sources that name the repaired copies.

    `question` is set instead if many rows would be removed; the user has to agree.
    """

    sources: list[JsonObject]
    question: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetReply(Reply):
    """The value of the setting `dataset` for a new file."""

    dataset: str


@dataclass(frozen=True, kw_only=True)
class TableReply(Reply):
    """Rows of an imported table: system, question and answer."""

    rows: list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class ChatPageReply(Reply):
    """The parts of the Chat page; `is_busy` is whether a run uses the computer."""

    has_models: bool
    is_busy: bool


@dataclass(frozen=True, kw_only=True)
class CorrectionReply(Reply):
    """The file and the row that a corrected answer becomes."""

    dataset: str
    row: int


@dataclass(frozen=True, kw_only=True)
class ExportReply(Reply):
    """The parts of the Export page; `choice` is what is chosen, `can_start` whether it can be."""

    choice: JsonObject
    has_runs: bool
    can_start: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportStatus(Reply):
    """What changes by itself; `stamp` differs when an export has begun, ended or is deleted."""

    stamp: str
    is_active: bool


@dataclass(frozen=True, kw_only=True)
class EvaluationReply(Reply):
    """The Evaluation tab of a run.

    `shown` is the id of the evaluation whose report is shown; `stamp` differs when one has begun,
    ended or is deleted; `is_first` is whether the run was never evaluated.
    """

    shown: str
    is_active: bool
    is_first: bool
    stamp: str


@dataclass(frozen=True, kw_only=True)
class NextRunReply(Reply):
    """Values of settings that prepare the next run."""

    values: JsonObject


@dataclass(frozen=True, kw_only=True)
class KeyReply(Reply):
    """The API key of the model that is served."""

    key: str


@dataclass(frozen=True)
class ChartSeries:
    """One curve. `tone` names a color; a faint curve is drawn behind its smoothed one."""

    name: str
    x: list[float]
    y: list[float]
    tone: str = "c1"
    is_dashed: bool = False
    has_dots: bool = False
    is_faint: bool = False


@dataclass(frozen=True)
class ChartBand:
    """A named part of the x axis, such as a stage; a dashed line is at its end."""

    name: str
    end: float


@dataclass(frozen=True)
class ChartData:
    """The data of one chart; `description` is its text for screen readers."""

    title: str
    description: str
    series: list[ChartSeries]
    unit: str = ""
    x_unit: str = "step"
    x_end: float | None = None
    from_zero: bool = False
    bands: list[ChartBand] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CompareReply(Reply):
    """The parts and charts of the Compare page."""

    charts: dict[str, ChartData] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunUpdate:
    """What changed on the page of a run; `state` is that of the run, or `gone`."""

    parts: dict[str, str]
    charts: dict[str, ChartData] = field(default_factory=dict)
    title: str = ""
    state: str
    is_over: bool


@dataclass(frozen=True, kw_only=True)
class ProgressLine:
    """One line of a download or an installation; the last one has `done` or `error`."""

    progress: str | None = None
    done: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ChatStats:
    """The size and the duration of an answer."""

    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ChatLine:
    """One line of an answer: a phase with its text, a piece of text, the end, or an error."""

    phase: str | None = None
    text: str | None = None
    done: ChatStats | None = None
    error: str | None = None


def json_line(line: ProgressLine | ChatLine) -> str:
    """Return one line of a stream of JSON lines."""
    return f"{to_json(line).decode()}\n"


def error_text(error: ForgeError) -> str:
    """Return the first problem of an error with its remedy, and the number of others."""
    text = problem_text(error.problems[0])
    others = len(error.problems) - 1
    return f"{text} ({others} more)" if others else text


def problem_text(problem: Problem) -> str:
    """Return a problem and its remedy as sentences."""
    return f"{problem.sentence} {problem.remedy}".strip()
