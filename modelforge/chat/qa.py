"""Answers of a model that points: a context and a question in, the place of the answer out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from modelforge.chat.protocol import ChatRequest
from modelforge.data.canonical.qa_windows import QaAnswer, Window, best_answer, split_into_windows
from modelforge.errors import Problem, RunError

NOWHERE = "No answer in the text."
# As far as the encoders in use read at once; a longer context is read in windows.
MOST = 512
BATCH = 8


def find_answer(model: Any, tokenizer: Any, ask: ChatRequest) -> QaAnswer:
    """Return where the answer to the last question stands in the context.

    The context is the system message or, without one, the first message of the user. Raises
    RunError without both, and for a question that leaves no room for the context.
    """
    context, question = _halves(ask.messages)
    most = min(MOST, getattr(model.config, "max_position_embeddings", None) or MOST)
    windows = split_into_windows(question, context, tokenizer, most)
    if not windows:
        what = f"It leaves no room for the text within {most} tokens."
        raise RunError(Problem("question", what, "Ask a shorter question."))
    starts: list[list[float]] = []
    ends: list[list[float]] = []
    for at in range(0, len(windows), BATCH):
        if ask.stop.is_set():
            break
        batch = _batch(windows[at : at + BATCH], tokenizer, model.device)
        with torch.no_grad():
            found = model(**batch)
        starts += found.start_logits.float().tolist()
        ends += found.end_logits.float().tolist()
    return best_answer(context, windows[: len(starts)], starts, ends)


def _halves(messages: Sequence[dict[str, str]]) -> tuple[str, str]:
    system = [each["content"] for each in messages if each["role"] == "system"]
    asked = [each["content"] for each in messages if each["role"] == "user"]
    said = [*system[:1], *asked]
    if len(said) < 2 or not asked or not said[0].strip() or not asked[-1].strip():
        raise RunError(
            Problem(
                "messages",
                "This model answers from a text, and needs the text and a question.",
                "Send the text as the system message and the question as the user's.",
            )
        )
    return said[0], asked[-1]


def _batch(windows: Sequence[Window], tokenizer: Any, device: Any) -> dict[str, Any]:
    width = max(len(window.input_ids) for window in windows)
    pad = tokenizer.pad_token_id or 0
    columns = {
        "input_ids": [[*w.input_ids, *[pad] * (width - len(w.input_ids))] for w in windows],
        "attention_mask": [
            [1] * len(w.input_ids) + [0] * (width - len(w.input_ids)) for w in windows
        ],
    }
    if windows[0].token_type_ids:
        columns["token_type_ids"] = [
            [*w.token_type_ids, *[0] * (width - len(w.token_type_ids))] for w in windows
        ]
    return {name: torch.tensor(rows, device=device) for name, rows in columns.items()}
