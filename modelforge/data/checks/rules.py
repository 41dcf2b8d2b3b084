"""The data checks: level, message, remedy, repair and detector of every finding about rows."""

from __future__ import annotations

from typing import NamedTuple

from modelforge.data.formats.tree_nodes import MAX_DEPTH
from modelforge.errors import Level

DROP = "Remove these rows."


class DataRule(NamedTuple):
    """One data check.

    Args:
        message: what the rows have, with the placeholders {has}, {are} and {s} for the number.
        remedy: what the user can do.
        repair: what repairing does; None if it does nothing.
        skips: whether training skips the row.
        cause: the code of the broader rule that the dataset summary counts it under.
    """

    level: Level
    message: str
    remedy: str
    repair: str | None = None
    skips: bool = False
    cause: str = ""

    def sentence(self, count: int) -> str:
        """Return the message for `count` rows, without a full stop."""
        one = count == 1
        verbs = {"has": "has" if one else "have", "are": "is" if one else "are"}
        text = self.message.format(**verbs, s="s" if one else "")
        return f"{count:,} {'row' if one else 'rows'} {text}"


def _skipped(message: str, remedy: str, repair: str = DROP, *, cause: str = "") -> DataRule:
    text = f"{{has}} {message} and {{are}} skipped"
    return DataRule("caution", text, remedy, repair, skips=True, cause=cause)


def _caution(message: str, remedy: str, repair: str | None = None) -> DataRule:
    return DataRule("caution", f"{{has}} {message}", remedy, repair)


def _note(message: str, remedy: str, repair: str | None = None) -> DataRule:
    return DataRule("note", f"{{has}} {message}", remedy, repair)


RULES: dict[str, DataRule] = {
    # Rows that cannot be converted to an example.
    "empty-answer": _skipped("an empty completion", "Fill it in, or remove these rows."),
    "empty-question": _skipped("an empty prompt", "Fill it in, or remove these rows."),
    "empty-text": _skipped("an empty text", "Fill it in, or remove these rows."),
    "empty-context": _skipped("an empty context", "Fill it in, or remove these rows."),
    "missing-field": _skipped("a missing column", "Give every row the same columns."),
    "not-text": _skipped("a value that is not text", "Use plain text in every column."),
    "bad-messages": _skipped(
        "no list of messages with role and content",
        'Write messages as [{"role": "user", "content": "…"}, …].',
    ),
    "unknown-role": _skipped(
        "a role that is not system, user, assistant or tool",
        "Name the roles system, user, assistant and tool.",
    ),
    "no-assistant-message": _skipped(
        "no assistant message", "End every conversation with an assistant message."
    ),
    "all-untrained": _skipped(
        "no answer that is trained, because all have the weight 0",
        "Give at least one assistant message the weight 1.",
    ),
    "bad-weight": _skipped(
        "a weight of an answer that is not a number from 0 to 1",
        "Write 0 for an answer that is only read, and 1 for one that is trained.",
    ),
    "list-column": _skipped(
        "a list of texts where one text is expected",
        "Write one text. If the list holds a chosen and a rejected completion, set the row type "
        "to preference.",
    ),
    "bad-tool-call": _skipped(
        "a tool call without a name, or with arguments that are not a JSON object",
        'Write a call as {"name": "…", "arguments": {…}}.',
    ),
    "bad-tools": _skipped(
        "tools that are not a list of named functions",
        'Write tools as [{"name": "…", "parameters": {…}}].',
    ),
    "bad-segments": _skipped(
        "no list of segments with text and label",
        'Write segments as [{"label": true, "text": "…"}, …], with true for trained text.',
    ),
    "no-trained-segment": _skipped(
        "no segment that is trained, because no label is true",
        "Give at least one segment the label true.",
    ),
    "missing-chosen": _skipped("no chosen completion", "Fill in the chosen column."),
    "missing-rejected": _skipped("no rejected completion", "Fill in the rejected column."),
    "empty-chosen": _skipped("an empty chosen completion", "Fill it in, or remove these rows."),
    "empty-rejected": _skipped("an empty rejected completion", "Fill it in, or remove these rows."),
    "identical-answers": _skipped(
        "identical chosen and rejected completions",
        "Remove these rows; they express no preference.",
    ),
    "no-prompt": _skipped(
        "no prompt shared by both completions",
        "Add a prompt column, or begin both conversations with the same messages.",
    ),
    "bad-label": _skipped("a label that is neither true nor false", "Write true or false."),
    "bad-answers": _skipped(
        "answers without a text",
        'Write answers as {"text": ["…"], "answer_start": [0]}, or as text.',
    ),
    "answer-not-in-context": _skipped(
        "an answer that does not occur in its context",
        "Copy the answers from the context character by character.",
    ),
    "missing-content": _skipped(
        "a message without content", "Give every message a content.", cause="bad-messages"
    ),
    "null-content": _skipped(
        "a message whose content is null",
        "Write the text, or remove the message.",
        "Remove the messages, and rows left without a completion.",
        cause="empty-answer",
    ),
    "image-content": _skipped(
        "an image or sound, which a text model cannot read,",
        "Keep the text parts only.",
        "Keep the text parts of the messages.",
        cause="not-text",
    ),
    "nested-column": _skipped(
        "an object where text is expected",
        "Write the text itself into the column.",
        "Write the object as JSON text.",
        cause="not-text",
    ),
    "mixed-schemas": _skipped(
        "none of the columns that are read",
        "Give every row the same columns, or move the other rows to a separate file.",
        cause="missing-field",
    ),
    # Messages of a tree that belong to no conversation.
    "orphan-message": _skipped(
        "a message below a parent_id that is not in the file",
        "Add the messages with these ids, or remove the replies to them.",
    ),
    "message-cycle": _skipped(
        "a message that answers itself, directly or through others",
        "Correct parent_id, so that every message leads to one without parent.",
    ),
    "deep-message": _skipped(
        f"a message after more than {MAX_DEPTH:,} others",
        "Divide the conversation into several.",
    ),
    "duplicate-message": _skipped(
        "the message_id of an earlier message", "Give every message its own message_id."
    ),
    "deleted-message": _skipped(
        "a message marked as deleted or rejected, or a reply to one,",
        "Nothing needs to be done; remove the mark to use them.",
    ),
    # The order of the messages.
    "several-system-messages": _caution(
        "several system messages", "Keep one, at the start.", "Join them at the start."
    ),
    "system-message-not-first": _caution(
        "a system message after the start", "Put it first.", "Move it to the start."
    ),
    "assistant-message-first": _caution(
        "a conversation that begins with the assistant",
        "Begin with the user; many chat templates reject it otherwise.",
        "Remove the first messages of the assistant.",
    ),
    "consecutive-user-messages": _caution(
        "two user messages in a row",
        "Join them, or add the assistant message between them.",
        "Join the messages.",
    ),
    "consecutive-assistant-messages": _caution(
        "two assistant messages in a row", "Join them.", "Join the messages."
    ),
    "ends-without-answer": _note(
        "a conversation that does not end with the assistant",
        "The last message is not trained on.",
        "Remove the last messages.",
    ),
    "tool-call-without-result": _caution(
        "a tool call without a result", "Add the tool message after the call.", DROP
    ),
    "tool-result-without-call": _caution(
        "a tool result without a call", "Add the call, or remove the result.", DROP
    ),
    # The contents.
    "empty-message": _caution(
        "an empty user or tool message", "Fill it in, or remove it.", "Remove the empty messages."
    ),
    "near-empty-answer": _caution(
        "a completion without information, such as “-” or “n/a”",
        "Fill it in, or remove these rows.",
        DROP,
    ),
    "answer-is-question": _caution(
        "a completion equal to its prompt",
        "The model would learn to repeat; remove these rows unless that is intended.",
        DROP,
    ),
    "untrained-answers": _note(
        "an answer with the weight 0", "It is read as context and not trained."
    ),
    "fractional-weight": _caution(
        "an answer with a weight other than 0 and 1",
        "It is trained like the others unless data.message_weights is on, which multiplies its "
        "loss by the weight.",
    ),
    "reasoning": _caution(
        "reasoning beside the answer (reasoning_content)",
        "It is trained only if the chat template writes it, and left out otherwise; the token "
        "view shows it. To train it with any template, write it into the content.",
    ),
    "end-token-in-answer": _caution(
        "an end token such as <|im_end|> at the end of an answer",
        "The chat template adds one, so that two would be learned.",
        "Remove it.",
    ),
    "special-tokens": _caution(
        "special tokens such as <|im_start|> in a text",
        "They are read as the beginning or end of a message; remove or rewrite them.",
    ),
    "template-in-text": _note(
        "the special tokens of a chat template",
        "They are trained as written, without the model's own template; give conversations "
        "instead if the model has another template.",
    ),
    "placeholder": _caution(
        "a placeholder such as {{{{name}}}} or [Your Name] in an answer",
        "The model would learn to write it; fill it in, unless that is intended.",
    ),
    "list-as-text": _caution(
        "a list written as text, such as ['…'], as its answer",
        "Write the text itself; brackets and quotation marks would be learned.",
        "Keep the text of a list with one item.",
    ),
    "control-characters": _caution(
        "invisible control characters", "Remove them.", "Replace them by line breaks and blanks."
    ),
    "replaced-characters": _caution(
        "the replacement character � where a character was lost",
        "Export the text again in its own encoding.",
    ),
    "html": _note(
        "HTML markup",
        "Remove the tags, unless the model should write HTML.",
        "Remove the tags and decode entities such as &amp;.",
    ),
    "e-mail": _note(
        "an e-mail address",
        "A model can reveal its training data; mask the address unless it is public.",
        "Replace it by [e-mail].",
    ),
    "phone-number": _note(
        "a possible telephone number",
        "A model can reveal its training data; mask the number unless it is public.",
        "Replace it by [phone].",
    ),
    "secret-key": _caution(
        "a possible secret key",
        "Remove and revoke the key; a model can reveal its training data.",
        "Replace it by [key].",
    ),
    "too-long": _caution(
        "more text than the maximum sequence length",
        "They are truncated; raise max_seq_length, or split them.",
    ),
    "answer-truncated": _caution(
        "a prompt so long that the completion is truncated",
        "Raise max_seq_length, or shorten the prompts.",
    ),
    "numbers-as-text": _note("a number where text is expected", "It is read as text."),
    "inexact-number": _caution(
        "a number with more digits than can be read exactly", "Write it as text, in quotes."
    ),
    # Preference pairs.
    "prompt-inside-chosen": _caution(
        "the prompt repeated in the chosen completion",
        "Give the completions without the prompt.",
        "Remove the prompt from the start of both completions.",
    ),
    "mixed-prompts": _caution(
        "a prompt in another form than the rows before: some use a column, some do not",
        "Give the prompt in the same form in every row.",
    ),
    "scores-reversed": _caution(
        "a chosen completion with the lower score",
        "Swap the completions, or check the meaning of the scores.",
        "Swap both completions and their scores.",
    ),
    "score-not-number": _note("a score that is not a number", "Write scores as numbers."),
    # The shape of the file.
    "duplicate-rows": DataRule(
        "caution",
        "repeat{s} an earlier one",
        "Remove duplicates unless they should weigh more; the split keeps them on one side.",
        "Keep the first of each.",
    ),
    "other-answers": _note(
        "a question that an earlier row answers differently",
        "Fine where several answers are right; otherwise keep the best answer of each question.",
    ),
    "leaked-rows": DataRule(
        "caution",
        "{are} in the evaluation data as well",
        "The evaluation looks better than it is; remove them from one side.",
    ),
    "duplicate-key": _caution(
        "a name twice in one object; only the last is read",
        "Give every field its own name.",
        "Keep the last of each.",
    ),
    "deep-nesting": _caution(
        "lists or objects nested more than 64 deep",
        "Write the text itself, without objects inside objects.",
    ),
    "many-columns": _caution(
        "more than 1,000 columns",
        "Keep the columns that are read.",
        "Keep only the columns that are read.",
    ),
    "repeated-header": _caution(
        "the names of the columns as their values, as where files were joined",
        "Remove these rows; they are no examples.",
        DROP,
    ),
    "formula-cells": _note(
        "a cell that a spreadsheet would run as a formula",
        "It is kept as text; be careful when opening the file in a spreadsheet.",
    ),
    "line-breaks-in-cells": _note("a line break inside a cell", "It is kept as it is."),
    "mixed-types": _note("numbers and text in one column", "All cells are read as text."),
}
