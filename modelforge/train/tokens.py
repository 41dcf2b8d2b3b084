"""Rows to tokens: what the model reads, what of it is trained, and the token it learns to stop on.

Only answers are trained: every assistant turn of a conversation, up to and with its end token.
A `text` row is trained whole. Pure functions, used for training and to show people their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import jinja2

from modelforge.errors import DataError, Problem

IGNORED = -100
# How far behind an answer its end token may stand; Llama 2 writes a space between them.
END_WITHIN = 16

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
class Encoded:
    """One row as tokens. `labels` repeats the trained ids and holds -100 elsewhere."""

    ids: list[int]
    labels: list[int]
    cut: bool = False

    @property
    def trained(self) -> int:
        """The number of tokens that are trained."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class Dialect:
    """How one tokenizer writes conversations: learned once from a probe, used for every row.

    `end_text` closes an answer in the template ("" when nothing does); `end_id` is the token that
    a trained answer ends in; `stops` are all tokens that generation stops on.
    """

    tokenizer: Any
    end_text: str
    end_id: int
    stops: frozenset[int]
    notes: tuple[tuple[str, str], ...] = field(default=())


def learn_dialect(tokenizer: Any, stops: Sequence[int]) -> Dialect:
    """Return how `tokenizer` writes conversations, giving it a template where it has none.

    `stops` are the tokens of the model's generation config; the end token joins them.
    """
    notes = []
    if not tokenizer.chat_template:
        notes.append(_give_template(tokenizer))
    end_id = _end_of_turn(tokenizer)
    end_text = "" if end_id is None else tokenizer.convert_ids_to_tokens(end_id)
    if end_id is None:
        end_id = tokenizer.eos_token_id
    if end_id is None:
        end_id = min(stops, default=None)
    if end_id is None:
        raise DataError(
            Problem(
                "tokenizer",
                "It names no token that ends an answer, so the model could not learn to stop.",
                "Choose a model whose tokenizer has an end token (eos_token).",
            )
        )
    if end_id not in stops:
        name = tokenizer.convert_ids_to_tokens(end_id)
        notes.append(
            ("end-token-added", f"Answers will also stop on {name}, which ends them here.")
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end_id)
    return Dialect(tokenizer, end_text, end_id, frozenset({*stops, end_id}), tuple(notes))


def encode(rows: Sequence[dict[str, Any]], dialect: Dialect, max_length: int) -> list[Encoded]:
    """Return the tokens of canonical rows, each {"messages": [...]} or {"text": ...}.

    A conversation that the template cannot write comes back without a trained token.
    """
    texts, spans = [], []
    for row in rows:
        text, trained = _write(row, dialect)
        texts.append(text)
        spans.append(trained)
    plain = [text if span is None else "" for text, span in zip(texts, spans, strict=True)]
    chats = ["" if span is None else text for text, span in zip(texts, spans, strict=True)]
    encoded_chats = _tokenize(dialect.tokenizer, chats, special=False)
    encoded_plain = _tokenize(dialect.tokenizer, plain, special=True) if any(plain) else None
    result = []
    for index, span in enumerate(spans):
        if span is None:
            assert encoded_plain is not None
            ids, labels = _whole(encoded_plain[index][0], dialect)
        else:
            found = encoded_chats[index]
            if _straddles(found[1], span):
                found = _in_pieces(dialect.tokenizer, texts[index], span)
            ids, labels = _answers(*found, span, dialect)
        cut = len(ids) > max_length
        result.append(Encoded(ids[:max_length], labels[:max_length], cut))
    return result


Span = tuple[int, int, bool]
"""Where an answer stands in the text, and whether its end token must be put behind it."""


def _write(row: dict[str, Any], dialect: Dialect) -> tuple[str, list[Span] | None]:
    if "text" in row:
        return row["text"], None
    messages = row["messages"]
    try:
        return _spans(messages, dialect)
    except jinja2.TemplateError:
        folded = _fold_system(messages)
        if folded == messages:
            return "", []
    try:
        return _spans(folded, dialect)
    except jinja2.TemplateError:
        return "", []


def _spans(messages: list[dict[str, str]], dialect: Dialect) -> tuple[str, list[Span]]:
    """Return the whole conversation as text, and where its answers stand.

    Asks the template for the prompt before every answer: what follows it is the answer. Where a
    template writes history otherwise than the present (Qwen3 drops old thoughts, DeepSeek opens
    one), the answer is looked for behind what both have in common.
    """
    whole = _render(dialect.tokenizer, messages)
    spans: list[Span] = []
    place = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        content = message["content"].strip()
        prompt = _render(dialect.tokenizer, messages[:index], prompt=True) if index else ""
        start = len(prompt) if whole.startswith(prompt) else _shared(whole, prompt)
        at = whole.find(content, max(place, start))
        if at < 0:
            continue
        if not index or start < len(prompt):
            start = at
        end = at + len(content)
        closing = whole.find(dialect.end_text, end) if dialect.end_text else -1
        closed = 0 <= closing <= end + END_WITHIN
        place = closing + len(dialect.end_text) if closed else end
        spans.append((start, place, not closed))
    return whole, spans


def _shared(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _straddles(offsets: list[tuple[int, int]], spans: list[Span]) -> bool:
    begins = {begin for begin, _ in offsets}
    # No token begins where an answer does, though the answer has text: one lies across.
    return any(start < end and start not in begins for start, end, _ in spans)


def _in_pieces(
    tokenizer: Any, text: str, spans: list[Span]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the tokens of `text` with none across the start of an answer.

    In chat the prompt is tokenized alone, so a prompt that ends in a space keeps it.
    """
    cuts = [0, *(start for start, _, _ in spans), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(cuts)]
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for at, (found, places) in zip(cuts, _tokenize(tokenizer, pieces, special=False), strict=False):
        ids += found
        offsets += [(begin + at, end + at) for begin, end in places]
    return ids, offsets


def _answers(
    ids: list[int], offsets: list[tuple[int, int]], spans: list[Span], dialect: Dialect
) -> tuple[list[int], list[int]]:
    read: list[int] = []
    labels: list[int] = []
    waiting = list(spans)
    for token, (begin, end) in zip(ids, offsets, strict=True):
        while waiting and begin >= waiting[0][1]:
            _close(waiting.pop(0), read, labels, dialect)
        inside = bool(waiting) and end > begin >= waiting[0][0]
        read.append(token)
        labels.append(token if inside else IGNORED)
    for span in waiting:
        _close(span, read, labels, dialect)
    return read, labels


def _close(span: Span, read: list[int], labels: list[int], dialect: Dialect) -> None:
    if span[2]:
        read.append(dialect.end_id)
        labels.append(dialect.end_id)


def _whole(ids: list[int], dialect: Dialect) -> tuple[list[int], list[int]]:
    eos = dialect.tokenizer.eos_token_id
    end = eos if eos in dialect.stops else dialect.end_id
    if ids and ids[-1] != end:
        ids = [*ids, end]
    return ids, list(ids)


def _tokenize(
    tokenizer: Any, texts: list[str], *, special: bool
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    found = tokenizer(
        texts,
        add_special_tokens=special,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    return list(zip(found["input_ids"], found["offset_mapping"], strict=True))


def _render(tokenizer: Any, messages: list[dict[str, str]], *, prompt: bool = False) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    return str(text)


def _fold_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the conversation with its system text in the first question, for strict templates."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    first = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{"role": "user", "content": first}, *messages[2:]]


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
    text = _render(
        tokenizer, [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    )
    after = text.rfind(answer) + len(answer)
    special = {*tokenizer.all_special_ids}
    special.update(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    for token, (begin, _) in zip(*_tokenize(tokenizer, [text], special=False)[0], strict=True):
        if after <= begin <= after + END_WITHIN and token in special:
            return int(token)
    return None
