"""The chat template of a tokenizer, and the tokens that end an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from modelforge.config.schema.config import TrainingConfig
from modelforge.data import chat_templates
from modelforge.errors import DataError, Problem
from modelforge.modeling.tokenize.template_limits import apply_template

# Maximum characters between an answer and its end token; Llama 2 renders a space there.
END_WITHIN = 16
# Raised by templates for messages that they do not support.
_THINKING = re.compile(r"\.thinking\b|\[['\"]thinking['\"]\]")
TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError)

Message = dict[str, Any]
Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer with its chat template, and what one probe of the template shows.

    Attributes:
        tokenizer: The tokenizer; its `chat_template` renders conversations.
        end_text: The token that the template writes after an answer, "" if it writes none.
        end_id: The token id that ends every trained answer.
        stop_ids: All token ids that end generation.
        notes: Pairs of code and message for the user.
        system_prompt: Replaces the system messages of the dataset.
        prefix: Text before every input of an encoder-decoder.
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
        """Whether the template renders the available tools."""
        return "tools" in str(self.tokenizer.chat_template)

    @property
    def supports_tool_calls(self) -> bool:
        """Whether the template renders tool calls."""
        return "tool_calls" in str(self.tokenizer.chat_template)

    @property
    def reasoning_key(self) -> str | None:
        """The key under which the template reads the reasoning of a message; None if it does not.

        GPT-OSS reads `thinking`; `enable_thinking` is something else.
        """
        template = str(self.tokenizer.chat_template)
        if "reasoning_content" in template:
            return "reasoning_content"
        return "thinking" if _THINKING.search(template) else None

    def render(self, messages: list[Message], tools: Any = None, *, prompt: bool = False) -> str:
        """Return the conversation as text; `prompt` adds the generation prompt."""
        if any("reasoning_content" in message for message in messages):
            messages = [self._with_reasoning(message) for message in messages]
        return _render(self.tokenizer, messages, tools, prompt=prompt)

    def _with_reasoning(self, message: Message) -> Message:
        if self.reasoning_key != "thinking" or "reasoning_content" not in message:
            return message
        return {**message, "thinking": message["reasoning_content"]}


def template_of_run(
    tokenizer: Any, stop_ids: Sequence[int], config: TrainingConfig, *, may_be_gone: bool = False
) -> ChatTemplate:
    """Set up the chat template that the settings of a run ask for, as `load_chat_template` does.

    With `may_be_gone`, a template file that cannot be read is replaced by the template of the
    tokenizer, which is that of the run.

    Raises:
        DataError: As `load_chat_template`, or the template file cannot be read.
    """
    model = config.model
    if config.data.use_chat_template:
        try:
            template = chat_templates.template_text(model.chat_template)
        except DataError:
            if not may_be_gone:
                raise
            template = None
    else:
        template = chat_templates.without_roles(begins_with_bos=_begins_with_bos(tokenizer))
    return load_chat_template(
        tokenizer,
        stop_ids,
        template=template,
        system_prompt=model.system_prompt,
        response_prefix=model.response_prefix or "",
    )


def load_chat_template(
    tokenizer: Any,
    stop_ids: Sequence[int],
    *,
    template: str | None = None,
    system_prompt: str | None = None,
    response_prefix: str = "",
) -> ChatTemplate:
    """Set up the chat template of `tokenizer`: `template`, or its own, or a default.

    `stop_ids` are those of the model's generation config; the end token is added to them. A
    missing pad token is set to the end token. `response_prefix` begins every answer.

    Raises:
        DataError: The template cannot be rendered, or the tokenizer has no end token.
    """
    notes = _set_template(tokenizer, template, response_prefix)
    try:
        end_id = end_of_turn(tokenizer)
    except TEMPLATE_ERRORS as error:
        raise chat_templates.unusable_template(error) from error
    end_text = "" if end_id is None else tokenizer.convert_ids_to_tokens(end_id)
    if end_id is None:
        end_id = _required_id(tokenizer.eos_token_id, min(stop_ids, default=None))
    name = tokenizer.convert_ids_to_tokens(end_id)
    if template is not None and not end_text:
        text = f"The chat template writes no end token after an answer; {name} is added."
        notes.append(("end-token-put", text))
    if end_id not in stop_ids:
        text = f"Generation also stops at {name}, which ends an answer in the chat template."
        notes.append(("end-token-added", text))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = name
    system = system_prompt if system_prompt and system_prompt.strip() else None
    stops = frozenset({*stop_ids, end_id})
    return ChatTemplate(tokenizer, end_text, end_id, stops, tuple(notes), system)


def _set_template(tokenizer: Any, template: str | None, prefix: str) -> list[tuple[str, str]]:
    """Give a tokenizer its chat template, with a response prefix; return notes about it."""
    notes = []
    if template is not None:
        tokenizer.chat_template = template
    elif not tokenizer.chat_template:
        notes.append(set_default_template(tokenizer))
    source = tokenizer.chat_template
    tokenizer.chat_template = chat_templates.with_response_prefix(source, prefix)
    return notes


def seq2seq_template(tokenizer: Any, stop_ids: Sequence[int], prefix: str = "") -> ChatTemplate:
    """Return the end tokens of an encoder-decoder, which has no conversations.

    Raises:
        DataError: The tokenizer has no end token.
    """
    end_id = _required_id(
        tokenizer.eos_token_id, tokenizer.sep_token_id, *stop_ids, tokenizer.pad_token_id
    )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end_id)
    return ChatTemplate(tokenizer, "", end_id, frozenset({*stop_ids, end_id}), prefix=prefix)


def set_default_template(tokenizer: Any) -> tuple[str, str]:
    """Give a tokenizer without a chat template ChatML or the plain one; return a note about it."""
    name, tokenizer.chat_template = chat_templates.default_template(tokenizer.get_vocab())
    if name == "chatml":
        tokens = list(chat_templates.CHATML_TOKENS)
        tokenizer.add_special_tokens({"additional_special_tokens": tokens})
        text = "The model has no chat template; ChatML is used and saved with it."
        return "chat-template-chatml", text
    text = "The model has no chat template and no ChatML tokens; roles are written as plain words."
    return "chat-template-plain", text


def stop_ids_of(generation_config: Any) -> list[int]:
    """Return the EOS token ids of a generation config."""
    ids = generation_config.eos_token_id
    if ids is None:
        return []
    return [ids] if isinstance(ids, int) else list(ids)


def end_of_turn(tokenizer: Any) -> int | None:
    """Return the id of the special token that the template writes after an answer, or None."""
    answer = "Zebra"
    question = [{"role": "user", "content": "?"}]
    prompt = _render(tokenizer, question, None, prompt=True)
    turns = [*question, {"role": "assistant", "content": answer}]
    text = _render(tokenizer, turns, None, prompt=False)
    found = text.rfind(answer)
    # If the template rewrites the answer, search from where the answer begins.
    start = found + len(answer) if found >= 0 else len(prompt)
    last = start + END_WITHIN if found >= 0 else len(text)
    special = {*tokenizer.all_special_ids}
    special.update(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    tokens = {tokenizer.convert_ids_to_tokens(token_id): token_id for token_id in special}
    positions = {token: text.find(token, start) for token in tokens}
    # The first special token; of two at the same place the longer one.
    after = [(at, -len(token), tokens[token]) for token, at in positions.items() if at >= 0]
    first = min(after, default=None)
    return int(first[2]) if first is not None and first[0] <= last else None


def tokenize_with_offsets(
    tokenizer: Any, texts: list[str], *, special: bool
) -> list[tuple[list[int], Offsets]]:
    """Return token ids and character offsets of each text; `special` adds special tokens."""
    if not texts:
        return []  # Transformers 5 raises IndexError for none.
    encoded = tokenizer(
        texts,
        add_special_tokens=special,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def _render(tokenizer: Any, messages: list[Message], tools: Any, *, prompt: bool) -> str:
    return apply_template(tokenizer, messages, tools=tools or None, add_generation_prompt=prompt)


def _begins_with_bos(tokenizer: Any) -> bool:
    """Return whether the tokenizer begins every text with its BOS token."""
    ids = tokenizer("a", verbose=False)["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def _required_id(*candidates: int | None) -> int:
    """Return the first token id that is set."""
    for token_id in candidates:
        if token_id is not None:
            return token_id
    raise DataError(
        Problem(
            "tokenizer",
            "The tokenizer has no end token, so the model could not learn where an answer ends.",
            "Choose a model whose tokenizer has an end token (eos_token).",
        )
    )
