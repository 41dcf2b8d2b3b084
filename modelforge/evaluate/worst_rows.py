"""Training rows to look at: those that contradict others, and those that loss sets apart."""

from __future__ import annotations

from typing import Any

from modelforge.data.canonical.convert import Canonical
from modelforge.modeling.held_out import NumberedRow, RunRows

# Rows of each kind in the report.
MOST = 20
SHOWN_CHARS = 200


def find(rows: RunRows) -> list[dict[str, Any]]:
    """Return the rows to look at as entries of the report, the most important of a kind first."""
    return [_contradicting(group) for group in rows.contradicting[:MOST]]


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
    messages = row.get("messages", [])
    return str(messages[-2]["content"]) if len(messages) > 1 else ""


def _answer(row: Canonical) -> str:
    messages = row.get("messages", [])
    return str(messages[-1]["content"]) if messages else ""


def _short(text: str, size: int = SHOWN_CHARS) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[: size - 1].rstrip()}…"
