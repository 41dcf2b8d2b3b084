"""Rows to prompts: what the model is asked while it learns from rewards, and what was expected."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from modelforge.data.canonical.convert import Canonical
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize.render import render_prompt, with_system_prompt
from modelforge.modeling.tokenize.template import ChatTemplate

Turns = list[dict[str, Any]]


@dataclass(frozen=True)
class PromptLimits:
    """How long a prompt may be, so that an answer still fits behind it. Tokens."""

    max_length: int
    max_completion_length: int

    @property
    def max_prompt_length(self) -> int:
        """The tokens that are left for the prompt; raises WorkError when there are none."""
        if self.max_completion_length >= self.max_length:
            raise WorkerError("no-room-for-answers", _no_room(self))
        return self.max_length - self.max_completion_length


@dataclass
class PromptDataset:
    """The questions to learn on and those held out, with what was left out on the way."""

    train: Dataset
    eval: Dataset | None
    tokens: int = 0
    too_long: int = 0
    unusable: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)


def build_prompts(
    rows: Iterable[tuple[Canonical, bool]],
    dialect: ChatTemplate,
    room: PromptLimits,
    *,
    wants_answer: bool,
    max_eval_prompts: int,
) -> PromptDataset:
    """Return the prompts of rows, each told with whether it is held out.

    Too long ones are left out whole: half a question has no answer. With `wants_answer` a row
    without an expected answer is left out too. Raises WorkError when none is left.
    """
    found: tuple[list[dict[str, str]], list[dict[str, str]]] = ([], [])
    counts = PromptDataset(Dataset.from_list([]), None)
    limit = room.max_prompt_length
    for row, held_out in rows:
        one = _prompt(row, dialect, wants_answer=wants_answer)
        if one is None:
            counts.unusable += 1
            continue
        length = len(dialect.tokenizer(one["prompt"], add_special_tokens=False)["input_ids"])
        if length > limit:
            counts.too_long += 1
            continue
        found[held_out].append(one)
        counts.tokens += 0 if held_out else length
    if not found[0]:
        raise WorkerError("nothing-to-learn", _nothing(counts, room))
    counts.train = Dataset.from_list(found[0])
    if kept := found[1][:max_eval_prompts]:
        counts.eval = Dataset.from_list(kept)
    counts.notes = _notes(counts, room, len(found[1]), max_eval_prompts)
    return counts


def prompt_and_answer(row: Canonical) -> tuple[Turns, str] | None:
    """Return the turns that ask and the answer that is expected ("" if unknown), or None."""
    if "chosen" in row:
        return row["prompt"], _said(row["chosen"])
    if "completion" in row:
        return row["prompt"], _said(row["completion"]) if row["label"] else ""
    turns = row.get("messages", [])
    last = max((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    return (turns[:last], str(turns[last]["content"])) if last else None


def _prompt(row: Canonical, dialect: ChatTemplate, *, wants_answer: bool) -> dict[str, str] | None:
    asked = prompt_and_answer(row)
    if asked is None or not asked[0] or (wants_answer and not asked[1].strip()):
        return None
    turns, answer = asked
    text = render_prompt(turns, dialect, row.get("tools"))
    if not text:
        return None
    return {
        "prompt": text,
        "turns": json.dumps(with_system_prompt(turns, dialect.system_prompt), ensure_ascii=False),
        "asked": str(turns[-1].get("content") or text),
        "answer": answer,
    }


def _said(turns: Turns) -> str:
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    return str(answers[-1]["content"]) if answers else ""


def _notes(
    counts: PromptDataset, room: PromptLimits, held_out: int, most: int
) -> list[tuple[str, str]]:
    notes = []
    if counts.too_long:
        what = "1 question is" if counts.too_long == 1 else f"{counts.too_long:,} questions are"
        text = (
            f"{what} left out: longer than {room.max_prompt_length:,} tokens, "
            "so no answer would fit."
        )
        notes.append(("prompts-too-long", text))
    if counts.unusable:
        what = "1 row is" if counts.unusable == 1 else f"{counts.unusable:,} rows are"
        text = f"{what} left out: there is no question, or not what it is rewarded by."
        notes.append(("rows-dropped", text))
    if held_out > most:
        text = f"Checks answer {most:,} of the {held_out:,} held-out questions."
        notes.append(("held-out-sampled", text if most else "No held-out question is answered."))
    return notes


def _no_room(room: PromptLimits) -> Problem:
    return Problem(
        "trainer.max_completion_length",
        f"Answers of {room.max_completion_length:,} tokens leave no room for a question: "
        f"a row has at most {room.max_length:,}.",
        "Shorten the longest answer, or raise the longest row (max_seq_length).",
    )


def _nothing(counts: PromptDataset, room: PromptLimits) -> Problem:
    return Problem(
        "dataset",
        f"No question is left to learn on: {counts.too_long:,} are longer than "
        f"{room.max_prompt_length:,} tokens, {counts.unusable:,} rows have no question or no "
        "answer to compare with.",
        "Raise the longest row (max_seq_length), or give rows with a question.",
    )
