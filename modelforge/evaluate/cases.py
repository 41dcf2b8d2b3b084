"""Evaluation rows as token ids: prompts to answer, answers with a loss, and examples in front."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelforge.data.canonical.convert import Canonical, document_and_summary
from modelforge.data.canonical.qa import to_chat_example
from modelforge.errors import ForgeError
from modelforge.modeling.inference import Labelled
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, LossOn, TokenizedExample, encode
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import (
    PreferencePair,
    encode_pair,
    encode_unpaired,
    fits,
    without_split,
)
from modelforge.modeling.tokenize.prompts import prompt_and_answer
from modelforge.modeling.tokenize.render import render_prompt
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate

Messages = list[dict[str, Any]]
Shots = Sequence[Canonical]
# Between texts without conversations.
_SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Case:
    """One evaluation row.

    Attributes:
        number: The number of the row in the data of the run, from 1.
        row: The row in canonical form.
        question: What is asked, for people.
        expected: The expected answer, for people.
        parts: The right answer behind its prompt, in the parts that training cuts a long row into.
            Of a pair, the chosen completion.
        rejected: The rejected completion of a pair, or a completion marked as bad.
        prompt: Token ids to generate an answer from; empty where nothing is answered.
        answer: Token ids of the last answer with its end token; empty for plain text, and where a
            long row was cut.
        references: Right answers; none means that there is no answer.
        calls: Expected tool calls as in the data; None in rows without tools.
    """

    number: int
    row: Canonical
    question: str
    expected: str
    parts: tuple[Labelled, ...] = ()
    rejected: tuple[Labelled, ...] = ()
    prompt: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    references: tuple[str, ...] = ()
    calls: tuple[Any, ...] | None = None


class CaseBuilder:
    """Makes cases of the rows of a run with its chat template and its options."""

    def __init__(self, template: ChatTemplate, options: TokenizeOptions) -> None:
        self.template, self._options = template, options
        self._is_preference = options.method in ("dpo", "orpo", "kto")

    def is_usable(self, row: Canonical) -> bool:
        """Return whether the training uses a row: it has trained tokens and is not left out."""
        return self.case(0, row) is not None

    def case(self, number: int, row: Canonical) -> Case | None:
        """Return the case of a row; None if the training leaves the row out."""
        try:
            return self._case(number, row, ())
        except ForgeError:
            return None  # another kind of row, which the training refuses

    def with_examples(self, case: Case, shots: Shots) -> Case | None:
        """Return a case with training rows in front of it; None where none can be in front."""
        if self._options.head != "causal":
            return None
        return self._case(case.number, case.row, shots)

    def _case(self, number: int, row: Canonical, shots: Shots) -> Case | None:
        if self._options.head == "seq2seq":
            return self._document(number, row)
        if self._options.method == "rlhf":
            return self._asked(number, row, shots)
        if self._is_preference:
            return self._preference(number, row, shots)
        if "text" in row:
            return self._text(number, row, shots)
        return self._conversation(number, row, shots)

    def _conversation(self, number: int, row: Canonical, shots: Shots) -> Case | None:
        (chat,) = self._options.prepare([row])
        messages = chat.get("messages", [])
        loss_on: LossOn = "last_round" if self._options.loss_on == "last_round" else "completion"
        (plain,) = encode([chat], self.template, loss_on)
        parts = self._options.truncate(plain, is_eval=True)
        if not parts:
            return None
        example = plain
        if shots:
            before = _answers(self._front([], shots))
            longer = {**chat, "messages": self._front(messages, shots)}
            (example,) = encode([longer], self.template, loss_on, skip_answers=before)
            parts = _cut_alike(example, parts)
        turns = _up_to_answer(messages)
        references, calls = _references(row, turns), _calls(row, turns)
        expected = json.dumps(calls, ensure_ascii=False) if calls else _content(turns)
        return Case(
            number,
            row,
            _question(turns),
            references[0] if references and not calls else expected,
            _labelled(parts),
            prompt=self._prompt_ids(turns, shots, row.get("tools")) if turns else [],
            answer=_whole_answer(parts, example),
            references=references,
            calls=calls,
        )

    def _text(self, number: int, row: Canonical, shots: Shots) -> Case | None:
        (example,) = encode([row], self.template)
        parts = self._options.truncate(example, is_eval=True)
        if not parts:
            return None
        if shots:
            text = _SEPARATOR.join([*(shot["text"] for shot in shots), ""])
            front = self.template.tokenizer(text, verbose=False)["input_ids"]
            ignored = [IGNORE_INDEX] * len(front)
            parts = [
                replace(part, input_ids=[*front, *part.input_ids], labels=[*ignored, *part.labels])
                for part in parts
            ]
        return Case(number, row, str(row["text"]), "", _labelled(parts))

    def _document(self, number: int, row: Canonical) -> Case | None:
        example = encode_seq2seq(row, self.template, self._options)
        texts = document_and_summary(row)
        if example is None or texts is None:
            return None
        return Case(
            number,
            row,
            texts[0],
            texts[1],
            (Labelled(example.source_ids, example.target_ids),),
            prompt=example.source_ids,
            answer=example.target_ids,
            references=(texts[1],),
        )

    def _preference(self, number: int, row: Canonical, shots: Shots) -> Case | None:
        options = without_split(self._options)
        longer = {**row, "prompt": self._front(row.get("prompt", []), shots)}
        if "completion" in row:
            return self._marked(number, row, longer, options)
        pair, kept = encode_pair(longer, self.template), encode_pair(row, self.template)
        if pair is None or kept is None or not fits(kept, options):
            return None
        chosen, rejected = (_truncated(side, options, pair, kept) for side in pair.sides)
        if not chosen or not rejected:
            return None
        messages = [*row["prompt"], *row["chosen"]]
        return Case(
            number,
            row,
            _question(messages),
            _content(messages),
            _labelled(chosen),
            _labelled(rejected),
            answer=_whole_answer(chosen, pair.sides[0]),
        )

    def _marked(
        self, number: int, row: Canonical, longer: Canonical, options: TokenizeOptions
    ) -> Case | None:
        example = encode_unpaired(longer, self.template)
        plain = encode_unpaired(row, self.template)
        kept = options.truncate(plain) if plain else []
        if example is None or not kept:
            return None
        parts = _cut_alike(example, kept)
        messages = [*row["prompt"], *row["completion"]]
        case = Case(number, row, _question(messages), _content(messages))
        if row["label"]:
            answer = _whole_answer(parts, example)
            return replace(case, parts=_labelled(parts), answer=answer)
        return replace(case, rejected=_labelled(parts))

    def _asked(self, number: int, row: Canonical, shots: Shots) -> Case | None:
        asked = prompt_and_answer(row)
        if asked is None or not asked[0]:
            return None
        messages, answer = asked
        prompt = self._prompt_ids([*messages, {}], shots, row.get("tools"))
        if not prompt or (not shots and len(prompt) > self._options.max_length):
            return None
        question = str(messages[-1].get("content") or "")
        references = (answer,) if answer else ()
        return Case(number, row, question, answer, prompt=prompt, references=references)

    def _prompt_ids(self, messages: Messages, shots: Shots, tools: Any) -> list[int]:
        """Return the ids of everything before the last message, ready for an answer."""
        text = render_prompt(self._front(messages[:-1], shots), self.template, tools)
        ids: list[int] = self.template.tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def _front(self, messages: Messages, shots: Shots) -> Messages:
        """Return a conversation with those of the examples between system message and question."""
        system = [message for message in messages[:1] if message["role"] == "system"]
        shown = [message for shot in shots for message in messages_of(shot)]
        return [*system, *shown, *messages[len(system) :]]


def messages_of(row: Canonical) -> Messages:
    """Return an example as messages, without a system message; none for plain text."""
    if "chosen" in row:
        messages = [*row["prompt"], *row["chosen"]]
    elif "completion" in row:
        messages = [*row["prompt"], *row["completion"]] if row["label"] else []
    elif "context" in row:
        messages = to_chat_example(row)["messages"]
    else:
        messages = row.get("messages", [])
    return [message for message in messages if message["role"] != "system"]


def exchanged(case: Case, other: Case) -> Labelled:
    """Return the prompt of a case with the answer of another one; both have an answer."""
    first = case.parts[0]
    if len(first.ids) != len(first.labels) or first.labels == case.answer:  # an encoder-decoder
        return Labelled(first.ids, other.answer)
    prompt = first.ids[: _end(first.labels) - len(case.answer)]
    return Labelled([*prompt, *other.answer], [IGNORE_INDEX] * len(prompt) + other.answer)


def _references(row: Canonical, messages: Messages) -> tuple[str, ...]:
    if "context" in row:
        return tuple(answer["text"] for answer in row["answers"])
    return (_content(messages),)


def _content(messages: Messages) -> str:
    return str(messages[-1].get("content") or "") if messages else ""


def _question(messages: Messages) -> str:
    asked = [message for message in messages[:-1] if message["role"] != "assistant"]
    return str(asked[-1].get("content") or "") if asked else ""


def _answers(messages: Messages) -> int:
    return sum(message["role"] == "assistant" for message in messages)


def _up_to_answer(messages: Messages) -> Messages:
    """Return the messages up to the last answer; none if there is no answer to anything."""
    last = max((at for at, m in enumerate(messages) if m["role"] == "assistant"), default=0)
    return messages[: last + 1] if last else []


def _calls(row: Canonical, turns: Messages) -> tuple[Any, ...] | None:
    if not row.get("tools") or not turns:
        return None
    return tuple(turns[-1].get("tool_calls") or ())


def _whole_answer(parts: Sequence[TokenizedExample], example: TokenizedExample) -> list[int]:
    """Return the ids of the last answer with its end token; none where a row was cut."""
    if len(parts) != 1 or parts[0].input_ids != example.input_ids:
        return []
    labels = example.labels
    start = end = _end(labels)
    while start and labels[start - 1] != IGNORE_INDEX:
        start -= 1
    return example.input_ids[start:end]


def _end(labels: Sequence[int]) -> int:
    return 1 + max(at for at, label in enumerate(labels) if label != IGNORE_INDEX)


def _labelled(parts: Iterable[TokenizedExample]) -> tuple[Labelled, ...]:
    return tuple(Labelled(part.input_ids, part.labels) for part in parts)


def _cut_alike(
    example: TokenizedExample, parts: Sequence[TokenizedExample]
) -> list[TokenizedExample]:
    """Return a longer example with losses on the tokens that the parts of a shorter one have."""
    cut = len(parts[-1].cut_after)
    size = len(example.input_ids) - cut
    ids, labels = example.input_ids[:size], example.labels[:size]
    wanted = sum(part.trained_tokens for part in parts)
    surplus = sum(label != IGNORE_INDEX for label in labels) - wanted
    for at, label in enumerate(labels):
        if surplus <= 0:
            break
        if label != IGNORE_INDEX:
            labels[at], surplus = IGNORE_INDEX, surplus - 1
    return [TokenizedExample(ids, list(labels))]


def _truncated(
    side: TokenizedExample, options: TokenizeOptions, pair: PreferencePair, kept: PreferencePair
) -> list[TokenizedExample]:
    """Return a side of a pair, truncated as without the examples in front of its prompt."""
    longer = replace(options, max_length=options.max_length + len(pair.prompt) - len(kept.prompt))
    return longer.truncate(side)
