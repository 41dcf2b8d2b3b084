"""The folder of CORE: tasks with few-shot examples for models without a chat format.

CORE (Li et al., DataComp-LM, 2024) is the mean of 22 tasks, each centred on guessing. The tasks are
not shipped; the user points at a folder in the layout of the published bundle:

core.yaml             `icl_tasks`: a list of {label, icl_task_type, dataset_uri, num_fewshot: [n],
                      continuation_delimiter}
eval_meta_data.csv    columns `Eval Task` and `Random baseline` (percent)
eval_data/            JSON Lines, one file per `dataset_uri`

Rows by type: multiple_choice {query, choices, gold}, schema {context_options, continuation, gold},
language_modeling {context, continuation}.
"""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import DataError, Problem
from modelforge.paths import expand_user

SETTING = "evaluation.core_bundle"
Kind = Literal["multiple_choice", "schema", "language_modeling"]
Row = dict[str, Any]
COLUMNS: dict[Kind, dict[str, type]] = {
    "multiple_choice": {"query": str, "choices": list, "gold": int},
    "schema": {"context_options": list, "continuation": str, "gold": int},
    "language_modeling": {"context": str, "continuation": str},
}
_OPTIONS: dict[Kind, str] = {"multiple_choice": "choices", "schema": "context_options"}
_TYPES = {str: "text", list: "list", int: "whole number"}
ORDER_SEED = 1337
EXAMPLES_SEED = 1234


@dataclass(frozen=True)
class CoreTask:
    """A task: its rows in the order of evaluation, and what guessing gets.

    Attributes:
        name: label of the task.
        kind: how its rows are scored.
        rows: rows, checked.
        shots: examples in front of each row.
        delimiter: text between a question and its answer.
        baseline: share of right answers by guessing, from 0 to below 1.
    """

    name: str
    kind: Kind
    rows: list[Row]
    shots: int
    delimiter: str
    baseline: float

    def examples(self, index: int) -> list[Row]:
        """Return the examples in front of row `index`, always the same."""
        others = [at for at in range(len(self.rows)) if at != index]
        chosen = random.Random(EXAMPLES_SEED + index).sample(others, min(self.shots, len(others)))
        return [self.rows[at] for at in chosen]

    def centred(self, accuracy: float) -> float:
        """Return the score: 0 is guessing, 1 is all correct."""
        return (accuracy - self.baseline) / (1 - self.baseline)


def read_core_tasks(folder: Path) -> list[CoreTask]:
    """Return the tasks of a folder; raises DataError with all problems."""
    problems: list[Problem] = []
    listed = _list_of(folder, problems)
    baselines = _baselines(folder, problems)
    tasks = []
    for entry in listed:
        try:
            tasks.append(_task(folder, entry, baselines))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return tasks


def located_tasks(folder: Path) -> list[tuple[Kind, Path, int]]:
    """Return kind, file and number of examples of each task; rows are not read.

    Raises:
        DataError: a task is missing or wrong.
    """
    problems: list[Problem] = []
    listed = _list_of(folder, problems)
    baselines = _baselines(folder, problems)
    if problems:
        raise DataError(problems)
    found = [(_located(folder, entry, baselines), _shots(entry)) for entry in listed]
    return [(kind, path, shots) for (_name, kind, path), shots in found]


def check_core_folder(config: TrainingConfig) -> None:
    """Raise DataError for what is wrong with `evaluation.core_bundle`; rows are not read.

    The rows are read before the first step.
    """
    name = config.evaluation.core_bundle
    if name is None or not config.pretraining.enabled:
        return
    if problems := _folder_problems(expand_user(name)):
        raise DataError(
            [Problem(SETTING, f"{each.where}: {each.what}", each.remedy) for each in problems]
        )


def _folder_problems(folder: Path) -> list[Problem]:
    problems: list[Problem] = []
    listed = _list_of(folder, problems)
    baselines = _baselines(folder, problems)
    for entry in listed:
        try:
            _located(folder, entry, baselines)
        except DataError as error:
            problems += error.problems
    return problems


def _list_of(folder: Path, problems: list[Problem]) -> list[Row]:
    path = folder / "core.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if entries := [dict(entry) for entry in found["icl_tasks"]]:
            return entries
        problems.append(Problem(str(path), "names no tasks.", "Use the file of the CORE bundle."))
    except OSError:
        what = "does not exist." if not path.exists() else "cannot be read."
        problems.append(Problem(str(path), what, "Point at the folder of the CORE bundle."))
    except (yaml.YAMLError, UnicodeError, TypeError, KeyError, ValueError):
        problems.append(
            Problem(str(path), "has no list icl_tasks.", "Use the file of the CORE bundle.")
        )
    return []


def _baselines(folder: Path, problems: list[Problem]) -> dict[str, float]:
    path = folder / "eval_meta_data.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                row["Eval Task"]: float(row["Random baseline"]) / 100
                for row in csv.DictReader(file)
            }
    except OSError:
        problems.append(
            Problem(str(path), "does not exist.", "Point at the folder of the CORE bundle.")
        )
    except (KeyError, TypeError, ValueError, UnicodeError):
        what = "needs the columns Eval Task and Random baseline, the latter in percent."
        problems.append(Problem(str(path), what, "Use the file of the CORE bundle."))
    return {}


def _task(folder: Path, entry: Row, baselines: dict[str, float]) -> CoreTask:
    name, kind, path = _located(folder, entry, baselines)
    rows = _rows(path, kind, _where(name))
    random.Random(ORDER_SEED).shuffle(rows)
    delimiter = str(entry.get("continuation_delimiter", " "))
    return CoreTask(name, kind, rows, _shots(entry), delimiter, baselines.get(name, 0.0))


def _shots(entry: Row) -> int:
    """Return the examples in front of each row; raises DataError for what is not a number."""
    listed = entry.get("num_fewshot") or [0]
    shots = listed[0] if isinstance(listed, list) else listed
    if isinstance(shots, int) and shots >= 0:
        return shots
    what = f"num_fewshot is {listed!r}; a list with one whole number from 0 is needed."
    raise DataError(Problem(_where(str(entry.get("label"))), what))


def _where(name: str) -> str:
    return f"core.yaml, task {name}"


def _located(folder: Path, entry: Row, baselines: dict[str, float]) -> tuple[str, Kind, Path]:
    """Return name, type and file of a task; raises DataError for what is wrong with them."""
    name, asked = str(entry.get("label")), entry.get("icl_task_type")
    where = _where(name)
    kind = next((each for each in COLUMNS if each == asked), None)
    if kind is None:
        what = f"icl_task_type is {asked!r}; {', '.join(COLUMNS)} are possible."
        raise DataError(Problem(where, what))
    if name not in baselines and (folder / "eval_meta_data.csv").exists():
        raise DataError(
            Problem(where, "eval_meta_data.csv has no random baseline for it.", "Add its line.")
        )
    if not 0 <= baselines.get(name, 0.0) < 1:
        what = f"Its random baseline is {100 * baselines[name]:g}; from 0 to below 100 is possible."
        raise DataError(Problem(where, what, "Correct its line of eval_meta_data.csv."))
    _shots(entry)
    return name, kind, _inside(folder, str(entry.get("dataset_uri")), where)


def _inside(folder: Path, uri: str, where: str) -> Path:
    data = (folder / "eval_data").resolve()
    path = (data / uri).resolve()
    if not path.is_relative_to(data):
        raise DataError(Problem(where, f"{uri} lies outside eval_data.", "Use a path inside it."))
    if not path.is_file():
        raise DataError(
            Problem(where, f"eval_data/{uri} does not exist.", "Add the file, or remove the task.")
        )
    return path


def _rows(path: Path, kind: Kind, where: str) -> list[Row]:
    rows: list[Row] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if problem := row_problem(row, kind):
                raise DataError(Problem(f"{where}, {path.name} line {number}", problem))
            rows.append(row)
    if not rows:
        raise DataError(Problem(where, f"{path.name} has no rows.", "Use another file."))
    return rows


def row_problem(row: Any, kind: Kind) -> str:
    """Return what is wrong with a row; empty if nothing is."""
    if not isinstance(row, dict):
        return "The line is no JSON object."
    for column, wanted in COLUMNS[kind].items():
        if not isinstance(row.get(column), wanted) or isinstance(row[column], bool):
            return f"“{column}” is missing or no {_TYPES[wanted]}."
    if kind == "language_modeling":
        return ""
    options = row[_OPTIONS[kind]]
    if len(options) < 2 or not all(isinstance(each, str) for each in options):
        return f"“{_OPTIONS[kind]}” needs at least 2 texts."
    if not 0 <= row["gold"] < len(options):
        return f"“gold” is {row['gold']}; there are {len(options)} options, from 0."
    return ""
