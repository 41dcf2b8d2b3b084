"""The prompts of the samples over time: the user's own, or evaluation rows and a general one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from modelforge.config.schema.training import Evaluation, own_prompts
from modelforge.data.canonical.convert import Canonical, document_and_summary
from modelforge.data.canonical.qa import to_chat_example
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.prompts import prompt_and_answer
from modelforge.modeling.tokenize.render import render_prompt
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate

Source = Literal["yours", "evaluation", "general"]
# Asked beside evaluation rows, to show what happens to answers that the data is not about.
GENERAL_PROMPT = "Write a haiku about rain."
# Expected answer of a prompt without one; an encoder-decoder only accepts rows with a target.
_NO_ANSWER = "-"


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as text for people and as token ids, with the expected answer or ""."""

    text: str
    input_ids: list[int]
    expected: str


@dataclass(frozen=True)
class SamplePrompt:
    """A prompt that is answered over time, and where it is from."""

    prompt: EncodedPrompt
    source: Source


# Returns the prompt of a canonical row, or None for an unusable or too long one.
Encode = Callable[[Canonical], EncodedPrompt | None]


def choose_prompts(
    evaluation: Evaluation, rows: Iterable[Canonical], encode: Encode, *, chats: bool
) -> tuple[list[SamplePrompt], int]:
    """Return the prompts to answer, and how many of the user's own cannot be.

    `chats`: whether the model answers questions, so that it can be asked a general one.
    """
    if not evaluation.samples:
        return [], 0
    own = own_prompts(evaluation)
    if own:
        prompts = [_prompt(text, encode, "yours") for text in own]
        usable = [prompt for prompt in prompts if prompt is not None]
        return usable, len(own) - len(usable)
    wanted = evaluation.samples - (chats and evaluation.samples > 1)
    chosen: list[SamplePrompt] = []
    for row in rows:
        encoded = encode(row) if len(chosen) < wanted else None
        if encoded is not None:
            chosen.append(SamplePrompt(encoded, "evaluation"))
    general = _prompt(GENERAL_PROMPT, encode, "general") if chats else None
    if general is not None and len(chosen) < evaluation.samples:
        chosen.append(general)
    return chosen, 0


def chat_encoder(template: ChatTemplate, options: TokenizeOptions) -> Encode:
    """Return the encoder of a decoder's prompts: the conversation up to its last answer."""

    def encode(row: Canonical) -> EncodedPrompt | None:
        example = to_chat_example(row) if "context" in row else row
        parts = prompt_and_answer(example)
        if parts is None or not parts[0]:
            return None
        messages, answer = parts
        text = render_prompt(messages, template, example.get("tools"))
        ids = template.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if not ids or len(ids) >= options.max_length:
            return None
        return EncodedPrompt(str(messages[-1].get("content") or text), ids, answer)

    return encode


def document_encoder(template: ChatTemplate, options: TokenizeOptions) -> Encode:
    """Return the encoder of an encoder-decoder's prompts: documents, truncated as in training."""

    def encode(row: Canonical) -> EncodedPrompt | None:
        texts, example = document_and_summary(row), encode_seq2seq(row, template, options)
        if texts is None or example is None:
            return None
        return EncodedPrompt(texts[0], example.source_ids, texts[1])

    return encode


def rows_of_prompts(prompts: Iterable[dict[str, Any]]) -> list[Canonical]:
    """Return the rows of a `PromptDataset`, which RLHF answers, in canonical form."""
    return [
        {
            "messages": [
                *json.loads(prompt["turns"]),
                {"role": "assistant", "content": prompt["answer"]},
            ]
        }
        for prompt in prompts
    ]


def _prompt(text: str, encode: Encode, source: Source) -> SamplePrompt | None:
    row = {
        "messages": [
            {"role": "user", "content": text},
            {"role": "assistant", "content": _NO_ANSWER},
        ]
    }
    encoded = encode(row)
    if encoded is None:
        return None
    return SamplePrompt(EncodedPrompt(text, encoded.input_ids, ""), source)
