"""What an evaluation reads: the run, its base model and its evaluation rows; and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.data.prompt_file import read_prompt_file
from modelforge.data.sources.combine import files_in_record
from modelforge.data.sources.load import source_entries
from modelforge.data.sources.split import split_counts
from modelforge.diagnosis.comparison import FEWEST_ROWS
from modelforge.errors import (
    ConfigError,
    DataError,
    ForgeError,
    MissingPackageError,
    Problem,
    merge_errors,
)
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home, expand_user
from modelforge.runs.atomic_files import read_json
from modelforge.runs.evaluations import EvaluationRequest
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import run_name
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.progress.timings import StepTimings
from modelforge.runs.store import Store
from modelforge.runs.timeline import timeline_reader
from modelforge.services.jobs.trained_run import (
    BaseModel,
    TrainedRunFinder,
    base_name,
    collect_error,
    gpu_with,
)
from modelforge.services.machine import MachineService

MAX_ROWS, MAX_TASKS, MAX_SEED = 10_000, 20, 2**32 - 1
LM_EVAL, LM_EVAL_EXTRA = "lm_eval", "lm-eval"
# Tokens of a row where the events of a run do not say them.
ROW_TOKENS = 200.0
# Why a training from nothing is not evaluated, and what shows how good its model is.
NEW_MODEL = "was trained from nothing: there is no base model to compare it with."
ITS_SCORES = "Its page shows bits per byte and CORE. Evaluate the run that teaches it to chat."
_TASK = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class EvaluationSources:
    """What an evaluation reads.

    Attributes:
        base: None if every weight was trained and the base model is gone.
        model: Facts of the model that answers.
        rows: Evaluation rows that are used; `notes` says why they are few or none.
        row_tokens: Mean tokens of a row.
        speed: Tokens per second in the training of the run; None where it is unknown.
        gpu: The GPU that has enough memory; None for the processor.
    """

    run: RunFolder
    name: str
    plan: Plan
    base: BaseModel | None
    base_name: str
    model: ModelInfo
    rows: int
    row_tokens: float
    speed: float | None
    notes: tuple[str, ...] = ()
    gpu: int | None = None

    @property
    def device(self) -> str:
        """Where the models answer."""
        return "cpu" if self.gpu is None else "cuda"

    def facts(self) -> dict[str, Any]:
        """Return what the evaluator needs, as plain data."""
        base = self.base
        return {
            "run_folder": str(self.run.path),
            "base_path": str(base.folder) if base else None,
            "base_name": self.base_name,
            "base_revision": base.revision if base else None,
            "adapter_path": str(self.run.output) if self.run.has_adapter else None,
            "device": self.device,
            "gpu_index": self.gpu,
            "evaluation_rows": self.rows,
            "notes": list(self.notes),
        }


class EvaluationSourceFinder:
    """Finds what an evaluation reads, and collects everything that is wrong with a request."""

    def __init__(
        self, home: Home, store: Store, supervisor: Supervisor, machine: MachineService
    ) -> None:
        self.home = home
        self._machine = machine
        self._finder = TrainedRunFinder(home, store, supervisor, verb="evaluate")

    def find(self, request: EvaluationRequest, *, refresh: bool = False) -> EvaluationSources:
        """Return the sources. Raises one error with all problems.

        With `refresh`, the free memory of the GPUs is that of this moment.
        """
        errors: list[ForgeError] = []
        if problems := list(wrong_values(request)):
            errors.append(ConfigError(problems))
        collect_error(errors, lambda: _require_prompts(request))
        run = collect_error(errors, lambda: self._finder.run_with_result(request.run))
        if run is None:
            raise merge_errors(errors)
        machine = self._machine.current(refresh=refresh)
        sources = collect_error(errors, lambda: self._sources(run, request, machine))
        if sources is None or errors:
            raise merge_errors(errors)
        result: EvaluationSources = sources
        return result

    def _sources(
        self, run: RunFolder, request: EvaluationRequest, machine: Machine
    ) -> EvaluationSources:
        record = read_json(run.config)
        plan = Plan.from_dict(record["plan"], record["config"])
        if plan.is_from_nothing:
            what = f"“{run_name(run)}” {NEW_MODEL}"
            raise ConfigError(Problem("run", what, ITS_SCORES))
        base, notes = self._base(run, record, plan)
        folder = base.folder if base else run.output
        model = self._finder.model(str(folder))
        timeline = timeline_reader(run.events)
        timeline.poll()
        timings = timeline.timeline.timings
        held_out, why = _evaluation_rows(record, timings)
        rows = min(held_out, request.rows)
        if not rows and not (request.general or request.tasks or request.prompts):
            remedy = "Evaluate it with general prompts, a prompt file or tasks, or train with an "
            remedy += "evaluation split above 0."
            raise ConfigError(Problem("evaluation rows", why, remedy))
        return EvaluationSources(
            run=run,
            name=run_name(run),
            plan=plan,
            base=base,
            base_name=base.name if base else base_name(record, plan),
            model=model,
            rows=rows,
            row_tokens=_row_tokens(timings),
            speed=_speed(timings),
            notes=(*notes, *_row_notes(rows, held_out, why)),
            gpu=gpu_with(model.weights_gib, machine),
        )

    def _base(
        self, run: RunFolder, record: dict[str, Any], plan: Plan
    ) -> tuple[BaseModel | None, list[str]]:
        """Return the base model; a fully trained run is evaluated without it if it is gone."""
        try:
            return self._finder.base(record, plan), []
        except ForgeError as error:
            if run.has_adapter:
                raise
            return None, [f"{error.problems[0].sentence} The trained model is measured alone."]


def wrong_values(request: EvaluationRequest) -> Iterator[Problem]:
    """Yield what is wrong with a request, whatever the run is."""
    if not 1 <= request.rows <= MAX_ROWS:
        remedy = f"Give a number from 1 to {MAX_ROWS:,}."
        yield Problem("rows", f"{request.rows:,} is not possible.", remedy)
    if not 0 <= request.seed <= MAX_SEED:
        yield Problem("seed", f"{request.seed} is not possible.", f"Give 0 to {MAX_SEED}.")
    for task in request.tasks:
        if not _TASK.fullmatch(task):
            what = f"{task[:100]!r} is not a name of a task."
            yield Problem("tasks", what, "Write names as `lm-eval ls tasks` lists them.")
    if len(request.tasks) > MAX_TASKS:
        yield Problem("tasks", f"There are {len(request.tasks)}.", f"Name up to {MAX_TASKS}.")


def require_packages(request: EvaluationRequest) -> None:
    """Raise MissingPackageError if tasks are named and lm-eval is not installed."""
    if request.tasks and find_spec(LM_EVAL) is None:
        what = "The package lm-eval, which contains the tasks, is not installed."
        remedy = f"Run `python launch.py setup --with {LM_EVAL_EXTRA}`, or leave the tasks out."
        raise MissingPackageError(Problem("tasks", what, remedy))


def _require_prompts(request: EvaluationRequest) -> None:
    if request.prompts:
        read_prompt_file(expand_user(request.prompts))


def _evaluation_rows(record: dict[str, Any], timings: StepTimings) -> tuple[int, str]:
    """Return the number of evaluation rows of a run, and why there are none."""
    if timings.plan is not None and timings.plan.eval_rows is not None:
        rows = timings.plan.eval_rows
    else:
        rows = _split_rows(record)
    if not rows:
        return 0, "No rows of the data were kept apart for evaluation."
    for path in sorted(files_in_record(record["dataset"])):
        if not path.is_file():
            return 0, f"The data file {path.name} is not in {path.parent} any more."
    return rows, ""


def _split_rows(record: dict[str, Any]) -> int:
    """Return about how many evaluation rows the split of a record gives."""
    try:
        dataset = record["dataset"]
        if held_out := source_entries(dataset, "validation"):
            return sum(int(entry["rows"]) for entry in held_out)
        rows = sum(int(entry["rows"]) for entry in source_entries(dataset))
        return split_counts(rows, float(record["config"].get("eval_split", 0.0)))[1]
    except (DataError, KeyError, TypeError, ValueError):
        return 0


def _row_notes(rows: int, held_out: int, why: str) -> list[str]:
    if why:
        return [f"{why} The report compares no rows of the training's own task."]
    if rows < FEWEST_ROWS:
        few = f"{rows} evaluation row{'s are' if rows > 1 else ' is'} too few to tell which model"
        cause = "" if held_out > rows else " The run kept no more apart."
        return [f"{few} is better; {FEWEST_ROWS} are the least.{cause}"]
    return []


def _row_tokens(timings: StepTimings) -> float:
    plan = timings.plan
    if plan is None or not plan.all_tokens or not plan.train_rows:
        return ROW_TOKENS
    return plan.all_tokens / plan.train_rows


def _speed(timings: StepTimings) -> float | None:
    """Return tokens per second of the training of a run."""
    tokens = sum(window.tokens or 0 for window in timings.windows)
    seconds = sum(window.seconds for window in timings.windows)
    return tokens / seconds if tokens and seconds else None
