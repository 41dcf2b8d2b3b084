"""Tasks of lm-eval (0.4.13), an extra, whose data is on this computer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from modelforge.diagnosis.comparison import Direction, compare
from modelforge.errors import MissingPackageError, Problem
from modelforge.evaluate.contestants import BASE, TUNED, Models
from modelforge.evaluate.job import Job
from modelforge.evaluate.measure import NAMES, Results
from modelforge.runs.jobs import StepWriter

PACKAGE, EXTRA = "lm_eval", "lm-eval"
BATCH_SIZE = 8
# Of a task, the first of these that it has is reported.
METRICS = (
    "acc_norm",
    "acc",
    "exact_match",
    "f1",
    "bleu",
    "rouge1",
    "word_perplexity",
    "perplexity",
)
_LOWER = ("word_perplexity", "perplexity")
WORTH_HAVING = 0.02


def measure_tasks(
    job: Job, models: Models, contestants: Sequence[str], results: Results, steps: StepWriter
) -> None:
    """Measure the tasks of the request, one by one, with base and tuned model.

    A task whose data is missing becomes a note. Raises MissingPackageError without lm-eval.
    """
    if not job.request.tasks:
        return
    if find_spec(PACKAGE) is None:
        what = "The package lm-eval, which contains the tasks, is not installed."
        remedy = f"Run `python launch.py setup --with {EXTRA}`, or leave the tasks out."
        raise MissingPackageError(Problem("tasks", what, remedy))
    for task in job.request.tasks:
        found: dict[str, dict[str, Any]] = {}
        try:
            for name in contestants:
                steps.begin(f"task-{task}-{name}", f"The {NAMES[name]} does the task {task}")
                with models.use(name) as model:
                    found[name] = _evaluate(model, job, task)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            results.notes.append(task_note(task, error))
            continue
        results.parts.setdefault("tasks", []).extend(task_entries(found))


def task_entries(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of the report from the results of `lm_eval.simple_evaluate`.

    `interval` is that of the change of the same questions from base to tuned model; null where
    the task has no value for each question.
    """
    entries = []
    for task in found[TUNED]["results"]:
        values = {name: _metric(found[name]["results"].get(task, {})) for name in found}
        metric, tuned = values[TUNED]
        if metric is None:
            continue
        base = values.get(BASE, (None, None))
        entries.append(
            {
                "task": task,
                "metric": metric,
                "base": base[1] if base[0] == metric else None,
                "tuned": tuned,
                "interval": _interval(found, task, metric),
            }
        )
    return entries


def task_note(task: str, error: Exception) -> str:
    """Return why a task could not be measured."""
    if isinstance(error, KeyError):
        return f"lm-eval has no task {task}."
    name = type(error).__name__
    is_offline = "Connection" in name or "Offline" in name or "offline" in str(error).lower()
    if is_offline or isinstance(error, FileNotFoundError):
        return (
            f"The data of the task {task} is not on this computer. Run the task once with lm-eval "
            "while the network is there; its data stays in the cache."
        )
    first = next(iter(str(error).splitlines()), name)
    return f"The task {task} could not be measured: {first[:200]}"


def _evaluate(model: Any, job: Job, task: str) -> dict[str, Any]:
    """Return what lm-eval returns for a task: results and samples by task."""
    library = import_module(PACKAGE)
    wrapper = import_module(f"{PACKAGE}.models.huggingface").HFLM
    wrapped = wrapper(pretrained=model, tokenizer=job.tokenizer, batch_size=BATCH_SIZE)
    values = library.simple_evaluate(
        model=wrapped, tasks=[task], log_samples=True, bootstrap_iters=0, verbosity="ERROR"
    )
    return {"results": values["results"], "samples": values.get("samples") or {}}


def _metric(values: dict[str, Any]) -> tuple[str | None, float | None]:
    """Return name and value of the first known metric; its filter stands behind a comma."""
    plain = {
        key.partition(",")[0]: value
        for key, value in reversed(values.items())
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    name = next((name for name in METRICS if name in plain), None)
    return name, None if name is None else float(plain[name])


def _interval(found: dict[str, dict[str, Any]], task: str, metric: str) -> list[float] | None:
    if BASE not in found:
        return None
    values = []
    for name in (BASE, TUNED):
        samples = found[name]["samples"].get(task, [])
        values.append({sample["doc_id"]: sample.get(metric) for sample in samples})
    shared = [key for key in values[0] if isinstance(values[1].get(key), int | float)]
    pairs = [(values[0][key], values[1][key]) for key in shared]
    if not pairs or not all(isinstance(base, int | float) for base, _tuned in pairs):
        return None
    direction: Direction = "lower" if metric in _LOWER else "higher"
    base, tuned = zip(*pairs, strict=True)
    is_share = all(0 <= value <= 1 for pair in pairs for value in pair)
    return compare(
        base, tuned, direction=direction, worth_having=WORTH_HAVING, bounded=is_share
    ).interval
