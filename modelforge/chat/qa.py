"""Extractive question answering: find the answer to a question in a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from modelforge.chat.requests import ChatRequest
from modelforge.data.canonical.qa_windows import QaAnswer, Window, best_answer, split_into_windows
from modelforge.errors import Problem, RunError

NO_ANSWER = "No answer in the text."
# Usual context length of encoders; a longer context is read in windows.
MAX_LENGTH = 512
BATCH_SIZE = 8


def find_answer(model: Any, tokenizer: Any, request: ChatRequest) -> QaAnswer:
    """Return the answer to the last question and its position in the context.

    The context is the system message or, without one, the first user message.

    Raises:
        RunError: Context or question is missing, or the question fills the whole window.
    """
    context, question = _context_and_question(request.messages)
    limit = min(MAX_LENGTH, getattr(model.config, "max_position_embeddings", None) or MAX_LENGTH)
    windows = split_into_windows(question, context, tokenizer, limit)
    if not windows:
        what = f"The question leaves no tokens for the text within {limit} tokens."
        raise RunError(Problem("question", what, "Ask a shorter question."))
    starts: list[list[float]] = []
    ends: list[list[float]] = []
    for at in range(0, len(windows), BATCH_SIZE):
        if request.stop.is_set():
            break
        batch = _batch(windows[at : at + BATCH_SIZE], tokenizer, model.device)
        with torch.no_grad():
            output = model(**batch)
        starts += output.start_logits.float().tolist()
        ends += output.end_logits.float().tolist()
    return best_answer(context, windows[: len(starts)], starts, ends)


def _context_and_question(messages: Sequence[dict[str, str]]) -> tuple[str, str]:
    system = [each["content"] for each in messages if each["role"] == "system"]
    user = [each["content"] for each in messages if each["role"] == "user"]
    texts = [*system[:1], *user]
    if len(texts) < 2 or not user or not texts[0].strip() or not user[-1].strip():
        raise RunError(
            Problem(
                "messages",
                "This model finds answers in a text, and needs the text and a question.",
                "Send the text as the system message and the question as the user's message.",
            )
        )
    return texts[0], user[-1]


def _batch(windows: Sequence[Window], tokenizer: Any, device: Any) -> dict[str, Any]:
    """Return the windows padded on the right; every tensor is (batch, seq) int64."""
    columns = {
        "input_ids": ([window.input_ids for window in windows], tokenizer.pad_token_id or 0),
        "attention_mask": ([[1] * len(window.input_ids) for window in windows], 0),
    }
    if windows[0].token_type_ids:
        columns["token_type_ids"] = ([window.token_type_ids for window in windows], 0)
    return {
        name: pad_sequence(list(map(torch.tensor, rows)), batch_first=True, padding_value=fill).to(
            device
        )
        for name, (rows, fill) in columns.items()
    }
