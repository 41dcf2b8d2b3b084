"""Write `report.json` from what has been measured so far; docs/evaluation.md describes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelforge.data.sources.load import truncate
from modelforge.evaluate.cases import messages_of
from modelforge.evaluate.contestants import BASE, PROMPTED, TUNED
from modelforge.evaluate.exchange import Learned, decide_learning
from modelforge.evaluate.job import Job
from modelforge.evaluate.measure import Results
from modelforge.evaluate.metrics import Measured, perplexity_of
from modelforge.evaluate.task_metrics import task_metrics, tool_call_entry
from modelforge.evaluate.verdict import against_prompt_entry, need_entry, verdict_entry
from modelforge.runs.atomic_files import write_json

FORMAT = 1
MAX_EXAMPLES = 50
# Rows are as good where they differ by less.
_EQUAL = 1e-6
_NAMES = (BASE, PROMPTED, TUNED)


def write_report(job: Job, results: Results, began: float) -> None:
    """Write the report; `began` is a `time.monotonic()` value."""
    results.seconds = round(time.monotonic() - began, 1)
    write_json(job.folder.report, make_report(job, results))


def make_report(job: Job, results: Results) -> dict[str, Any]:
    """Return the report; what is not measured is null or an empty list."""
    metrics = task_metrics(job, results)
    main = metrics[0] if metrics else None
    learned = _learned(results)
    shots = len(results.prompted.shots) if results.prompted else 0
    return {
        "format_version": FORMAT,
        "run": job.run.id,
        "run_name": job.record.run_name,
        "created": job.record.created,
        "seconds": results.seconds,
        "verdict": verdict_entry(main, learned, shots),
        "need": need_entry(main, results.prompted, _prompt_text(job, results)),
        "learned": learned and learned.as_dict(),
        "metrics": _metric_entries(metrics),
        "against_prompt": against_prompt_entry(main),
        "forgetting": results.parts.get("forgetting"),
        "rows": results.parts.get("rows", []),
        "examples": _examples(results, metrics),
        "tool_calls": tool_call_entry(results),
        "tasks": results.parts.get("tasks", []),
        "notes": list(dict.fromkeys(results.notes)),
        "facts": _facts(job, results, shots),
    }


def _metric_entries(metrics: Sequence[Measured]) -> list[dict[str, Any]]:
    entries = []
    for measured in metrics:
        entries.append(measured.entry())
        if measured.metric.name == "loss":
            entries.append(perplexity_of(measured))
    return entries


def _learned(results: Results) -> Learned | None:
    if not results.blocks:
        return None
    return decide_learning(results.blocks, results.exchanged[BASE], results.exchanged[TUNED])


def _examples(results: Results, metrics: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return evaluation rows with the answers of the contestants, the largest differences first."""
    texts = results.texts
    if TUNED not in texts:
        return []
    of_texts = [each for each in metrics if each.metric.name not in ("loss", "reward_margin")]
    others = [each for each in metrics if each not in of_texts]
    gains = [gain for each in (*of_texts, *others) if (gain := _gain(each)) is not None]
    rows = []
    for index, case in enumerate(results.cases):
        if texts[TUNED][index] is None:
            continue
        # The first metric on which the row differs.
        gain = next((float(each[index]) for each in gains if abs(each[index]) > _EQUAL), 0.0)
        answers = {name: texts[name][index] if name in texts else None for name in _NAMES}
        outcome = "better" if gain > 0 else "worse" if gain < 0 else "equal"
        row = {"prompt": case.question, "expected": case.expected, **answers, "outcome": outcome}
        rows.append((abs(gain), row))
    rows.sort(key=lambda pair: -pair[0])
    return [truncate(row) for _size, row in rows[:MAX_EXAMPLES]]


def _gain(measured: Measured) -> Any:
    """Return by how much each row is better, as an array of shape (rows,); None without a base."""
    if BASE not in measured.values or TUNED not in measured.values:
        return None
    sign = 1 if measured.metric.direction == "higher" else -1
    return np.nan_to_num(sign * (measured.values[TUNED] - measured.values[BASE]))


def _prompt_text(job: Job, results: Results) -> str:
    """Return the examples as text that a person can put in front of a question."""
    if results.prompted is None:
        return ""
    blocks = []
    for shot in results.prompted.shots:
        if "text" in shot:
            blocks.append(str(shot["text"]))
            continue
        messages = messages_of(shot)
        names = {"user": "Question", "assistant": "Answer"}
        lines = [
            f"{names.get(message['role'], message['role'].capitalize())}: {message['content']}"
            for message in messages
            if message.get("content")
        ]
        blocks.append("\n".join(lines))
    system = job.config.model.system_prompt or ""
    return "\n\n".join([*([system] if system.strip() else []), *blocks])


def _facts(job: Job, results: Results, shots: int) -> dict[str, Any]:
    rows = results.rows
    return {
        "evaluation_rows": rows.evaluation_count,
        "rows_used": len(results.cases),
        "never_trained_on": results.parts.get("never_trained_on"),
        "examples": shots,
        "decoding": "greedy",
        "longest_answer": results.longest_answer,
        "device": job.device,
        "seed": job.request.seed,
    }
