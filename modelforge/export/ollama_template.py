"""A chat template in the template language of Go, as Ollama needs it, derived from the Jinja one.

Ollama does not read the Jinja template of a GGUF file: it compares it with templates that it knows,
and otherwise passes the bare text to the model. Go templates cannot be computed from Jinja ones in
general. But nearly all chat templates only write fixed texts between the messages, and these texts
show when conversations with known messages are rendered. Further conversations then prove that
nothing else is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jinja2

from modelforge.data.chat_templates import fold_system
from modelforge.errors import Problem, RunError

Message = dict[str, str]
Render = Callable[[Sequence[Message]], str]

_SYSTEM, _USERS, _ANSWERS = "Xsystem0X", ("Xuser1X", "Xuser2X", "Xuser3X"), ("Xreply1X", "Xreply2X")
# Messages that a template may treat otherwise than the words above: long, in lines, with code,
# markup, quotes, digits, other scripts, and something that looks like a template.
_TEXTS = (
    "Hello!",
    "First line\nsecond line\n\n- a list\n- of two",
    "Quotes: \"double\", 'single', `code`, \\ and {{ .Content }} or {% if x %}",
    "Zażółć gęślą jaźń, 你好, 😀",
    "<b>bold</b> & <think> 12,345.67",
    "word " * 400 + "end",
    "1",
)
# What is not written as it is: quotation marks, backslashes, braces, and all outside of ASCII.
_ESCAPED = re.compile(r'[^ -~]|["\\{}]')
_REMEDY = "Export a GGUF file instead: llama.cpp reads the chat template itself."


@dataclass(frozen=True)
class TurnTemplate:
    """The fixed texts of a chat template.

    Attributes:
        head: Before the first question.
        before_answer: Between a question and its answer.
        before_question: Between an answer and the next question.
        end: After the last question; it opens the answer.
        system: Around a system message. It stands before the first question, in place of `head`;
            or, with `system_is_last`, directly before the last question.
    """

    head: str
    before_answer: str
    before_question: str
    end: str
    system: tuple[str, str]
    system_is_last: bool = False

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt of a conversation that ends with a question."""
        text = next((each["content"] for each in messages if each["role"] == "system"), "")
        system = f"{self.system[0]}{text}{self.system[1]}" if text else ""
        turns = [each for each in messages if each["role"] != "system"]
        prompt = system if system and not self.system_is_last else self.head
        for place, message in enumerate(turns):
            if message["role"] == "assistant":
                prompt += self.before_answer
            elif place:
                prompt += self.before_question
            if self.system_is_last and place == len(turns) - 1:
                prompt += system
            prompt += message["content"]
        return prompt + self.end

    def without_bos(self, bos: str) -> TurnTemplate:
        """Return the template without the token that the tokenizer adds itself."""
        system = self.system
        if not self.system_is_last:
            system = (system[0].removeprefix(bos), system[1])
        return replace(self, head=self.head.removeprefix(bos), system=system)

    def as_go(self) -> str:
        """Return the template in Go's language. All texts are quoted, so no space is changed.

        An answer at the end of the conversation is continued.
        """
        values = {
            "HEAD": self.head,
            "BEFORE_ANSWER": self.before_answer,
            "BEFORE_QUESTION": self.before_question,
            "END": self.end,
            "SYSTEM_0": self.system[0],
            "SYSTEM_1": self.system[1],
        }
        source = _SYSTEM_LAST if self.system_is_last else _SYSTEM_FIRST
        return re.sub("[A-Z_]{3,}[01]?", lambda name: _go(values[name[0]]), source)


# The variable $last holds the role of the message before.
_SYSTEM_FIRST = """\
{{- $last := "" }}
{{- if .System }}SYSTEM_0{{ .System }}SYSTEM_1{{ else }}HEAD{{ end }}
{{- range .Messages }}
{{- if eq .Role "user" }}{{ if $last }}BEFORE_QUESTION{{ end }}{{ .Content }}{{ $last = .Role }}
{{- else if eq .Role "assistant" }}BEFORE_ANSWER{{ .Content }}{{ $last = .Role }}
{{- end }}
{{- end }}
{{- if ne $last "assistant" }}END{{ end }}"""
_SYSTEM_LAST = """\
{{- $last := "" }}HEAD
{{- range $place, $message := .Messages }}
{{- if eq .Role "user" }}{{ if $last }}BEFORE_QUESTION{{ end }}
{{- if and $.System (eq (len (slice $.Messages $place)) 1) }}SYSTEM_0{{ $.System }}SYSTEM_1{{ end }}
{{- .Content }}{{ $last = .Role }}
{{- else if eq .Role "assistant" }}BEFORE_ANSWER{{ .Content }}{{ $last = .Role }}
{{- end }}
{{- end }}
{{- if ne $last "assistant" }}END{{ end }}"""


def derive(render: Render) -> TurnTemplate:
    """Return the fixed texts of a chat template.

    `render` returns the prompt of a conversation, with what opens the answer.

    Raises:
        RunError: The template cannot be rendered, or writes more than fixed texts.
    """
    messages = _conversation(_USERS, _ANSWERS, _SYSTEM)
    system, turns = messages[0], messages[1:]
    parts = _split(_rendered(render, turns), turns)
    answers, questions = set(parts[1:-1:2]), set(parts[2:-1:2])
    text = _rendered(render, messages)
    is_last = text.find(_SYSTEM) > text.find(_ANSWERS[-1]) >= 0
    ordered = [*turns[:-1], system, turns[-1]] if is_last else messages
    around = _split(text, ordered)
    place = ordered.index(system)
    rest = [*around[:place], *around[place + 2 :]]
    before = around[place].removeprefix(parts[place]) if is_last else around[place]
    expected = [*parts[:place], *parts[place + 1 :]]
    if len(answers) != 1 or len(questions) != 1 or rest != expected:
        raise _irregular("writes other texts between the messages later in a conversation")
    found = TurnTemplate(
        head=parts[0],
        before_answer=answers.pop(),
        before_question=questions.pop(),
        end=parts[-1],
        system=(before, around[place + 1]),
        system_is_last=is_last,
    )
    for conversation in _further():
        if _rendered(render, conversation) != found.render(conversation):
            raise _irregular(f"changes or adds texts in {json.dumps(conversation[-1])[:80]}")
    return found


def with_folding(render: Render) -> Render:
    """Return `render` with the system text in the first question where the template refuses it.

    Training and chat do the same.
    """

    def folded(messages: Sequence[Message]) -> str:
        try:
            return render(messages)
        except (jinja2.TemplateError, TypeError):
            changed = fold_system(list(messages))
            if changed == list(messages):
                raise
            return render(changed)

    return folded


def _conversation(
    questions: Sequence[str], answers: Sequence[str], system: str | None = None
) -> list[Message]:
    """Return a conversation that ends with a question."""
    messages = [{"role": "system", "content": system}] if system is not None else []
    for place, question in enumerate(questions):
        messages.append({"role": "user", "content": question})
        if place < len(answers):
            messages.append({"role": "assistant", "content": answers[place]})
    return messages


def _further() -> list[list[Message]]:
    """Return conversations of one to seven questions, with and without a system message."""
    conversations = []
    for count in range(1, len(_TEXTS) + 1):
        questions, answers = _TEXTS[:count], _TEXTS[1:count][::-1]
        for system in (None, _TEXTS[count - 1]):
            conversations.append(_conversation(questions, answers, system))
    conversations += [_conversation([text], [], None) for text in _TEXTS]
    return conversations


def _rendered(render: Render, messages: Sequence[Message]) -> str:
    try:
        return render(messages)
    except (jinja2.TemplateError, TypeError) as error:
        raise _irregular(f"refuses a conversation: {str(error)[:200]}") from error


def _split(text: str, messages: Sequence[Message]) -> list[str]:
    """Return the texts before, between and after the messages."""
    parts = []
    for message in messages:
        before, found, text = text.partition(message["content"])
        if not found:
            raise _irregular(f"leaves out a message of the role {message['role']}")
        parts.append(before)
    if any(message["content"] in part for message in messages for part in [*parts, text]):
        raise _irregular("writes a message twice")
    return [*parts, text]


def _go(text: str) -> str:
    """Return a text as an action of Go's template language; nothing for no text."""
    return f'{{{{ "{_ESCAPED.sub(_escaped, text)}" }}}}' if text else ""


def _escaped(mark: re.Match[str]) -> str:
    """Return a character as Go writes it; a Modelfile drops those that cannot be printed."""
    code = ord(mark[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _irregular(what: str) -> RunError:
    text = f"The chat template {what}, which Ollama's template language cannot express."
    return RunError(Problem("ollama", text, _REMEDY))
