"""How one tokenizer writes conversations: its template, and the token that ends an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from modelforge.data import chat_templates
from modelforge.errors import DataError, Problem

# How far behind an answer its end token may stand; Llama 2 writes a space between them.
END_WITHIN = 16
# What templates of others raise on turns they have no place for.
TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError)

Message = dict[str, Any]
Offsets = list[tuple[int, int]]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# For a tokenizer without ChatML's markers: the same turns in words, ended by its own end token.
PLAIN = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class ChatTemplate:
    """How one tokenizer writes conversations: learned once from a probe, used for every row.

    `end_text` closes an answer in the template ("" when nothing does); `end_id` is the token that
    a trained answer ends in; `stops` are all tokens that generation stops on. `system_prompt`
    takes the place of what the rows say. `lead` stands before every text of a model that turns
    one into another and wants it so.
    """

    tokenizer: Any
    end_text: str
    end_id: int
    stop_ids: frozenset[int]
    notes: tuple[tuple[str, str], ...] = field(default=())
    system_prompt: str | None = None
    prefix: str = ""

    @property
    def supports_tools(self) -> bool:
        """Whether the template has a place for the tools on offer."""
        return "tools" in str(self.tokenizer.chat_template)

    @property
    def supports_tool_calls(self) -> bool:
        """Whether the template has a place for the calls of tools."""
        return "tool_calls" in str(self.tokenizer.chat_template)

    def render(self, messages: list[Message], tools: Any = None, *, prompt: bool = False) -> str:
        """Return the turns as text; `prompt` ends it where an answer is to begin."""
        return _render(self.tokenizer, messages, tools, prompt=prompt)


def load_chat_template(
    tokenizer: Any,
    stops: Sequence[int],
    *,
    template: str | None = None,
    system_prompt: str | None = None,
) -> ChatTemplate:
    """Return how `tokenizer` writes conversations, with `template` or else its own.

    Where it has none it is given one. `stops` are the tokens of the model's generation config;
    the end token joins them. Raises DataError for a template that cannot be used.
    """
    notes = []
    if template is not None:
        tokenizer.chat_template = template
    elif not tokenizer.chat_template:
        notes.append(_give_template(tokenizer))
    try:
        end_id = _end_of_turn(tokenizer)
    except TEMPLATE_ERRORS as error:
        raise chat_templates.refused(error) from error
    end_text = "" if end_id is None else tokenizer.convert_ids_to_tokens(end_id)
    if end_id is None:
        end_id = tokenizer.eos_token_id
    if end_id is None:
        end_id = min(stops, default=None)
    if end_id is None:
        raise DataError(_endless())
    name = tokenizer.convert_ids_to_tokens(end_id)
    if template is not None and not end_text:
        text = f"The chat template ends no answer in a token of this model; {name} is put there."
        notes.append(("end-token-put", text))
    if end_id not in stops:
        notes.append(
            ("end-token-added", f"Answers will also stop on {name}, which ends them here.")
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = name
    spoken = system_prompt if system_prompt and system_prompt.strip() else None
    return ChatTemplate(
        tokenizer, end_text, end_id, frozenset({*stops, end_id}), tuple(notes), spoken
    )


def seq2seq_template(tokenizer: Any, stops: Sequence[int], lead: str = "") -> ChatTemplate:
    """Return what is known of a tokenizer whose model takes part in no conversation."""
    known = (tokenizer.eos_token_id, tokenizer.sep_token_id, *stops, tokenizer.pad_token_id)
    end_id = next((token for token in known if token is not None), None)
    if end_id is None:
        raise DataError(_endless())
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end_id)
    return ChatTemplate(tokenizer, "", end_id, frozenset({*stops, end_id}), prefix=lead)


def stop_ids_of(generation: Any) -> list[int]:
    """Return the tokens that a generation config stops on."""
    stops = generation.eos_token_id
    return [] if stops is None else [stops] if isinstance(stops, int) else list(stops)


def tokenize_with_offsets(
    tokenizer: Any, texts: list[str], *, special: bool
) -> list[tuple[list[int], Offsets]]:
    """Return the tokens of each text and where each token stands in it."""
    found = tokenizer(
        texts,
        add_special_tokens=special,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    return list(zip(found["input_ids"], found["offset_mapping"], strict=True))


def _render(tokenizer: Any, messages: list[Message], tools: Any, *, prompt: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            messages, tools=tools or None, tokenize=False, add_generation_prompt=prompt
        )
    )


def _give_template(tokenizer: Any) -> tuple[str, str]:
    known = tokenizer.get_vocab()
    if "<|im_start|>" in known and "<|im_end|>" in known:
        tokenizer.chat_template = CHATML
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        return "chat-template-chatml", "The model has no chat template; ChatML is used and saved."
    tokenizer.chat_template = PLAIN
    return (
        "chat-template-plain",
        "The model has neither a chat template nor ChatML's tokens: turns are marked in words.",
    )


def _end_of_turn(tokenizer: Any) -> int | None:
    """Return the special token that the template puts behind an answer, or None."""
    answer = "Zebra"
    asked = [{"role": "user", "content": "?"}]
    prompt = _render(tokenizer, asked, None, prompt=True)
    text = _render(
        tokenizer, [*asked, {"role": "assistant", "content": answer}], None, prompt=False
    )
    found = text.rfind(answer)
    # A template that rewrites the answer is searched from where the answer begins.
    after = found + len(answer) if found >= 0 else len(prompt)
    within = END_WITHIN if found >= 0 else len(text)
    special = {*tokenizer.all_special_ids}
    special.update(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    ids, places = tokenize_with_offsets(tokenizer, [text], special=False)[0]
    for token, (begin, _) in zip(ids, places, strict=True):
        if after <= begin <= after + within and token in special:
            return int(token)
    return None


def _endless() -> Problem:
    return Problem(
        "tokenizer",
        "It names no token that ends an answer, so the model could not learn to stop.",
        "Choose a model whose tokenizer has an end token (eos_token).",
    )
