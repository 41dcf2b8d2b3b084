"""Evaluation rows of the training, as prompts of the self-test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import jinja2

from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import Canonical
from modelforge.data.sources.load import source_entries
from modelforge.errors import ForgeError
from modelforge.export.answers import OWN_PROMPTS, Message
from modelforge.export.job import Job
from modelforge.modeling.tokenize.dataset import DatasetRequest, changed_files, iter_split_rows
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.prompts import prompt_and_answer
from modelforge.modeling.tokenize.render import with_system_prompt
from modelforge.modeling.tokenize.template_limits import apply_template

# Finding the evaluation rows reads all rows.
MAX_ROWS = 200_000
MAX_CHARS = 4000
ROLES = ("system", "user", "assistant")


def held_out(job: Job, tokenizer: Any, most: int = 2 * OWN_PROMPTS) -> list[list[Message]]:
    """Return conversations of evaluation rows that the chat template renders, answers last.

    There are none if the data of the run is gone, was changed, or is very large.
    """
    if not tokenizer.chat_template:
        return []
    system = TrainingConfig.from_record(job.run_record["config"]).model.system_prompt
    found: list[list[Message]] = []
    for row in _rows(job):
        conversation = with_system_prompt(_conversation(row), system)
        try:
            apply_template(tokenizer, conversation[:-1], add_generation_prompt=True)
            apply_template(tokenizer, conversation)
        except (jinja2.TemplateError, IndexError):
            continue
        found.append(conversation)
        if len(found) == most:
            break
    return found


def _rows(job: Job) -> list[Canonical]:
    record, config = job.run_record["dataset"], job.run_record["config"]
    try:
        if sum(entry["rows"] for entry in source_entries(record)) > MAX_ROWS:
            return []
        if changed_files(record):
            return []
        settings = TrainingConfig.from_record(config)
        options = TokenizeOptions.from_plan(settings, job.plan)
        request = DatasetRequest(record, settings.eval_split, settings.trainer.seed, options)
        rows = (row for row in _evaluation_rows(request) if _conversation(row))
        return options.prepare(list(islice(rows, 4 * OWN_PROMPTS)))
    except (ForgeError, OSError, KeyError, TypeError, ValueError):
        return []  # the self-test has general prompts as well


def _evaluation_rows(request: DatasetRequest) -> Iterator[Canonical]:
    for row, is_eval in iter_split_rows(request, lambda _done, _total: None):
        if is_eval:
            yield row


def _conversation(row: Canonical) -> list[Message]:
    """Return the messages up to the last answer; none for a row with tools or other parts."""
    parts = prompt_and_answer(row)
    if parts is None or row.get("tools") or not parts[1].strip():
        return []
    messages = [
        {"role": message["role"], "content": message["content"]}
        for message in parts[0]
        if message.get("role") in ROLES and isinstance(message.get("content"), str)
    ]
    is_plain = len(messages) == len(parts[0]) and messages and messages[-1]["role"] == "user"
    size = sum(len(message["content"]) for message in messages)
    if not is_plain or size + len(parts[1]) > MAX_CHARS:
        return []
    return [*messages, {"role": "assistant", "content": parts[1]}]
