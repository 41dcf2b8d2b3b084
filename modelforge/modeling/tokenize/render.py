"""Render conversations with the chat template, and find their answers in the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelforge.data.chat_templates import fold_system
from modelforge.modeling.tokenize.template import (
    END_WITHIN,
    TEMPLATE_ERRORS,
    ChatTemplate,
    Message,
)


class AnswerSpan(NamedTuple):
    """The characters of one answer in the rendered text.

    `needs_end` is True where the template writes no end token; `message` is the message's index.
    """

    start: int
    end: int
    needs_end: bool
    message: int


@dataclass
class RenderedChat:
    """A conversation as rendered by the chat template; empty text if the template refused it.

    `answers` are the indices of all assistant messages, `spans` the answers found in the text. The
    template changed the text of `rewritten` answers; `unmatched` ones were not found. Answers with
    the weight 0 are `untrained`. `messages` are those that were rendered.
    """

    text: str = ""
    spans: list[AnswerSpan] = field(default_factory=list)
    rewritten: int = 0
    unmatched: int = 0
    answers: list[int] = field(default_factory=list)
    untrained: frozenset[int] = frozenset()
    messages: list[Message] = field(default_factory=list)


def render_chat(messages: list[Message], template: ChatTemplate, tools: Any = None) -> RenderedChat:
    """Render a conversation; if the template refuses the system role, fold it into the question."""
    messages = with_system_prompt(messages, template.system_prompt)
    folded = fold_system(messages)
    for candidate in [messages] if folded == messages else [messages, folded]:
        try:
            return _render_with_spans(candidate, tools, template)
        except TEMPLATE_ERRORS:
            continue
    return RenderedChat()


def render_prompt(messages: list[Message], template: ChatTemplate, tools: Any = None) -> str:
    """Return the conversation with the generation prompt, or "" if the template refuses it."""
    messages = with_system_prompt(messages, template.system_prompt)
    for candidate in (messages, fold_system(messages)):
        try:
            return template.render(candidate, tools, prompt=True)
        except TEMPLATE_ERRORS:
            continue
    return ""


def with_system_prompt(messages: list[Message], system_prompt: str | None) -> list[Message]:
    """Return the conversation with `system_prompt` as its system message, if there is one."""
    if system_prompt is None:
        return messages
    has_system = bool(messages) and messages[0]["role"] == "system"
    rest = messages[1:] if has_system else messages
    return [{"role": "system", "content": system_prompt}, *rest]


def _render_with_spans(messages: list[Message], tools: Any, template: ChatTemplate) -> RenderedChat:
    """Render the conversation and locate its answers.

    The text after the prompt of an answer is the answer. Some templates render history differently
    (Qwen3 drops earlier thoughts, DeepSeek opens one); there the answer is searched behind the
    common part of both texts.
    """
    chat = RenderedChat(template.render(messages, tools), messages=messages)
    is_zero = (message.get("weight") == 0 for message in messages)
    chat.untrained = frozenset(index for index, zero in enumerate(is_zero) if zero)
    position = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        chat.answers.append(index)
        prompt = template.render(messages[:index], tools, prompt=True) if index else ""
        has_calls = bool(message.get("tool_calls"))
        span = None
        if not has_calls:
            content = message["content"].strip()
            span = _find_verbatim(chat.text, content, prompt, position, template)
        if span is None:
            span = _find_after_prompt(messages, index, tools, prompt, chat.text, template)
            chat.rewritten += span is not None and not has_calls
        if span is None:
            chat.unmatched += 1
            continue
        position = span[1]
        chat.spans.append(AnswerSpan(*span, index))
    return chat


# Start, end, and whether the end token is missing.
_Span = tuple[int, int, bool]


def _find_verbatim(
    text: str, content: str, prompt: str, position: int, template: ChatTemplate
) -> _Span | None:
    """Find the unchanged content, with what the template writes between prompt and content."""
    start = len(prompt) if text.startswith(prompt) else _common_prefix(text, prompt)
    found = text.find(content, max(position, start))
    if found < 0:
        return None
    if not prompt or start < len(prompt):
        start = found
    end = found + len(content)
    closing = text.find(template.end_text, end) if template.end_text else -1
    if 0 <= closing <= end + END_WITHIN:
        return start, closing + len(template.end_text), False
    return start, end, True


def _find_after_prompt(
    messages: list[Message],
    index: int,
    tools: Any,
    prompt: str,
    text: str,
    template: ChatTemplate,
) -> _Span | None:
    """Take all text that the template writes from the prompt to the end of the message."""
    calls = messages[index].get("tool_calls")
    if not prompt or not text.startswith(prompt) or (calls and not template.supports_tool_calls):
        return None
    start = len(prompt)
    until_answer = template.render(messages[: index + 1], tools)
    is_prefix = text.startswith(until_answer)
    stop = len(until_answer) if is_prefix else len(text)
    closing = text.find(template.end_text, start, stop) if template.end_text else -1
    if closing >= start:
        is_empty = closing == start
        return None if is_empty else (start, closing + len(template.end_text), False)
    end = start + len(text[start:stop].rstrip())
    return (start, end, True) if is_prefix and end > start else None


def _common_prefix(first: str, second: str) -> int:
    """Return the length of the common prefix."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))
