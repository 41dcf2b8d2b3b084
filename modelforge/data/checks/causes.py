"""Why a row cannot be learned from: what it has, and what to do about it, by code."""

from __future__ import annotations

SKIPPED: dict[str, tuple[str, str]] = {
    "empty-answer": ("an empty answer", "Fill in the answers, or remove these rows."),
    "empty-question": ("an empty question", "Fill in the questions, or remove these rows."),
    "empty-text": ("an empty text", "Fill in the text, or remove these rows."),
    "empty-context": ("an empty context", "Fill in the context, or remove these rows."),
    "missing-field": ("a missing column", "Give every row the same columns."),
    "not-text": ("something other than text in a column", "Use plain text in every column."),
    "bad-messages": (
        "no list of messages with role and content",
        'Write messages as [{"role": "user", "content": "…"}, …].',
    ),
    "unknown-role": (
        "a role that is not system, user, assistant or tool",
        "Name the roles system, user, assistant and tool.",
    ),
    "no-answer-turn": ("no assistant turn", "End every conversation with an assistant turn."),
    "bad-tool-call": (
        "a tool call without a name, or whose arguments are no JSON object",
        'Write a call as {"name": "…", "arguments": {…}}.',
    ),
    "bad-tools": (
        "tools that are no list of functions with a name",
        'Write tools as [{"name": "…", "parameters": {…}}].',
    ),
    "missing-chosen": ("no better answer", "Fill in the column of the better answer."),
    "missing-rejected": ("no worse answer", "Fill in the column of the worse answer."),
    "empty-chosen": ("an empty better answer", "Fill it in, or remove these rows."),
    "empty-rejected": ("an empty worse answer", "Fill it in, or remove these rows."),
    "same-answers": (
        "the same better and worse answer",
        "Remove these rows; there is nothing to prefer.",
    ),
    "no-prompt": (
        "no question that both answers belong to",
        "Give the question in a column prompt, or as the turns that both answers begin with.",
    ),
    "bad-label": ("a label that is neither true nor false", "Write true or false."),
    "bad-answers": (
        "answers without a text",
        'Write answers as {"text": ["…"], "answer_start": [0]}, or as a text.',
    ),
    "answer-not-in-context": (
        "an answer that does not stand in its context",
        "Copy the answers from the context, letter by letter.",
    ),
}
