"""Every ailment of a data set by its code: how bad it is, what it is, and what helps."""

from __future__ import annotations

from typing import NamedTuple

from modelforge.errors import Level

DROP = "Leave these rows out."


class DataRule(NamedTuple):
    """What a row, or a file, may have. `repair` says what repairing does; None is nothing."""

    level: Level
    has: str
    remedy: str
    repair: str | None = None
    cause: str = ""


def _caution(has: str, remedy: str, repair: str | None = None, cause: str = "") -> DataRule:
    return DataRule("caution", has, remedy, repair, cause)


def _note(has: str, remedy: str, repair: str | None = None) -> DataRule:
    return DataRule("note", has, remedy, repair)


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


# Rows that are skipped: the codes of `causes`, and finer ones that name their cause there.
_UNUSABLE = {
    code: _caution(f"{has} and {{is}} skipped", remedy, DROP)
    for code, (has, remedy) in SKIPPED.items()
} | {
    "missing-content": _caution(
        "a message without content and {is} skipped",
        "Give every message a content.",
        DROP,
        "bad-messages",
    ),
    "null-content": _caution(
        "a message whose content is null and {is} skipped",
        "Write the text, or leave the message out.",
        "Take the messages out; rows left without an answer as well.",
        "empty-answer",
    ),
    "image-content": _caution(
        "an image or sound in a message and {is} skipped: the model reads text alone",
        "Keep the text parts, or take a model that sees.",
        "Keep the text parts of the messages.",
        "not-text",
    ),
    "nested-column": _caution(
        "an object where a text is due and {is} skipped",
        "Write the text itself into the column.",
        "Write the object as JSON text.",
        "not-text",
    ),
    "mixed-schemas": _caution(
        "other columns than those that are read and {is} skipped",
        "Give every row the same columns, or put the others into a file of their own.",
        DROP,
        "missing-field",
    ),
}
_ORDER = {
    "two-systems": _caution(
        "two system messages", "Keep one, at the start.", "Join them at the start."
    ),
    "late-system": _caution(
        "a system message behind the start", "Put it first.", "Move it to the start."
    ),
    "assistant-first": _caution(
        "a conversation that begins with the assistant",
        "Begin with the user; many chat templates refuse it otherwise.",
        "Take the first turns of the assistant out.",
    ),
    "two-users": _caution(
        "two turns of the user without an answer between",
        "Join them, or add the answer.",
        "Join the turns.",
    ),
    "two-assistants": _caution(
        "two turns of the assistant in a row", "Join them.", "Join the turns."
    ),
    "ends-without-answer": _note(
        "a conversation that ends without an answer",
        "The last turn is not learned from.",
        "Take the last turns out.",
    ),
    "tool-without-result": _caution(
        "a tool call without its result",
        "Add the turn of the tool behind the call.",
        DROP,
    ),
    "result-without-call": _caution(
        "a tool result without a call", "Add the call, or leave the result out.", DROP
    ),
    "empty-turn": _caution(
        "an empty message of the user or of a tool",
        "Fill it in, or take it out.",
        "Take the empty messages out.",
    ),
}
_TEXTS = {
    "near-empty-answer": _caution(
        "an answer that says next to nothing, such as “-” or “n/a”",
        "Fill in the answers, or remove these rows.",
        DROP,
    ),
    "answer-is-question": _caution(
        "an answer equal to its question",
        "The model would learn to repeat; remove these rows unless that is meant.",
        DROP,
    ),
    "control-characters": _caution(
        "control characters that nobody sees",
        "Take them out.",
        "Take them out.",
    ),
    "replaced-characters": _caution(
        "the mark � where a character was lost",
        "Export the text again with its own encoding.",
    ),
    "html": _note(
        "HTML left over",
        "Strip the tags, unless the model shall write HTML.",
        "Strip the tags and write &amp; and the like as characters.",
    ),
    "e-mail": _note(
        "an e-mail address",
        "A model can give away what it has learned; mask it unless it is public.",
        "Write [e-mail] instead.",
    ),
    "phone-number": _note(
        "something like a telephone number",
        "A model can give away what it has learned; mask it unless it is public.",
        "Write [phone] instead.",
    ),
    "secret-key": _caution(
        "something like a secret key",
        "Take it out and withdraw the key; whoever has the model may get it to say it.",
        "Write [key] instead.",
    ),
    "too-long": _caution(
        "more text than the longest row allowed",
        "They are cut; raise max_seq_length, or split them.",
    ),
    "answer-beyond-length": _caution(
        "a question so long that its answer is cut off",
        "Raise max_seq_length, or shorten the questions.",
    ),
    "numbers-as-text": _note("a number where a text is due", "It is read as its digits."),
}
_PREFERENCES = {
    "prompt-inside-chosen": _caution(
        "the question once more inside the better answer",
        "Give the answers without the question.",
        "Take the question off the front of both answers.",
    ),
    "mixed-prompts": _caution(
        "its question another way than the rows before: some have a column, some do not",
        "Give the question the same way in every row.",
    ),
    "scores-reversed": _caution(
        "a better answer with the lower score",
        "Swap the answers, or check what the scores mean.",
        "Swap both answers and their scores.",
    ),
    "score-is-text": _note("a score that is text", "Write scores as numbers."),
}
_SHAPE = {
    "duplicate-rows": _caution(
        "",
        "Remove them unless they should weigh more; copies never stand on both sides.",
        "Keep the first of each.",
    ),
    "leaked-rows": _caution(
        "",
        "They make the check look better than it is; remove them from one side.",
    ),
    "doubled-key": _caution(
        "a name twice in one object; only the last counts",
        "Give every field its own name.",
        "Keep the last of each.",
    ),
    "deep-nesting": _caution(
        "lists or objects more than 64 deep",
        "Write the text itself, without objects inside objects.",
    ),
    "many-columns": _caution(
        "more than 1,000 columns",
        "Keep the columns that are read.",
        "Keep only the columns that are read.",
    ),
    "formula-cells": _note(
        "a cell that a spreadsheet would run as a formula",
        "It is kept as text; open the file in a spreadsheet with care.",
    ),
    "line-breaks-in-cells": _note("a line break inside a cell", "It is kept as it is."),
    "mixed-types": _note(
        "a number in a column of text, or the other way round",
        "All cells are read as text.",
    ),
}
RULES: dict[str, DataRule] = _UNUSABLE | _ORDER | _TEXTS | _PREFERENCES | _SHAPE
