"""A conversation as text, and where its answers stand in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelforge.modeling.tokenize.template import END_WITHIN, TEMPLATE_ERRORS, ChatTemplate, Message


class AnswerSpan(NamedTuple):
    """Where the answer of one turn stands, and whether its end token must be put behind it."""

    start: int
    end: int
    is_open: bool
    turn: int


@dataclass
class RenderedChat:
    """A conversation as the template writes it.

    `rewritten` answers stand there in other words than in the row; `lost` ones cannot be told
    from the rest. `answers` are the numbers of all turns that answer. Without text the template
    has refused the row.
    """

    text: str = ""
    spans: list[AnswerSpan] = field(default_factory=list)
    rewritten: int = 0
    lost: int = 0
    answers: list[int] = field(default_factory=list)


def render_chat(messages: list[Message], dialect: ChatTemplate, tools: Any = None) -> RenderedChat:
    """Return the conversation as text; a strict template gets the system text in the question."""
    messages = with_system_prompt(messages, dialect.system_prompt)
    try:
        return _spans(messages, tools, dialect)
    except TEMPLATE_ERRORS:
        folded = fold_system(messages)
        if folded == messages:
            return RenderedChat()
    try:
        return _spans(folded, tools, dialect)
    except TEMPLATE_ERRORS:
        return RenderedChat()


def render_prompt(messages: list[Message], dialect: ChatTemplate, tools: Any = None) -> str:
    """Return the conversation as text up to where its answer begins, or "" if it is refused."""
    messages = with_system_prompt(messages, dialect.system_prompt)
    for tried in (messages, fold_system(messages)):
        try:
            return dialect.render(tried, tools, prompt=True)
        except TEMPLATE_ERRORS:
            continue
    return ""


def with_system_prompt(messages: list[Message], system_prompt: str | None) -> list[Message]:
    """Return the conversation with the system message that was asked for, if any was."""
    if system_prompt is None:
        return messages
    rest = messages[1:] if messages and messages[0]["role"] == "system" else messages
    return [{"role": "system", "content": system_prompt}, *rest]


def _spans(messages: list[Message], tools: Any, dialect: ChatTemplate) -> RenderedChat:
    """Return the whole conversation as text, and where its answers stand.

    Asks the template for the prompt before every answer: what follows it is the answer. Where a
    template writes history otherwise than the present (Qwen3 drops old thoughts, DeepSeek opens
    one), the answer is looked for behind what both have in common.
    """
    written = RenderedChat(dialect.render(messages, tools))
    place = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        written.answers.append(index)
        prompt = dialect.render(messages[:index], tools, prompt=True) if index else ""
        span = None
        if not message.get("tool_calls"):
            span = _verbatim(written.text, message["content"].strip(), prompt, place, dialect)
        if span is None and (span := _between(messages, index, tools, prompt, written, dialect)):
            written.rewritten += not message.get("tool_calls")
        if span is None:
            written.lost += 1
            continue
        place = span[1]
        written.spans.append(AnswerSpan(*span, index))
    return written


_Found = tuple[int, int, bool]


def _verbatim(
    whole: str, content: str, prompt: str, place: int, dialect: ChatTemplate
) -> _Found | None:
    """Return where the answer stands word for word, with what the template puts before it."""
    start = len(prompt) if whole.startswith(prompt) else _shared(whole, prompt)
    at = whole.find(content, max(place, start))
    if at < 0:
        return None
    if not prompt or start < len(prompt):
        start = at
    end = at + len(content)
    closing = whole.find(dialect.end_text, end) if dialect.end_text else -1
    closed = 0 <= closing <= end + END_WITHIN
    return start, closing + len(dialect.end_text) if closed else end, not closed


def _between(
    messages: list[Message],
    index: int,
    tools: Any,
    prompt: str,
    written: RenderedChat,
    dialect: ChatTemplate,
) -> _Found | None:
    """Return what the template writes from the prompt to the end of the turn, whatever it is."""
    whole = written.text
    calls = messages[index].get("tool_calls")
    if not prompt or not whole.startswith(prompt) or (calls and not dialect.supports_tool_calls):
        return None
    start = len(prompt)
    turn = dialect.render(messages[: index + 1], tools)
    ends_alike = whole.startswith(turn)
    stop = len(turn) if ends_alike else len(whole)
    closing = whole.find(dialect.end_text, start, stop) if dialect.end_text else -1
    if closing > start:
        return start, closing + len(dialect.end_text), False
    end = start + len(whole[start:stop].rstrip())
    return (start, end, True) if ends_alike and end > start else None


def _shared(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def fold_system(messages: list[Message]) -> list[Message]:
    """Return the conversation with its system text in the first question, for strict templates."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    first = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{"role": "user", "content": first}, *messages[2:]]
