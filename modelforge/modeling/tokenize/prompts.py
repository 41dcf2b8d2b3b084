"""Build prompts for online training with rewards, with the expected answers."""

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

Messages = list[dict[str, Any]]


def max_prompt_length(max_length: int, max_completion_length: int) -> int:
    """Return the tokens left for a prompt; raises WorkerError when there are none."""
    if max_completion_length < max_length:
        return max_length - max_completion_length
    what = (
        f"Completions of {max_completion_length:,} tokens leave no tokens for a prompt: "
        f"the max sequence length is {max_length:,}."
    )
    remedy = "Lower the max completion length, or raise the max sequence length (max_seq_length)."
    problem = Problem("trainer.max_completion_length", what, remedy)
    raise WorkerError("no-room-for-answers", problem)


@dataclass
class PromptDataset:
    """Prompts for training and evaluation; counts are of rows, `tokens` of training prompts.

    Columns, all strings: `prompt` (rendered), `turns` (messages as JSON), `asked` (last message),
    `answer` (expected answer or "").
    """

    train: Dataset
    eval: Dataset | None
    tokens: int = 0
    too_long: int = 0
    unusable: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)


def build_prompts(
    rows: Iterable[tuple[Canonical, bool]],
    template: ChatTemplate,
    limit: int,
    *,
    wants_answer: bool,
    max_eval_prompts: int,
) -> PromptDataset:
    """Return the prompts of rows, each given with whether it is for evaluation.

    Prompts of more than `limit` tokens are left out, never truncated. With `wants_answer`, so are
    rows without an expected answer.

    Raises:
        WorkerError: No training prompt is left.
    """
    splits: tuple[list[dict[str, str]], list[dict[str, str]]] = ([], [])
    result = PromptDataset(Dataset.from_list([]), None)
    for row, is_eval in rows:
        prompt = _prompt(row, template, wants_answer=wants_answer)
        if prompt is None:
            result.unusable += 1
            continue
        ids = template.tokenizer(prompt["prompt"], add_special_tokens=False)["input_ids"]
        if len(ids) > limit:
            result.too_long += 1
            continue
        splits[is_eval].append(prompt)
        result.tokens += 0 if is_eval else len(ids)
    train, evaluation = splits
    if not train:
        raise WorkerError("nothing-to-learn", _no_prompts(result, limit))
    result.train = Dataset.from_list(train)
    kept = evaluation[:max_eval_prompts]
    if kept:
        result.eval = Dataset.from_list(kept)
    result.notes = _notes(result, limit, len(evaluation), max_eval_prompts)
    return result


def prompt_and_answer(row: Canonical) -> tuple[Messages, str] | None:
    """Return the prompt's messages and the expected answer ("" if unknown), or None."""
    if "chosen" in row:
        return row["prompt"], _last_answer(row["chosen"])
    if "completion" in row:
        return row["prompt"], _last_answer(row["completion"]) if row["label"] else ""
    messages = row.get("messages", [])
    answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers or not answers[-1]:
        return None
    return messages[: answers[-1]], str(messages[answers[-1]]["content"])


def _prompt(row: Canonical, template: ChatTemplate, *, wants_answer: bool) -> dict[str, str] | None:
    parts = prompt_and_answer(row)
    if parts is None or not parts[0] or (wants_answer and not parts[1].strip()):
        return None
    messages, answer = parts
    text = render_prompt(messages, template, row.get("tools"))
    if not text:
        return None
    turns = with_system_prompt(messages, template.system_prompt)
    return {
        "prompt": text,
        "turns": json.dumps(turns, ensure_ascii=False),
        "asked": str(messages[-1].get("content") or text),
        "answer": answer,
    }


def _last_answer(messages: Messages) -> str:
    answers = [message for message in messages if message["role"] == "assistant"]
    return str(answers[-1]["content"]) if answers else ""


def _notes(
    prompts: PromptDataset, limit: int, eval_count: int, max_eval: int
) -> list[tuple[str, str]]:
    notes = []
    if prompts.too_long:
        count = prompts.too_long
        what = "1 prompt is" if count == 1 else f"{count:,} prompts are"
        text = f"{what} left out: longer than {limit:,} tokens, which leaves too few for an answer."
        notes.append(("prompts-too-long", text))
    if prompts.unusable:
        count = prompts.unusable
        what = "1 row is" if count == 1 else f"{count:,} rows are"
        text = f"{what} left out: the prompt, or the answer that the reward needs, is missing."
        notes.append(("rows-dropped", text))
    if eval_count > max_eval:
        text = f"Evaluations answer {max_eval:,} of the {eval_count:,} evaluation prompts."
        empty = "No evaluation prompt is answered."
        notes.append(("held-out-sampled", text if max_eval else empty))
    return notes


def _no_prompts(prompts: PromptDataset, limit: int) -> Problem:
    return Problem(
        "dataset",
        f"No prompt is left to train on: {prompts.too_long:,} are longer than "
        f"{limit:,} tokens, {prompts.unusable:,} rows have no prompt or no "
        "expected answer.",
        "Raise the max sequence length (max_seq_length), or give rows with a prompt.",
    )
