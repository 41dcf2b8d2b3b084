"""Training rows to look at: contradicting ones, and those that loss sets apart."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import numpy as np

from modelforge.data.canonical.convert import Canonical
from modelforge.data.sources.load import iterate_rows
from modelforge.evaluate.job import Job
from modelforge.modeling.held_out import NumberedRow, RunRows
from modelforge.runs.row_losses import RowLosses, read_row_losses

# Rows of each kind in the report.
MOST = 20
# A row was never learned if its loss fell by less than this share of it, and is at least so many
# times the usual one after training.
FELL, TIMES = 0.2, 2.0
# A row dominates if it has at least this share of the gradient, and so many times the usual one.
SHARE, TIMES_SHARE = 0.01, 5.0
# Wrong answers are among the rows with the highest mean loss: this share of all, so many at most.
HIGHEST, MOST_HIGHEST = 0.1, 10
_CHARS = 200


def find_rows(job: Job, rows: RunRows) -> list[dict[str, Any]]:
    """Return the rows to look at as entries of the report, the most important of a kind first."""
    entries = [_contradicting(group) for group in rows.contradicting[:MOST]]
    losses = read_row_losses(job.run)
    if losses is None:
        return entries
    never, dominating = never_learned(losses), dominating_rows(losses)
    highest = highest_losses(losses, {*never, *dominating})
    texts = _rows_of(job, [int(losses.rows[at]) for at in (*never, *dominating, *highest)])
    average = _mean(losses.before), _mean(losses.after)
    entries += [_never_learned(losses, at, texts, average) for at in never]
    entries += [_dominating(losses, at, texts) for at in dominating]
    return entries + [_highest(losses, at, texts) for at in highest]


def never_learned(losses: RowLosses) -> list[int]:
    """Return positions in `losses` of rows whose loss stayed high, the highest first.

    Rows that were seen in one epoch only have no loss after training, and are not among them.
    """
    seen = np.isfinite(losses.after)
    if not seen.any():
        return []
    usual = float(np.median(losses.after[seen]))
    with np.errstate(invalid="ignore"):
        stayed = losses.before - losses.after < FELL * losses.before
        is_high = losses.after >= TIMES * usual
    found = np.flatnonzero(seen & stayed & is_high)
    return [int(at) for at in found[np.argsort(-losses.after[found])][:MOST]]


def dominating_rows(losses: RowLosses) -> list[int]:
    """Return positions in `losses` of rows with an outstanding share of the gradient."""
    least = max(SHARE, TIMES_SHARE * float(np.median(losses.share)))
    found = np.flatnonzero(losses.share >= least)
    return [int(at) for at in found[np.argsort(-losses.share[found])][:MOST]]


def highest_losses(losses: RowLosses, known: Container[int] = ()) -> list[int]:
    """Return positions in `losses` of the rows with the highest mean loss over all epochs.

    A model learns wrong rows too, by heart and late: their mean loss tells more than the last one.
    """
    count = min(MOST_HIGHEST, round(HIGHEST * len(losses.rows)))
    order = [int(at) for at in np.argsort(-losses.mean) if int(at) not in known]
    return order[:count]


def _never_learned(
    losses: RowLosses, at: int, texts: dict[int, Canonical], average: tuple[float, float]
) -> dict[str, Any]:
    before, after = float(losses.before[at]), float(losses.after[at])
    detail = (
        f"its loss went from {before:.1f} to {after:.1f}; the average row went from "
        f"{average[0]:.1f} to {average[1]:.1f}"
    )
    entry = _entry("never-learned", losses, at, texts)
    return entry | {"detail": detail, "loss": {"before": before, "after": after}}


def _dominating(losses: RowLosses, at: int, texts: dict[int, Canonical]) -> dict[str, Any]:
    share = f"{losses.share[at]:.1%}".replace("%", " %")
    detail = f"one row of {len(losses.rows):,}, but {share} of the change to the model"
    return _entry("dominating", losses, at, texts) | {"detail": detail, "loss": None}


def _highest(losses: RowLosses, at: int, texts: dict[int, Canonical]) -> dict[str, Any]:
    index = int(losses.rows[at])
    answer = _short(_answer(texts[index]), 80) if index in texts else ""
    loss = f"mean loss {losses.mean[at]:.1f}; the average row {_mean(losses.mean):.1f}"
    detail = f"answer “{answer}” · {loss} · is it right?" if answer else loss
    return _entry("highest-loss", losses, at, texts) | {"detail": detail, "loss": None}


def _entry(kind: str, losses: RowLosses, at: int, texts: dict[int, Canonical]) -> dict[str, Any]:
    index = int(losses.rows[at])
    text = f"“{_short(_question(texts[index]))}”" if index in texts else ""
    return {"kind": kind, "lines": [index + 1], "text": text}


def _rows_of(job: Job, indices: Iterable[int]) -> dict[int, Canonical]:
    """Return rows of the run by their index from 0."""
    wanted, record = set(indices), job.run_record["dataset"]
    rows = enumerate(iterate_rows(record, job.config.trainer.seed))
    return {index: row for index, (_source, row) in rows if index in wanted} if wanted else {}


def _mean(values: Any) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def _contradicting(group: list[NumberedRow]) -> dict[str, Any]:
    answers = [_answer(numbered.row) for numbered in group]
    shown = [_short(answer, 60) for answer in answers[:3]]
    more = f" and {len(answers) - 3} more" if len(answers) > 3 else ""
    listed = " and ".join([", ".join(shown[:-1]), shown[-1]]) if not more else ", ".join(shown)
    count = "two" if len(answers) == 2 else str(len(answers))
    return {
        "kind": "contradicting",
        "lines": [numbered.number for numbered in group],
        "text": f"Same question, {count} answers: {listed}{more}.",
        "detail": f"“{_short(_question(group[0].row))}” · the model can learn only one of them",
        "loss": None,
    }


def _question(row: Canonical) -> str:
    if "text" in row:
        return str(row["text"])
    messages = row.get("messages") or row.get("prompt") or []
    asked = [message for message in messages if message["role"] == "user"]
    return str(asked[-1]["content"]) if asked else ""


def _answer(row: Canonical) -> str:
    messages = row.get("messages", [])
    return str(messages[-1]["content"]) if messages else ""


def _short(text: str, size: int = _CHARS) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[: size - 1].rstrip()}…"
